package jetstream

import (
	"context"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// underway are the messages that are being handled. With the time that they have
// waited in the client's buffer, that may take longer than ackWait where owners are
// slow. Until it is answered a message is kept from being delivered anew.
type underway struct {
	mu   sync.Mutex
	msgs map[jetstream.Msg]struct{} // at most window
}

// underwayBeat leaves a message that has waited in the client's buffer for most of
// ackWait enough of it.
const underwayBeat = ackWait / 5

func (u *underway) begin(msg jetstream.Msg) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.msgs == nil {
		u.msgs = make(map[jetstream.Msg]struct{}, window)
	}
	u.msgs[msg] = struct{}{}
}

func (u *underway) end(msg jetstream.Msg) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.msgs, msg)
}

// tell the server of all of them that they are being handled, at each beat, until
// ctx ends. One that is answered meanwhile stays answered.
func (u *underway) tell(ctx context.Context) {
	beat := time.NewTicker(underwayBeat)
	defer beat.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-beat.C:
		}
		u.mu.Lock()
		msgs := make([]jetstream.Msg, 0, len(u.msgs))
		for msg := range u.msgs {
			msgs = append(msgs, msg)
		}
		u.mu.Unlock()
		for _, msg := range msgs {
			_ = msg.InProgress()
		}
	}
}
