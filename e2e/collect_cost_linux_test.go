//go:build e2e

package e2e

import (
	"context"
	"flag"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/atolldb/atoll/client"
)

var (
	collectRecords = flag.Int("collect.records", 8_000, "records of TestCollectCost, half of which are deleted")
	collectTurns   = flag.Int("collect.turns", 2, "how many rounds TestCollectCost measures")
	collectRate    = flag.Int("collect.rate", 200, "operations a second meanwhile")
)

// TestCollectCost tells what rounds of collection cost: how long they take, what
// they read, what clients notice (phases with and without take turns), and what
// room they give back. It judges only that every delete is collected: run alone it
// measures, and beside others it checks that.
func TestCollectCost(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	r, c := serving(t, ctx)
	records, turns := *collectRecords, *collectTurns
	dead := records / 2 / turns // of each turn
	key := func(i int) string { return fmt.Sprintf("record/%08d", i) }
	value := []byte(strings.Repeat("0123456789abcdef", 16)) // 256 B
	began := time.Now()
	all(t, records, func(i int) error {
		_, err := c.Put(ctx, key(i), value)
		return err
	})
	t.Logf("%d records of %d B are written after %v: %s", records, len(value), time.Since(began).Round(time.Second), storesOf(ctx, r))

	var without, with []time.Duration
	for turn := range turns {
		began := time.Now()
		all(t, dead, func(i int) error {
			_, err := c.Delete(ctx, key(turn*dead+i), client.Overwrite())
			return err
		})
		wrote := time.Since(began)
		rest(t, ctx, 2*time.Second)
		before := storesOf(ctx, r)

		live := func(n int) string { return key(records/2 + n%(records/2)) }
		idle := spending(t, r)
		calm := foreground(ctx, c, live, 10*time.Second, nil)
		idle = spending(t, r).less(idle)

		from := spending(t, r)
		begun := time.Now()
		done := make(chan struct{})
		var res result
		go func() {
			defer close(done)
			res, _ = atoll(ctx, nil, "collect", "run", "--grace", "1s", "--wait", "--endpoints", r.clients[0])
		}()
		busy := foreground(ctx, c, live, time.Hour, done)
		took := time.Since(begun)
		if res.code != 0 {
			t.Fatalf("exit code %d\n%s%s", res.code, res.stdout, res.stderr)
		}
		spent := spending(t, r).less(from)
		without, with = append(without, p99(calm)), append(with, p99(busy))
		share := took.Seconds() / 10
		t.Logf("turn %d: %d deletes written in %v; the round took %v; p99 %v without, %v with; beyond what clients cost: %s read, %.1f s of processor; %s before, %s after",
			turn+1, dead, wrote.Round(time.Second), took.Round(100*time.Millisecond), p99(calm).Round(10*time.Microsecond), p99(busy).Round(10*time.Microsecond),
			mib(spent.read-int64(share*float64(idle.read))), spent.cpu.Seconds()-share*idle.cpu.Seconds(), before, storesOf(ctx, r))
	}
	slices.Sort(without)
	slices.Sort(with)
	t.Logf("p99 at %d operations a second, median of %d turns: %v without, %v with: %.2f times", *collectRate, turns,
		without[turns/2], with[turns/2], float64(with[turns/2])/float64(without[turns/2]))
	res := must(t, ctx, "export", "--endpoints", r.clients[0])
	if want := fmt.Sprintf("exported %d records: 0 with siblings, 0 deletes", records-turns*dead+1); !strings.Contains(res.stderr, want) {
		t.Errorf("%s, want %s", res.stderr, want)
	}
}

// all does n things, 32 at a time.
func all(t *testing.T, n int, do func(i int) error) {
	t.Helper()
	var next atomic.Int64
	var wg sync.WaitGroup
	var failed atomic.Pointer[error]
	for range 32 {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(n) && failed.Load() == nil; i = next.Add(1) - 1 {
				if err := do(int(i)); err != nil {
					failed.Store(&err)
				}
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		t.Fatal(*err)
	}
}

// foreground reads and writes in turn at a rate, for a time or until done, and
// returns how long each operation took since it was due.
func foreground(ctx context.Context, c *client.Client, key func(int) string, d time.Duration, done <-chan struct{}) []time.Duration {
	var mu sync.Mutex
	var took []time.Duration
	var wg sync.WaitGroup
	defer wg.Wait()
	tick := time.NewTicker(time.Second / time.Duration(*collectRate))
	defer tick.Stop()
	end := time.After(d)
	for n := 0; ; n++ {
		select {
		case <-done:
			wg.Wait()
			return took
		case <-end:
			wg.Wait()
			return took
		case <-ctx.Done():
			return took
		case due := <-tick.C:
			wg.Go(func() {
				k := key(n * 7919)
				if n%2 == 0 {
					_, _ = c.Get(ctx, k)
				} else {
					_, _ = c.Put(ctx, k, []byte(strings.Repeat("fedcba9876543210", 16)), client.Overwrite())
				}
				mu.Lock()
				took = append(took, time.Since(due))
				mu.Unlock()
			})
		}
	}
}

func p99(d []time.Duration) time.Duration {
	if len(d) == 0 {
		return 0
	}
	slices.Sort(d)
	return d[len(d)*99/100]
}

// spent is what processes have taken.
type spent struct {
	read int64 // bytes of reads, those out of the page cache too
	cpu  time.Duration
}

func (s spent) less(o spent) spent { return spent{s.read - o.read, s.cpu - o.cpu} }

// spending of all nodes, from /proc.
func spending(t *testing.T, r *region) (s spent) {
	t.Helper()
	for _, p := range r.procs {
		io, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", p.Pid()))
		if err != nil {
			t.Fatal(err)
		}
		_, line, _ := strings.Cut(string(io), "rchar: ")
		line, _, _ = strings.Cut(line, "\n")
		n, err := strconv.ParseInt(line, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		s.read += n
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.Pid()))
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(stat), ") ")
		fields := strings.Fields(rest)
		for _, i := range []int{11, 12} { // utime and stime, in hundredths
			n, err := strconv.ParseInt(fields[i], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			s.cpu += time.Duration(n) * 10 * time.Millisecond
		}
	}
	return s
}

// storesOf says how much all stores take.
func storesOf(ctx context.Context, r *region) string {
	var n int64
	for _, s := range regionStatus(ctx, r, 0).GetNodes() {
		n += s.GetStoreBytes()
	}
	return mib(n)
}

func mib(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }
