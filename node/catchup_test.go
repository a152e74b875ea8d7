package node

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/node/yield"
)

// region is a model of one that catches up while its clients go on, who feel what is
// applied: the more a second, the longer their commits take.
type region struct {
	catch   *catchUp
	gov     *yield.Governor
	mu      sync.Mutex
	applied int // bytes
}

const recordBytes = 1 << 10

func (r *region) done() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.applied
}

// clients commit 500 times a second; twice as long at harmful bytes a second.
func (r *region) clients(ctx context.Context, harmful float64) {
	rate, last := 0., r.done()
	for ctx.Err() == nil {
		time.Sleep(2 * time.Millisecond)
		now := r.done()
		rate += (float64(now-last)/.002 - rate) / 50 // of the last 100 ms
		last = now
		r.gov.Observe(yield.Commits, time.Duration((1+rate/harmful)*float64(4*time.Millisecond)))
	}
}

// apply a backlog, as a drain does: many batches wait at a time.
func (r *region) apply(t *testing.T, bytes int) {
	const batch = 64 << 10
	var all sync.WaitGroup
	slots := make(chan struct{}, 32)
	for range bytes / batch {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			if err := r.catch.follow(t.Context(), batch); err != nil {
				t.Error(err)
			}
			r.mu.Lock()
			r.applied += batch
			r.mu.Unlock()
		})
	}
	all.Wait()
}

// measures has the origin write so many records a second.
func (r *region) measures(ctx context.Context, dots func() uint64) {
	for ctx.Err() == nil {
		time.Sleep(abroadBeat)
		r.catch.measure(time.Now(), func() (float64, uint64) {
			r.catch.saw(time.Now(), dots(), 1)
			return r.catch.keep.Rate(), recordBytes
		})
	}
}

// While clients feel what is applied it goes slower, and faster when they do not, but
// never so slow that the backlog does not get less.
func TestCatchUpYieldsAndKeepsUp(t *testing.T) {
	for _, c := range []struct {
		name    string
		harmful float64 // bytes a second that make commits take twice as long; 0: no clients
		written uint64  // records a second during the cut, of 100 s
		// rates at which it must be applied, in MiB a second
		least, most float64
	}{
		{"nobody feels it", 1 << 40, 1000, 20, 1 << 20},
		{"no clients", 0, 1000, 20, 1 << 20},
		{"they feel it", 128 << 20, 1000, 34, 70},
		{"they feel everything", 1 << 20, 1000, 34, 50},
		{"they feel everything, and much was written", 1 << 20, 60_000, 95, 120},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				gov := yield.New()
				r := &region{catch: newCatchUp(gov), gov: gov}
				ctx, stop := context.WithCancel(t.Context())
				var all sync.WaitGroup
				defer all.Wait()
				defer stop()
				if c.harmful > 0 {
					all.Go(func() { r.clients(ctx, c.harmful) })
				}
				began := time.Now()
				const cut = 100 * time.Second
				all.Go(func() {
					r.measures(ctx, func() uint64 {
						if time.Since(began) < cut { // nothing is heard
							return 1
						}
						return 1 + uint64(time.Since(began).Seconds()*float64(c.written))
					})
				})
				time.Sleep(cut)
				healed := time.Now()
				backlog := int(c.written) * int(cut.Seconds()) * recordBytes
				r.apply(t, backlog)
				took := time.Since(healed)
				if rate := float64(backlog) / took.Seconds() / (1 << 20); rate < c.least || rate > c.most {
					t.Errorf("%.1f MiB/s, that is %.2f times as fast as it was written", rate, cut.Seconds()/took.Seconds())
				}
			})
		})
	}
}

// Who pumps is told for how long to pause, and at the least rate that is not long.
func TestShippingYields(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCatchUp(yield.New())
		c.after(1)
		time.Sleep(time.Minute)
		if c.behind(time.Now()) {
			t.Error("behind a minute after the last that was late")
		}
		if wait := c.after(catchUpLeast); wait < 900*time.Millisecond || wait > time.Second {
			t.Errorf("after what takes a second at least it waits %v", wait)
		}
		if !c.behind(time.Now()) {
			t.Error("not behind")
		}
	})
}
