package jetstream

import (
	"bytes"

	"github.com/nats-io/nats.go"
)

// hear listens to the acknowledgements of the log's consumers, which pass the own
// servers, until the returned function is called: a cut shows there within a round
// trip. It is a hint: servers that do not let this node listen make it deaf, which
// watchTakers notices.
func (l *Log) hear() (stop func()) {
	stream := streamName(l.cfg.Region)
	var subs []*nats.Subscription
	// The second form has a domain and an account before the stream.
	for _, subject := range []string{"$JS.ACK." + stream + ".>", "$JS.ACK.*.*." + stream + ".>"} {
		s, err := l.nc.Subscribe(subject, func(m *nats.Msg) {
			if takes(m.Data) {
				l.heard.Add(1)
				l.silence.Taken()
			}
		})
		if err != nil { // the connection is closed, which shows elsewhere
			l.logger.Debug("cannot listen to consumers", "region", l.cfg.Region, "error", err)
			continue
		}
		subs = append(subs, s)
	}
	return func() {
		for _, s := range subs {
			_ = s.Unsubscribe() // the connection may be gone
		}
	}
}

// takes reports whether an answer to a delivery says that it was taken, or is being
// handled: one that is put off goes on waiting.
func takes(answer []byte) bool {
	return len(answer) == 0 || bytes.HasPrefix(answer, []byte("+ACK")) || bytes.HasPrefix(answer, []byte("+WPI"))
}

// ears judges whether acknowledgements are heard at all.
type ears struct {
	heard  uint64 // before the last look
	missed int    // looks in a row
}

// deaf takes how many were heard before a look at the consumers and after it, and
// whether one of these has moved since the look before, and reports that they were
// not heard: twice in a row, since what is heard may be on its way.
func (e *ears) deaf(before, after uint64, moved bool) bool {
	switch {
	case after != e.heard:
		e.missed = 0
	case moved:
		e.missed++
	}
	e.heard = before
	return e.missed >= 2
}
