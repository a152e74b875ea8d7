package natsd

import (
	"fmt"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/hashicorp/go-hclog"
)

// bridge is the server's logger. A fatal error must end Run, not the process.
type bridge struct {
	to    hclog.Logger
	fatal chan<- error // holds the first one
	full  *atomic.Bool // a write had no room: the server tells it to nobody else
}

const message = "nats server says"

func (b *bridge) Noticef(format string, v ...any) {
	b.to.Debug(message, "text", fmt.Sprintf(format, v...))
}

func (b *bridge) Warnf(format string, v ...any) {
	if strings.HasPrefix(format, "Maximum payloads over ") {
		b.Noticef(format, v...) // chosen so, and told at every start
		return
	}
	b.warn(fmt.Sprintf(format, v...))
}

// Errorf is a warning here: most of these pass by themselves (a route that
// is not up yet), and an error in our log means that a person must act.
func (b *bridge) Errorf(format string, v ...any) { b.warn(fmt.Sprintf(format, v...)) }

func (b *bridge) warn(text string) {
	if strings.Contains(text, syscall.ENOSPC.Error()) {
		b.full.Store(true)
	}
	b.to.Warn(message, "text", text)
}

func (b *bridge) Debugf(format string, v ...any) {
	b.to.Trace(message, "text", fmt.Sprintf(format, v...))
}

func (b *bridge) Tracef(format string, v ...any) {
	b.to.Trace(message, "text", fmt.Sprintf(format, v...))
}

func (b *bridge) Fatalf(format string, v ...any) {
	select {
	case b.fatal <- fmt.Errorf("nats server: "+format, v...):
	default:
	}
}
