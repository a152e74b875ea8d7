package natsd

import (
	"fmt"
	"strings"

	"github.com/hashicorp/go-hclog"
)

// bridge is the server's logger. A fatal error must end Run, not the process.
type bridge struct {
	to    hclog.Logger
	fatal chan<- error // holds the first one
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
	b.to.Warn(message, "text", fmt.Sprintf(format, v...))
}

// Errorf is a warning here: most of these pass by themselves (a route that
// is not up yet), and an error in our log means that a person must act.
func (b *bridge) Errorf(format string, v ...any) {
	b.to.Warn(message, "text", fmt.Sprintf(format, v...))
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
