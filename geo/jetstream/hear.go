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
