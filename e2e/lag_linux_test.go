//go:build e2e && linux

package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/atolldb/atoll/client"
)

// The bars of what a write takes to the other region, over the delay of the link.
const (
	lagMedian = 50 * time.Millisecond
	lagMost   = 250 * time.Millisecond
)

const (
	lagLooks  = 3
	lagSpan   = 2 * time.Second
	lagProbes = 4
	lagBeat   = 5 * time.Millisecond
)

// lagIsShort holds what crosses a link to the bars, while clients of its origin work.
// What is too slow is looked at again, three times at most. What falls short in all of them
// is NOT JUDGED if others used the processors in one of them, or its disk was slower than
// before.
func lagIsShort(t *testing.T, ctx context.Context, from, to *client.Client, link time.Duration, before machine) {
	t.Helper()
	var median, most time.Duration
	noise := ""
	for range lagLooks {
		end := watchMachine(t, func() time.Duration { return processorTime(t) })
		var load sync.WaitGroup
		load.Go(func() { steadily(t, ctx, from, lagSpan) })
		took := lags(t, ctx, from, to, link, lagSpan)
		load.Wait()
		during := end()
		if len(took) == 0 {
			t.Fatal("nothing has crossed")
		}
		median, most = took[len(took)/2], p99(took)
		t.Logf("%d writes crossed a link of %v in %v (p50), %v (p99); %v", len(took), link,
			median.Round(100*time.Microsecond), most.Round(100*time.Microsecond), during)
		if median < link+lagMedian && most < link+lagMost {
			return
		}
		if why := unlike(before, during); why != "" {
			noise = why
		}
	}
	what := fmt.Sprintf("writes cross a link of %v in %v (p50), %v (p99), less than %v and %v is all right", link, median, most, link+lagMedian, link+lagMost)
	if noise != "" {
		t.Logf("NOT JUDGED: noise: %s; %s", what, noise)
		return
	}
	t.Error(what)
}

// lags writes keys in one region for so long, several at a time, and returns how long
// after its acknowledgement a quorum of the other one has shown each.
func lags(t *testing.T, ctx context.Context, from, to *client.Client, link, span time.Duration) (took []time.Duration) {
	t.Helper()
	end := time.Now().Add(span)
	var mu sync.Mutex
	var all sync.WaitGroup
	for p := range lagProbes {
		all.Go(func() {
			for time.Now().Before(end) {
				one, err := lag(ctx, from, to, fmt.Sprintf("lag-%d-%d", p, time.Now().UnixNano()), link)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				took = append(took, one)
				mu.Unlock()
			}
		})
	}
	all.Wait()
	slices.Sort(took)
	return took
}

// lag writes a key in one region and looks for it in the other one, where it cannot be
// before the link's delay is over.
func lag(ctx context.Context, from, to *client.Client, key string, link time.Duration) (time.Duration, error) {
	if _, err := from.Put(ctx, key, []byte("v"), client.Overwrite()); err != nil {
		return 0, fmt.Errorf("put %s: %w", key, err)
	}
	acked := time.Now()
	look := time.NewTimer(link)
	defer look.Stop()
	for {
		select {
		case <-look.C:
		case <-ctx.Done():
			return 0, fmt.Errorf("%s has not crossed: %w", key, ctx.Err())
		}
		_, err := to.Get(ctx, key, client.LocalQuorum)
		if err == nil {
			return time.Since(acked), nil
		}
		if !errors.Is(err, client.ErrNotFound) {
			return 0, fmt.Errorf("get %s: %w", key, err)
		}
		look.Reset(lagBeat)
	}
}
