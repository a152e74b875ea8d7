package replica

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/atolldb/atoll/node/storage"
)

// Chores delete what nobody needs any more, one after the other, on a goroutine
// of Run's. Each transaction deletes little, and pauses before the next, so
// that they are hardly felt. They are not remembered over a stop by themselves.
type chores struct {
	mu    sync.Mutex
	queue []chore
	ended bool
	wake  chan struct{}
}

type chore struct {
	run  func(ctx context.Context) error
	done func(error)
}

const (
	// deleteBatch bounds what one transaction deletes: keys, and their bytes
	// with what an engine keeps beside them.
	deleteBatch      = 512
	deleteBatchBytes = 256 << 10
	// deletePause is how long the next one waits.
	deletePause = 5 * time.Millisecond
)

// later queues a chore. done gets its outcome, or ErrStopping; it must not
// block.
func (r *Replica) later(run func(ctx context.Context) error, done func(error)) {
	c := &r.chores
	c.mu.Lock()
	if c.ended {
		c.mu.Unlock()
		done(ErrStopping)
		return
	}
	c.queue = append(c.queue, chore{run, done})
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

func (c *chores) next() (chore, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.queue) == 0 {
		return chore{}, false
	}
	next := c.queue[0]
	c.queue[0] = chore{}
	c.queue = c.queue[1:]
	return next, true
}

// runChores works until ctx ends; then it tells those who wait.
func (r *Replica) runChores(ctx context.Context) {
	c := &r.chores
	for ctx.Err() == nil {
		next, ok := c.next()
		if !ok {
			select {
			case <-ctx.Done():
			case <-c.wake:
			}
			continue
		}
		err := next.run(ctx)
		if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
			err = ErrStopping
		}
		next.done(err)
	}
	c.mu.Lock()
	c.ended = true
	left := c.queue
	c.queue = nil
	c.mu.Unlock()
	for _, x := range left {
		x.done(ErrStopping)
	}
}

// do queues an operation and waits for it.
func (r *Replica) do(op func(done chan error) storage.Op) error {
	done := make(chan error, 1)
	r.enqueue(op(done))
	return <-done
}

// deleteRange deletes a range that nothing is written to, batch by batch. may,
// unless nil, is asked before each, on the committer's goroutine; its error
// ends it.
func (r *Replica) deleteRange(ctx context.Context, lo, hi []byte, may func() error) error {
	for {
		keys, next, err := r.gather(lo, hi)
		if err != nil || len(keys) == 0 {
			return err
		}
		if err := r.do(func(done chan error) storage.Op { return &deleteOp{keys: keys, may: may, done: done} }); err != nil {
			return err
		}
		r.stats.Deleted.Add(uint64(len(keys)))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(deletePause):
		}
		if next == nil {
			return nil
		}
		lo = next
	}
}

// gather returns the first keys of a range, and where to go on, nil at its end.
func (r *Replica) gather(lo, hi []byte) (keys [][]byte, next []byte, err error) {
	size := 0
	more := func(key []byte, value int) bool {
		if len(keys) == deleteBatch || size >= deleteBatchBytes {
			next = append([]byte(nil), key...)
			return false
		}
		keys = append(keys, append([]byte(nil), key...))
		// A large value is in pieces, each with a key of its own.
		size += (len(key) + 64) * (1 + value>>18)
		return true
	}
	err = scanAll(r.engine, lo, hi, func(kv storage.KV, unreadable bool) bool {
		if unreadable {
			return more(kv.Key, storage.MaxValue)
		}
		return more(kv.Key, len(kv.Value))
	})
	return keys, next, err
}

// scanAll is Scan that goes on behind what is unreadable: that is visited with
// its key alone.
func scanAll(from storage.Reader, lo, hi []byte, visit func(kv storage.KV, unreadable bool) bool) error {
	for {
		err := from.Scan(lo, hi, func(kv storage.KV) bool { return visit(kv, false) })
		var bad *storage.CorruptError
		if !errors.As(err, &bad) || bytes.Compare(bad.Key, lo) < 0 {
			return err
		}
		if !visit(storage.KV{Key: bad.Key}, true) {
			return nil
		}
		lo = append(append([]byte(nil), bad.Key...), 0)
	}
}

type deleteOp struct {
	keys [][]byte
	may  func() error
	done chan error
}

func (o *deleteOp) Size() int      { return 0 }
func (o *deleteOp) Decided()       {}
func (o *deleteOp) Done(err error) { o.done <- err }

func (o *deleteOp) Decide(tx storage.Txn) error {
	if o.may != nil {
		if err := o.may(); err != nil {
			return err
		}
	}
	for _, k := range o.keys {
		if err := tx.Delete(k); err != nil {
			return fmt.Errorf("delete: %w", err)
		}
	}
	return nil
}

// pauseFor waits; it reports whether ctx has not ended.
func pauseFor(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
