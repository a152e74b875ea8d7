package badgerstore

import (
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
)

// bridge hands Badger's log lines to hclog, and turns those that tell of
// failed durable work into a failure of the engine: they are the only sign
// that Badger gives.
//
// The message is constant; the line is a field. Of its arguments only errors,
// numbers, durations and strings are rendered, never byte slices or structs,
// which may hold keys.
type bridge struct {
	logger hclog.Logger
	fail   func(error)
}

func newBridge(logger hclog.Logger, fail func(error)) *bridge {
	return &bridge{logger: logger, fail: fail}
}

// fatalLines are beginnings of format strings in Badger v4.9.6.
var fatalLines = []string{
	"Error while curlf sync",             // value.go: sync of the value log
	"error flushing memtable to disk",    // db.go: a memtable could not become a table
	"While trying to flush memtable",     // db.go
	"writeRequests: ",                    // db.go: a write failed
	"[Compactor: %d] LOG Compact FAILED", // levels.go
	"While running doCompact",            // levels.go
	"cannot start subcompaction",         // levels.go: part of a compaction is missing
	"Ignoring table",                     // levels.go: a corrupt table was left out at open
}

func (b *bridge) watch(format, line string) {
	for _, fatal := range fatalLines {
		if strings.HasPrefix(format, fatal) {
			b.fail(fmt.Errorf("badger: %s", line))
			return
		}
	}
}

func (b *bridge) Errorf(format string, args ...any) {
	line := render(format, args)
	b.logger.Error("badger", "line", line)
	b.watch(format, line)
}

func (b *bridge) Warningf(format string, args ...any) {
	line := render(format, args)
	b.logger.Warn("badger", "line", line)
	b.watch(format, line)
}

func (b *bridge) Infof(format string, args ...any) {
	if b.logger.IsDebug() {
		b.logger.Debug("badger", "line", render(format, args))
	}
}

func (b *bridge) Debugf(format string, args ...any) {
	if b.logger.IsTrace() {
		b.logger.Trace("badger", "line", render(format, args))
	}
}

func render(format string, args []any) string {
	shown := make([]any, len(args))
	for i, a := range args {
		switch a := a.(type) {
		case error, string, bool, time.Duration,
			int, int8, int16, int32, int64, uint, uint8, uint16, uint32, uint64, float32, float64:
			shown[i] = a
		default:
			shown[i] = omitted{}
		}
	}
	return strings.TrimSpace(fmt.Sprintf(format, shown...))
}

// omitted prints as an ellipsis under every verb.
type omitted struct{}

func (omitted) Format(f fmt.State, _ rune) { f.Write([]byte("...")) }
