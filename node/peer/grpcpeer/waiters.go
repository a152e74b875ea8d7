package grpcpeer

import (
	"context"
	"sync"
	"time"

	"github.com/atolldb/atoll/node/peer"
)

// waiters are the requests to one peer that wait, and the timer that ends those
// whose time is over. The lock also guards the lanes of whoever embeds it.
type waiters struct {
	mu sync.Mutex
	pending
	start time.Time // of the clock
	timer *time.Timer
	// armed is when the timer fires, on the clock; 0 if it does not.
	armed int64
}

func (w *waiters) init() {
	w.start = time.Now()
	w.timer = time.NewTimer(time.Hour)
	w.timer.Stop()
}

// now is the clock of deadlines: ns since start.
func (w *waiters) now() int64 { return int64(time.Since(w.start)) }

// wait adds a request, under the lock.
func (w *waiters) wait(now int64, timeout time.Duration, done peer.Done) (id uint64, ok bool) {
	deadline := now + int64(min(timeout, peer.MaxTimeout))
	if id, ok = w.add(done, deadline); ok {
		w.arm(now, deadline)
	}
	return id, ok
}

// arm sees to it that sweep runs at most sweepGrain after deadline. Most
// requests have like timeouts, so the timer mostly stands right already.
func (w *waiters) arm(now, deadline int64) {
	at := max(deadline, now+int64(sweepGrain))
	if w.armed == 0 || at < w.armed {
		w.armed = at
		w.timer.Reset(time.Duration(at - now))
	}
}

// sweep ends requests whose time is over, until ctx ends.
func (w *waiters) sweep(ctx context.Context) {
	defer w.timer.Stop()
	var endings []ending
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.timer.C:
		}
		w.mu.Lock()
		now := w.now()
		var next int64
		endings, next = w.expire(now, endings[:0])
		w.armed = 0
		if next != 0 {
			w.arm(now, next)
		}
		w.mu.Unlock()
		tell(endings)
	}
}

// outgoing is a request in a lane.
type outgoing struct {
	id  uint64
	req peer.Request
}

func (o *outgoing) size() int { return len(o.req.Body) }

// hand takes what is to be sent now from a lane, under the lock: what did not
// run out of time meanwhile, marked as handed over.
func (w *waiters) hand(l *lane[outgoing], out []outgoing, limit int) []outgoing {
	out = l.take(out, limit, (*outgoing).size)
	now := w.now()
	kept := out[:0]
	for _, o := range out {
		s := w.find(o.id)
		if s == nil || s.deadline <= now {
			continue // the sweep tells, or has told
		}
		s.handed = true
		o.req.Timeout = time.Duration(s.deadline - now)
		kept = append(kept, o)
	}
	clear(out[len(kept):])
	return kept
}
