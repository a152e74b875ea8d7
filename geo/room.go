package geo

import (
	"context"
	"sync"
)

// room is so many bytes, for whom is there first. What is larger than all of it gets
// all of it.
type room struct {
	most int

	mu      sync.Mutex
	used    int
	waiting []waiter
}

type waiter struct {
	bytes int
	// turn is closed when the bytes are the waiter's.
	turn chan struct{}
}

func newRoom(most int) room { return room{most: most} }

// take waits for the bytes, until ctx ends.
func (r *room) take(ctx context.Context, bytes int) error {
	bytes = min(bytes, r.most)
	r.mu.Lock()
	if len(r.waiting) == 0 && r.used+bytes <= r.most {
		r.used += bytes
		r.mu.Unlock()
		return nil
	}
	w := waiter{bytes, make(chan struct{})}
	r.waiting = append(r.waiting, w)
	r.mu.Unlock()
	select {
	case <-w.turn:
		return nil
	case <-ctx.Done():
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.waiting {
		if r.waiting[i].turn == w.turn {
			r.waiting = append(r.waiting[:i], r.waiting[i+1:]...)
			r.admit() // it may have been in the way
			return ctx.Err()
		}
	}
	r.used -= bytes // its turn came meanwhile
	r.admit()
	return ctx.Err()
}

// give ends a take of so many bytes.
func (r *room) give(bytes int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.used -= min(bytes, r.most)
	r.admit()
}

// admit is called with the lock held.
func (r *room) admit() {
	for len(r.waiting) > 0 && r.used+r.waiting[0].bytes <= r.most {
		r.used += r.waiting[0].bytes
		close(r.waiting[0].turn)
		r.waiting = r.waiting[1:]
	}
}
