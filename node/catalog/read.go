package catalog

import (
	"context"
	"fmt"
	"time"

	"github.com/atolldb/atoll/node/bucket"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/quorum"
)

// load reads the record from a quorum of its owners and adopts it. It returns all
// that is known then, and the context of what was read.
func (c *Catalog) load(ctx context.Context) (bucket.View, []byte, error) {
	type answer struct {
		context []byte
		err     error
	}
	ch := make(chan answer, 1)
	c.begin(deadline(ctx), func(token []byte, err error) { ch <- answer{token, err} })
	select {
	case a := <-ch:
		return c.now.Load().view, a.context, a.err
	case <-ctx.Done():
		return bucket.View{}, nil, ctx.Err()
	}
}

func deadline(ctx context.Context) time.Time {
	at := time.Now().Add(readTimeout)
	if d, ok := ctx.Deadline(); ok && d.Before(at) {
		return d
	}
	return at
}

// begin reads the record, adopts it, and calls done.
func (c *Catalog) begin(deadline time.Time, done func(token []byte, err error)) {
	began := time.Now()
	g := coord.Get{Bucket: coord.SystemBucket, Key: []byte(tableKey), Level: quorum.LocalQuorum, System: true, Deadline: deadline}
	c.deps.Get(g, func(r coord.GetResult, err error) {
		if err != nil {
			done(nil, fmt.Errorf("read the buckets: %w", err))
			return
		}
		var all bucket.Table
		for i := range r.View.Live {
			t, err := bucket.DecodeTable(r.View.Live[i].Value)
			if err != nil {
				done(nil, fmt.Errorf("read the buckets, version %s: %w", r.View.Live[i].Dot, err))
				return
			}
			all = bucket.Merge(all, t)
		}
		c.adopt(all)
		c.read.Store(began.UnixNano())
		done(r.Context, nil)
	})
}

// waiter is one who wants to know what a read finds that has not begun yet.
type waiter struct {
	then  func(error)
	timer *time.Timer
}

// Refresh reads the store, together with all who ask at the same time, and calls
// then with nil when that is done, or with what went wrong, before the deadline.
// C3: it is not answered by a read that was under way already.
func (c *Catalog) Refresh(deadline time.Time, then func(error)) {
	w := &waiter{then: then}
	c.mu.Lock()
	c.waiting = append(c.waiting, w)
	// Timers and waiting are under the lock, so that each is called once.
	w.timer = time.AfterFunc(max(time.Until(deadline)*9/10, 1), func() { c.giveUp(w) })
	c.mu.Unlock()
	c.next()
}

// next begins a read for those who wait, unless one is under way. Reads begin
// refreshGap apart: names that do not exist cost no more than that.
func (c *Catalog) next() {
	c.mu.Lock()
	if c.busy || len(c.waiting) == 0 {
		c.mu.Unlock()
		return
	}
	c.busy = true
	wait := refreshGap - time.Since(c.begun)
	c.mu.Unlock()
	if wait > 0 {
		time.AfterFunc(wait, c.refresh)
		return
	}
	c.refresh()
}

func (c *Catalog) refresh() {
	c.mu.Lock()
	batch := c.waiting
	c.waiting, c.begun = nil, time.Now()
	c.mu.Unlock()
	c.begin(time.Now().Add(readTimeout), func(_ []byte, err error) {
		c.mu.Lock()
		c.busy = false
		c.mu.Unlock()
		for _, w := range batch {
			if w.timer.Stop() {
				w.then(err)
			}
		}
		c.next()
	})
}

// giveUp answers one whose time is nearly over. Its timer has fired, so no read
// answers it any more.
func (c *Catalog) giveUp(w *waiter) {
	c.mu.Lock()
	for i, o := range c.waiting {
		if o == w {
			c.waiting = append(c.waiting[:i:i], c.waiting[i+1:]...)
			break
		}
	}
	c.mu.Unlock()
	w.then(errSlow)
}
