package replica

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/storage"
)

// Who knows more of a partition than this node (a session's token tells) waits
// until the dots that are missing were delivered here, and are durable. Each that
// waits is filed under one dot that it misses: so a delivery costs a look into a
// map, and nothing at all while nobody waits. When that dot has come it is looked
// at again, and filed under the next one, if there is one.

const (
	// maxWaits bounds those that wait, and maxWaitBytes what they hold; beyond it
	// they are refused with storage.ErrOverloaded.
	maxWaits     = 4096
	maxWaitBytes = 4 << 20
)

// Missing returns the dots of needs that are not durable here in p, and not known
// to be lost, nil for none. All of them are when p is not held.
func (r *Replica) Missing(p hashring.Partition, needs *crdt.Clock) *crdt.Clock {
	missing, _ := r.Look(p, needs)
	return missing
}

// beyond is has.Beyond(needs), nil for none.
func beyond(has, needs *crdt.Clock) *crdt.Clock {
	if has.Covers(needs) {
		return nil
	}
	return has.Beyond(needs)
}

// SetSought names who is told of a partition of which somebody has waited in vain for
// writes: it must not block. Call it before Run.
func (r *Replica) SetSought(sought func(hashring.Partition)) { r.waits.sought = sought }

// SetFetch names who gets what is waited for from others: fetch must not block,
// and is called whenever somebody begins to wait. Call it before Run.
func (r *Replica) SetFetch(fetch func(hashring.Partition, *crdt.Clock)) { r.waits.fetch = fetch }

// awaits is what of needs has to be waited for: nothing when some of it is lost.
func (r *Replica) awaits(p hashring.Partition, needs *crdt.Clock) *crdt.Clock {
	missing, lost := r.Look(p, needs)
	if lost != nil {
		return nil
	}
	return missing
}

// Await calls done once, when needs are durable here in p or some of them are
// known to be lost (see Lost), with nil; else with
// what is still missing at the deadline, or with an error, at once, when too many
// wait already or the node stops. size is what the caller holds meanwhile, in
// bytes. done may be called before Await returns, and must not block.
func (r *Replica) Await(p hashring.Partition, needs *crdt.Clock, size int, deadline time.Time, done func(missing *crdt.Clock, err error)) {
	w := &waiter{p: p, needs: needs, size: size + 256, done: done}
	missing, err := r.waits.file(r, w, deadline)
	if missing == nil || err != nil {
		done(missing, err)
		return
	}
	if r.waits.fetch != nil {
		r.waits.fetch(p, missing)
	}
}

// Waiting is how many wait now.
func (r *Replica) Waiting() int { return int(r.waits.n.Load()) }

type partitionDot struct {
	p hashring.Partition
	crdt.Dot
}

type waiter struct {
	p     hashring.Partition
	needs *crdt.Clock
	size  int
	done  func(*crdt.Clock, error)
	timer *time.Timer
	at    partitionDot // where it is filed
}

type waits struct {
	fetch  func(hashring.Partition, *crdt.Clock)
	sought func(hashring.Partition)
	n      atomic.Int32

	mu     sync.Mutex
	bytes  int
	closed bool
	filed  map[partitionDot]map[*waiter]struct{}
	// ready are those to look at again. They are also filed.
	ready []*waiter
	wake  chan struct{} // capacity 1: ready is not empty
}

func (ws *waits) init() {
	ws.filed = map[partitionDot]map[*waiter]struct{}{}
	ws.wake = make(chan struct{}, 1)
}

// file files w, and returns what it misses, nil if it need not wait.
func (ws *waits) file(r *Replica, w *waiter, deadline time.Time) (*crdt.Clock, error) {
	// Counted first: who delivers after this looks, and what was delivered before
	// is in the clock.
	ws.mu.Lock()
	defer ws.mu.Unlock()
	n := ws.n.Add(1)
	missing := r.awaits(w.p, w.needs)
	switch {
	case missing == nil:
	case ws.closed:
		ws.n.Add(-1)
		return missing, ErrStopping
	case n > maxWaits || ws.bytes+w.size > maxWaitBytes:
		ws.n.Add(-1)
		r.stats.WaitsRefused.Add(1)
		return missing, fmt.Errorf("%w: %d wait for what was not delivered yet", storage.ErrOverloaded, n-1)
	default:
		r.stats.Waits.Add(1)
		ws.bytes += w.size
		ws.place(w, missing)
		w.timer = time.AfterFunc(time.Until(deadline), func() { ws.expire(r, w) })
		return missing, nil
	}
	ws.n.Add(-1)
	return nil, nil
}

// place files w under a dot. Called with the lock held.
func (ws *waits) place(w *waiter, missing *crdt.Clock) {
	first := missing.All()[0]
	w.at = partitionDot{w.p, crdt.Dot{Actor: first.Actor, N: first.Lo}}
	at := ws.filed[w.at]
	if at == nil {
		at = map[*waiter]struct{}{}
		ws.filed[w.at] = at
	}
	at[w] = struct{}{}
}

// take takes w out of the files, and reports whether it was there. Called with
// the lock held.
func (ws *waits) take(w *waiter) bool {
	at := ws.filed[w.at]
	if _, ok := at[w]; !ok {
		return false
	}
	delete(at, w)
	if len(at) == 0 {
		delete(ws.filed, w.at)
	}
	return true
}

// leave ends the wait of one that was taken. Called with the lock held.
func (ws *waits) leave(w *waiter) {
	ws.n.Add(-1)
	ws.bytes -= w.size
	w.timer.Stop()
}

// delivered makes ready who waits for what became durable.
func (ws *waits) delivered(e *effect) {
	if ws.n.Load() == 0 {
		return
	}
	ws.mu.Lock()
	defer ws.mu.Unlock()
	was := len(ws.ready)
	for _, d := range e.dots {
		for w := range ws.filed[partitionDot{e.part.id, d}] {
			ws.ready = append(ws.ready, w)
		}
	}
	if e.clock != nil || e.losses != nil {
		for at, all := range ws.filed {
			if at.p != e.part.id {
				continue
			}
			for w := range all {
				ws.ready = append(ws.ready, w)
			}
		}
	}
	if len(ws.ready) > was {
		select {
		case ws.wake <- struct{}{}:
		default:
		}
	}
}

// runWaits looks at those that are ready until ctx ends; who waits then is
// refused.
func (r *Replica) runWaits(ctx context.Context) {
	ws := &r.waits
	for {
		select {
		case <-ctx.Done():
			r.waits.close(r)
			return
		case <-ws.wake:
		}
		ws.mu.Lock()
		ready := ws.ready
		ws.ready = nil
		var done []*waiter
		for _, w := range ready {
			if !ws.take(w) {
				continue // it is there twice, or its time is over
			}
			if missing := r.awaits(w.p, w.needs); missing != nil {
				ws.place(w, missing)
				continue
			}
			ws.leave(w)
			done = append(done, w)
		}
		ws.mu.Unlock()
		for _, w := range done {
			w.done(nil, nil)
		}
	}
}

func (ws *waits) expire(r *Replica, w *waiter) {
	ws.mu.Lock()
	there := ws.take(w)
	if there {
		ws.leave(w)
	}
	ws.mu.Unlock()
	if there {
		missing := r.awaits(w.p, w.needs)
		if missing != nil {
			r.stats.WaitsExpired.Add(1)
			if ws.sought != nil {
				ws.sought(w.p)
			}
		}
		w.done(missing, nil)
	}
}

func (ws *waits) close(r *Replica) {
	ws.mu.Lock()
	ws.closed = true
	var all []*waiter
	for _, at := range ws.filed {
		for w := range at {
			all = append(all, w)
		}
	}
	for _, w := range all {
		ws.take(w)
		ws.leave(w)
	}
	ws.mu.Unlock()
	for _, w := range all {
		w.done(w.needs, ErrStopping)
	}
}
