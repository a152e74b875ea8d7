package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/cmd/atoll/workload"
)

// benchTarget carries a workload's operations out. The options are made once,
// so that an operation costs little more than the SDK does.
type benchTarget struct {
	clients []*client.Client
	read    []client.ReadOption
	put     []client.WriteOption // of a blind one
	level   client.Level
	w       int
	regions int
	mu      sync.Mutex
	last    error
}

func (q *benchFlags) connect(cmd *cobra.Command) (*benchTarget, error) {
	t := &benchTarget{level: client.Level(q.level), w: int(q.w), regions: int(q.regions)}
	for range q.connections {
		c, err := q.open(cmd)
		if err != nil {
			t.close()
			return nil, err
		}
		t.clients = append(t.clients, c)
	}
	t.read = []client.ReadOption{t.level}
	if q.r > 0 {
		t.read = append(t.read, client.R(int(q.r)))
	}
	t.put = []client.WriteOption{t.level, client.Overwrite()}
	if q.w > 0 {
		t.put = append(t.put, client.W(t.w))
	}
	if t.regions > 0 {
		t.read, t.put = append(t.read, client.Regions(t.regions)), append(t.put, client.Regions(t.regions))
	}
	if q.sloppy {
		t.put = append(t.put, client.Sloppy())
	}
	return t, nil
}

func (t *benchTarget) close() {
	for _, c := range t.clients {
		c.Close() //nolint:errcheck // all operations are answered
	}
}

// do gives each operation the SDK's timeout and no context that ends: what was
// begun is carried out, and costs no timer.
func (t *benchTarget) do(_ context.Context, id int, kind workload.Kind, key string, value []byte) workload.Outcome {
	c, ctx := t.clients[id%len(t.clients)], context.Background()
	var o workload.Outcome
	var err error
	switch kind {
	case workload.Get:
		_, err = t.get(ctx, c, key, &o)
	case workload.Put:
		_, err = c.Put(ctx, key, value, t.put...)
	default:
		var obj client.Object
		if obj, err = t.get(ctx, c, key, &o); err == nil {
			opts := []client.WriteOption{t.level, client.After(obj.Version())}
			if t.w > 0 {
				opts = append(opts, client.W(t.w))
			}
			if t.regions > 0 {
				opts = append(opts, client.Regions(t.regions))
			}
			_, err = c.Put(ctx, key, value, opts...)
		}
	}
	if err != nil {
		o = workload.Outcome{Failure: t.failed(err)}
	}
	return o
}

// get counts an absent key and siblings as what was found, not as failures.
func (t *benchTarget) get(ctx context.Context, c *client.Client, key string, o *workload.Outcome) (client.Object, error) {
	obj, err := c.Get(ctx, key, t.read...)
	switch {
	case errors.Is(err, client.ErrNotFound):
		o.Missing, err = true, nil
	case errors.Is(err, client.ErrSiblings):
		o.Siblings, err = true, nil
	}
	return obj, err
}

// failed keeps one error to show, and returns the reason to count.
func (t *benchTarget) failed(err error) string {
	t.mu.Lock()
	t.last = err
	t.mu.Unlock()
	var e *client.Error
	if errors.As(err, &e) {
		return e.Reason
	}
	return "OTHER"
}

func (t *benchTarget) lastFailure() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.last
}

const (
	preloaders   = 8
	preloadBatch = 256
	preloadTries = 20
)

// preload writes all keys.
func (t *benchTarget) preload(ctx context.Context, prefix string, keys int, values workload.Values, seed uint64) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var wg sync.WaitGroup
	for w := range preloaders {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(w)))
			for ctx.Err() == nil {
				from := int(next.Add(preloadBatch)) - preloadBatch
				if from >= keys {
					return
				}
				items := make([]client.Item, 0, preloadBatch)
				for n := from; n < min(from+preloadBatch, keys); n++ {
					items = append(items, client.Item{Key: string(workload.AppendKey(nil, prefix, n)), Value: values.Next(rng)})
				}
				if err := t.putAll(ctx, t.clients[w%len(t.clients)], items); err != nil {
					cancel(err)
				}
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// putAll repeats whatever fails: here it does not matter if a write is applied
// twice.
func (t *benchTarget) putAll(ctx context.Context, c *client.Client, items []client.Item) error {
	for try := 1; ; try++ {
		var failed []client.Item
		var last error
		for i, r := range c.PutMany(ctx, items, t.put...) {
			if r.Err != nil {
				failed, last = append(failed, items[i]), r.Err
			}
		}
		if last == nil || ctx.Err() != nil {
			return ctx.Err()
		}
		if try == preloadTries || errors.Is(last, client.ErrInvalid) || errors.Is(last, client.ErrNoBucket) {
			return last
		}
		items = failed
		pause := time.NewTimer(100 * time.Millisecond)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return ctx.Err()
		}
	}
}
