//go:build e2e

package e2e

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/atolldb/atoll/client"
)

var (
	overloadFor   = flag.Duration("overload.for", 10*time.Second, "how long TestOverload asks for too much")
	overloadTimes = flag.Float64("overload.times", 5, "how many times what the region can do TestOverload asks for")
)

// crowd is open-loop load: operations begin at a rate, whatever becomes of
// those before.
type crowd struct {
	clients []*client.Client
	region  *region

	mu    sync.Mutex
	good  []time.Duration
	bad   map[string]int
	under sync.WaitGroup
	// flying operations are under way; begun ones are those that count of a load.
	flying, begun atomic.Int64
}

// served is what came of a load.
type served struct {
	offered float64 // a second
	goodput float64
	p50     time.Duration
	p99     time.Duration
	bad     map[string]int
	// admitted, done, refused are what the nodes say, a second: operations let
	// in, those that succeeded, and those refused at the rim.
	admitted, done, refused float64
}

func (s served) String() string {
	return fmt.Sprintf("%.0f/s offered, %.0f/s goodput, p50 %v, p99 %v, failed %v; the nodes admitted %.0f/s, did %.0f/s, refused %.0f/s",
		s.offered, s.goodput, s.p50.Round(10*time.Microsecond), s.p99.Round(10*time.Microsecond), s.bad, s.admitted, s.done, s.refused)
}

// count adds up a node's metrics whose lines begin so.
func (r *region) count(prefixes ...string) (sum float64) {
	for _, admin := range r.admins {
		res, err := http.Get("http://" + admin + "/metrics")
		if err != nil {
			continue
		}
		scan := bufio.NewScanner(res.Body)
		for scan.Scan() {
			for _, p := range prefixes {
				if strings.HasPrefix(scan.Text(), p) {
					if v, err := strconv.ParseFloat(scan.Text()[strings.LastIndexByte(scan.Text(), ' ')+1:], 64); err == nil {
						sum += v
					}
				}
			}
		}
		res.Body.Close()
	}
	return sum
}

// told is admitted, done and refused until now.
func (c *crowd) told() (n [3]float64) {
	const rim, took = "atoll_rim_operations_total", "atoll_request_duration_seconds_count"
	var refused []string
	for _, class := range []string{"read", "write"} {
		for _, verdict := range []string{"queue_full", "bytes", "waited", "deadline"} {
			refused = append(refused, fmt.Sprintf("%s{class=%q,verdict=%q}", rim, class, verdict))
		}
	}
	n[0] = c.region.count(rim+`{class="read",verdict="admitted"}`, rim+`{class="write",verdict="admitted"}`)
	n[1] = c.region.count(took + `{code="ok"`)
	n[2] = c.region.count(refused...)
	return n
}

const overloadDeadline = time.Second

// do is one put or get.
func (c *crowd) do(ctx context.Context, i int, key string, put, count bool) error {
	ctx, cancel := context.WithTimeout(ctx, overloadDeadline)
	defer cancel()
	began := time.Now()
	var err error
	k := c.clients[i%len(c.clients)]
	if put {
		_, err = k.Put(ctx, key, overloadValue, client.Overwrite())
	} else {
		_, err = k.Get(ctx, key)
	}
	if errors.Is(err, client.ErrNotFound) {
		err = nil
	}
	if !count {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var e *client.Error
	switch {
	case err == nil:
		c.good = append(c.good, time.Since(began))
	case errors.As(err, &e):
		c.bad[e.Reason]++
	default:
		c.bad["other"]++
	}
	return err
}

var overloadValue = make([]byte, 100)

// load asks rate times a second for a while, or as often as this process can; of each operation next says what
// it is and whether it counts. It waits for all of them. No more are under way than begin
// within two deadlines: where more are, this process has no time to end them, and would
// ask ever less while it gathers them.
func (c *crowd) load(ctx context.Context, rate float64, span time.Duration, next func(i int) (key string, put, count bool)) served {
	c.good, c.bad = nil, map[string]int{}
	before := c.told()
	begun, counted := 0, 0 // begun has those in it that this process was too late for
	most, aloft := max(int(rate/20), 1), int64(2*rate*overloadDeadline.Seconds())
	start := time.Now()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for now := start; now.Sub(start) < span; now = <-tick.C {
		due := int(rate * time.Since(start).Seconds())
		for begun = max(begun, due-most); begun < due && c.flying.Load() < aloft; begun++ {
			key, put, count := next(begun)
			if count {
				counted++
				c.begun.Add(1)
			}
			c.under.Add(1)
			c.flying.Add(1)
			go func(i int) {
				defer c.under.Done()
				defer c.flying.Add(-1)
				_ = c.do(ctx, i, key, put, count) // it is counted
			}(begun)
		}
	}
	took := time.Since(start).Seconds()
	c.under.Wait()
	s := served{offered: float64(counted) / took, goodput: float64(len(c.good)) / took, bad: c.bad}
	after := c.told()
	s.admitted, s.done, s.refused = (after[0]-before[0])/took, (after[1]-before[1])/took, (after[2]-before[2])/took
	if n := len(c.good); n > 0 {
		slices.Sort(c.good)
		s.p50, s.p99 = c.good[n/2], c.good[n*99/100]
	}
	return s
}

// capacity is what a closed loop gets.
func (c *crowd) capacity(ctx context.Context, workers int, span time.Duration, put bool) float64 {
	var wg sync.WaitGroup
	var n atomic.Int64
	end := time.Now().Add(span)
	for w := range workers {
		wg.Go(func() {
			for i := w; time.Now().Before(end); i++ {
				if c.do(ctx, i, anyKey(), put, false) == nil {
					n.Add(1)
				}
			}
		})
	}
	wg.Wait()
	return float64(n.Load()) / span.Seconds()
}

func anyKey() string { return fmt.Sprint("key ", rand.IntN(10_000)) }

// startCrowd starts a region and clients. Apart, with two processors or more, the
// nodes get the first one and the clients the rest, so that asking for too much
// does not take the nodes' processor.
func startCrowd(t *testing.T, ctx context.Context, clients int, apart bool) *crowd {
	r := newRegion(t)
	apart = apart && runtime.NumCPU() > 1
	if apart {
		runtime.LockOSThread()
		pin(t, 0, 0) // what this thread starts inherits it
	}
	for i := range regionNodes {
		r.start(i)
	}
	if apart {
		runtime.UnlockOSThread()
		pinAll(t, 1)
		t.Cleanup(func() { pinAll(t, 0) }) // what runs afterwards has them all
	}
	c := &crowd{region: r}
	eventually(t, ctx, "the region takes writes", func() bool {
		if len(c.clients) == 0 {
			one, err := client.Open(ctx, r.endpoints())
			if err != nil {
				return false
			}
			c.clients = append(c.clients, one)
		}
		_, err := c.clients[0].Put(ctx, "first", nil, client.LocalAll)
		return err == nil
	})
	for len(c.clients) < clients {
		one, err := client.Open(ctx, r.endpoints())
		if err != nil {
			t.Fatal(err)
		}
		c.clients = append(c.clients, one)
	}
	t.Cleanup(func() {
		for _, k := range c.clients {
			k.Close()
		}
	})
	return c
}

// pinAll has all threads of this process use the processors from first on.
func pinAll(t *testing.T, first int) {
	t.Helper()
	threads, err := filepath.Glob("/proc/self/task/*")
	if err != nil {
		t.Fatal(err)
	}
	var cpus []int
	for cpu := first; cpu < runtime.NumCPU(); cpu++ {
		cpus = append(cpus, cpu)
	}
	for _, path := range threads {
		id, err := strconv.Atoi(filepath.Base(path))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(path); err == nil {
			pin(t, id, cpus...)
		}
	}
}

func pin(t *testing.T, thread int, cpus ...int) {
	t.Helper()
	var set unix.CPUSet
	for _, cpu := range cpus {
		set.Set(cpu)
	}
	if err := unix.SchedSetaffinity(thread, &set); err != nil && !errors.Is(err, unix.ESRCH) {
		t.Logf("processors are shared: %v", err)
	}
}

// The measure of an overload: it is told in parts, so that what happens to one of them
// decides nothing, and asked for up to overloadTries times while it misses the bar: an
// honest miss does not go away by that.
const (
	overloadBar   = .5
	overloadPart  = 2 * time.Second
	overloadTries = 3
)

// part of a load is what came of it, a second.
type part struct{ offered, done float64 }

// inParts is load, and what the nodes did in each part of it.
func (c *crowd) inParts(ctx context.Context, rate float64, span time.Duration, next func(int) (string, bool, bool)) (whole served, parts []part) {
	c.begun.Store(0)
	var watch sync.WaitGroup
	watch.Go(func() {
		tick := time.NewTicker(overloadPart)
		defer tick.Stop()
		at, told := time.Now(), c.told()
		for begun := int64(0); len(parts) < int(span/overloadPart); {
			<-tick.C
			b, n := c.begun.Load(), c.told() // the nodes tell when they have time for it
			took := time.Since(at).Seconds()
			parts = append(parts, part{float64(b-begun) / took, (n[1] - told[1]) / took})
			at, begun, told = time.Now(), b, n
		}
	})
	whole = c.load(ctx, rate, span, next)
	watch.Wait()
	return whole, parts
}

// TestOverload: five times what the region can do, through the SDK; where the nodes
// cannot be given a part of a processor, what eight clients can ask for. Goodput stays,
// and is back within a minute when it ends. What the region can do is measured before
// and after: the larger of both is the measure, since a machine that others use makes
// it only smaller.
func TestOverload(t *testing.T) {
	for _, o := range []struct {
		name string
		put  bool
		// share of a processor: what this process can ask five times as much of.
		share float64
	}{{"put", true, .3}, {"get", false, .15}} {
		t.Run(o.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute+overloadTries**overloadFor)
			defer cancel()
			c := startCrowd(t, ctx, 8, true)
			any := func(int) (string, bool, bool) { return anyKey(), o.put, true }
			c.capacity(ctx, 128, time.Second, o.put) // warm
			if err := c.region.limit(o.share); err != nil {
				t.Logf("NOT RUN: a part of a processor for the nodes: %v", err)
			} else {
				defer c.region.keptTo(o.share)()
			}
			can := c.capacity(ctx, 128, 2*time.Second, o.put)
			little := .4 * can
			before := c.load(ctx, little, 3*time.Second, any)
			var ratios []float64
			for try := 1; try <= overloadTries; try++ {
				since, was := c.region.usage(), can
				during, parts := c.inParts(ctx, *overloadTimes*was, *overloadFor, any)
				back, after := c.back(ctx, little, before.goodput, any)
				can = max(can, c.capacity(ctx, 128, 2*time.Second, o.put))
				others := c.region.others(since)
				for _, p := range parts {
					ratios = append(ratios, p.done/max(min(can, p.offered), 1))
				}
				t.Logf("closed loop %.0f/s\nbefore: %v\nduring: %v\nafter:  %v; back in second %d\nparts of what can be done: %.2f; others used %.2f processors",
					can, before, during, after, back, ratios, others)
				felt := ""
				if m := median(ratios); m < overloadBar {
					felt = fmt.Sprintf("the nodes do %.2f of what they can, less than %.2f", m, overloadBar)
				} else if back < 0 {
					felt = "goodput did not come back within a minute"
				}
				switch {
				case felt == "" && can > 2*was && try < overloadTries:
					ratios = nil // what can be done was seen too late: too little was asked for
				case felt == "":
					return
				case others > othersMost && try == overloadTries:
					t.Logf("NOT JUDGED: noise: what becomes of an overload: %s; others used %.2f processors", felt, others)
				case try == overloadTries:
					t.Errorf("under overload: %s", felt)
				}
			}
		})
	}
}

// back returns in which second goodput is what it was before, -1 if in none of sixty,
// and the last one's load.
func (c *crowd) back(ctx context.Context, rate, before float64, next func(int) (string, bool, bool)) (second int, last served) {
	for second = 1; second <= 60; second++ {
		if last = c.load(ctx, rate, time.Second, next); last.goodput > .95*before {
			return second, last
		}
	}
	return -1, last
}

// hotBar is how much longer the others' p99 may be for one hot key.
const hotBar = 1.2

// TestHotKey: one key is asked for ten times as often as each of fifty others,
// on top of what they are asked for. The p99 of the others with it and without
// it take turns.
func TestHotKey(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	c := startCrowd(t, ctx, 4, true)
	const others = 50
	c.capacity(ctx, 64, time.Second, true)
	rate := .25 * c.capacity(ctx, 128, 3*time.Second, true)
	cold := func(i int) (string, bool, bool) { return fmt.Sprint("key ", rand.IntN(others)), i%2 == 0, true }
	mixed := func(i int) (string, bool, bool) {
		if rand.IntN(others+10) < 10 {
			return "hot", i%2 == 0, false
		}
		return cold(i)
	}
	t.Logf("%.0f operations a second on %d keys", rate, others)
	duel(t, c.region, "others beside a key with ten times as much", hotBar,
		func() served { return c.load(ctx, rate, 2*time.Second, cold) },
		func() served { return c.load(ctx, rate*(others+10)/others, 2*time.Second, mixed) })
}
