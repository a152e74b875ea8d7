package jetstream

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// handled counts how often the server was told that a message is being handled.
type handled struct {
	jetstream.Msg
	told atomic.Int64
}

func (h *handled) InProgress() error { h.told.Add(1); return nil }

// What is handled for longer than ackWait is not delivered anew meanwhile, and the
// server hears nothing more of what was answered.
func TestUnderway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var u underway
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { u.tell(ctx); close(ended) }()
		slow, quick := &handled{}, &handled{}
		u.begin(slow)
		u.begin(quick)
		time.Sleep(underwayBeat / 2)
		u.end(quick)
		for range 10 {
			was := slow.told.Load()
			time.Sleep(ackWait)
			if slow.told.Load() < was+2 {
				t.Fatalf("told %d times in the time after which it is delivered anew", slow.told.Load()-was)
			}
		}
		if quick.told.Load() != 0 {
			t.Error("told of what was answered")
		}
		u.end(slow)
		was := slow.told.Load()
		time.Sleep(10 * ackWait)
		if slow.told.Load() != was {
			t.Error("told of what was answered since")
		}
		stop()
		<-ended
	})
}
