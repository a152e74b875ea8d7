//go:build e2e && linux

package e2e

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/node/fleet"
	"github.com/atolldb/atoll/node/process"
	"github.com/atolldb/atoll/node/topology"
)

// A long form of TestCatchUp, on a machine with processors for each region:
//
//	go test -tags e2e ./e2e -run '^TestCatchUp$' -v -timeout 30m -cut.apart -cut.for=5m
//
// With -cut.apart the goals are asked for: catching up 3 times as fast as was written, with
// operations 1.5 times as long at p99. Without it, two regions and what is written meanwhile
// share the processors; then it is to be as fast as was written. With -cut.rate, less
// than what the machine does is written during the cut; with -cut.idle, nothing while
// it catches up. Where the machine was not the same in both phases, what falls short is
// NOT JUDGED.
var (
	cutFor     = flag.Duration("cut.for", 5*time.Second, "for how long TestCatchUp writes as fast as it can while the regions are cut off")
	cutTimes   = flag.Float64("cut.times", 0, "how many times faster than they were written the writes must arrive at least; 0 for 3 with -cut.apart, else 1")
	cutPace    = flag.Int("cut.rate", 0, "how many writes a second TestCatchUp makes during the cut, 0 for as many as it can")
	cutNodes   = flag.Int("cut.nodes", 3, "nodes of each region of TestCatchUp; with -cut.apart they share the region's processor. One replicates to none there")
	cutIdle    = flag.Bool("cut.idle", false, "no client does anything while TestCatchUp catches up")
	cutApart   = flag.Bool("cut.apart", false, "each region of TestCatchUp, with its NATS server and its clients, is a process on a processor of its own, as if it were a machine")
	cutProfile = flag.String("cut.profile", "", "directory for a profile of each phase of each region, and for what its nodes do while one catches up, with -cut.apart")
	cutFelt    = flag.Float64("cut.felt", 0, "how many times longer operations may take at p99 meanwhile; 0 for 1.5 with -cut.apart, else any")
)

// TestCatchUp: what one region wrote during a cut, as fast as it could, arrives
// faster than it was written, while clients of both regions go on. A cut of seconds
// shows what the machine did in these: where one falls short, in new regions two more
// may not. The long form looks once.
func TestCatchUp(t *testing.T) {
	var short []string
	look := func(name string) bool {
		before := len(short)
		return t.Run(name, func(t *testing.T) { short = append(short, catchUp(t)...) }) && len(short) == before
	}
	if !look("once") && !t.Failed() && (*cutApart || !look("again") || !look("and again")) {
		t.Error(strings.Join(short, "\n"))
	}
}

// catchUp is one cut, and what fell short after it.
func catchUp(t *testing.T) (fell []string) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute+4**cutFor)
	defer cancel()
	leastTimes, mostFelt := *cutTimes, *cutFelt
	switch {
	case *cutApart && leastTimes == 0:
		leastTimes = 3
	case leastTimes == 0:
		leastTimes = 1
	}
	if *cutApart && mostFelt == 0 {
		mostFelt = 1.5
	}
	needDisk(t, *cutFor)
	cfg := fleet.Config{
		Regions: []topology.Region{"eu", "us"}, Nodes: *cutNodes, Latency: 20 * time.Millisecond,
		Memtable: 64 * process.MiB,
	}
	var sides []side
	if *cutApart {
		sides = startApart(t, ctx, cfg, *cutProfile)
	} else {
		f := startFleet(t, ctx, cfg)
		for _, region := range f.Regions() {
			sides = append(sides, newSide(t, ctx, f, region))
		}
	}
	eu, us := sides[0], sides[1]
	// both has clients of both regions work for so long.
	both := func(span time.Duration) (took [2][]time.Duration) {
		var all sync.WaitGroup
		for i, s := range sides {
			all.Go(func() { took[i] = s.Steady(span) })
		}
		all.Wait()
		return took
	}
	both(2 * time.Second) // warm
	before := both(min(max(*cutFor, 4*time.Second), 20*time.Second))

	for _, s := range sides {
		s.Cut()
	}
	spent := func() (of [2]time.Duration) {
		for i, s := range sides {
			of[i] = s.Spent()
		}
		return of
	}
	crossed := func() (sum uint64) {
		for _, s := range sides {
			sum += s.Crossed()
			if !*cutApart {
				break // it is of both
			}
		}
		return sum
	}
	own := func() time.Duration {
		of := spent()
		if *cutApart {
			return of[0] + of[1] + processorTime(t)
		}
		return of[0] // it is of both
	}
	spentBefore := spent()
	end := watchMachine(t, own)
	written := eu.FlatOut(*cutFor)
	cutting := end()
	spentWriting := spent()
	made := eu.Minted()

	crossedBefore := crossed()
	end = watchMachine(t, own)
	began := time.Now()
	for _, s := range sides {
		if !*cutIdle {
			s.Begin()
		}
		s.Heal()
	}
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for !us.Has(made) {
		select {
		case <-look.C:
		case <-ctx.Done():
			t.Fatal("it never catches up")
		}
	}
	took := time.Since(began)
	catching := end()
	spentCatching := spent()
	times := cutFor.Seconds() / took.Seconds()
	t.Logf("%d writes in %v, %.0f a second; caught up in %v, %.0f a second: %.2f times; %.2f bytes crossed for each byte",
		written, *cutFor, float64(written)/cutFor.Seconds(), took.Round(10*time.Millisecond), float64(written)/took.Seconds(), times,
		float64(crossed()-crossedBefore)/float64(written<<10))
	for i, who := range []string{"eu", "us"} {
		if !*cutApart {
			who = "both regions"
		}
		per := func(d time.Duration) time.Duration { return (d / time.Duration(written)).Round(100 * time.Nanosecond) }
		t.Logf("processor time in %s, clients included: of a write %v, of catching up with it %v",
			who, per(spentWriting[i]-spentBefore[i]), per(spentCatching[i]-spentWriting[i]))
		if !*cutApart {
			break
		}
	}
	t.Logf("the machine: during the cut %v; while it caught up %v", cutting, catching)
	short := func(format string, args ...any) {
		t.Helper()
		if why := unlike(cutting, catching); why != "" {
			t.Logf("NOT JUDGED: %s; %s", fmt.Sprintf(format, args...), why)
			return
		}
		t.Logf(format, args...)
		fell = append(fell, fmt.Sprintf(format, args...))
	}
	if times < leastTimes {
		short("caught up %.2f times as fast as it was written, at least %v is all right", times, leastTimes)
	}
	if *cutIdle {
		return fell
	}
	for i, region := range cfg.Regions {
		quiet, during := before[i], sides[i].End()
		a, b := p99(quiet), p99(during)
		felt := float64(b) / float64(a)
		t.Logf("clients of %s: p99 %v (p50 %v), %v (p50 %v) of %d operations while it catches up: %.2f times", region, a, quiet[len(quiet)/2], b, during[len(during)/2], len(during), felt)
		if mostFelt > 0 && felt > mostFelt {
			short("p99 in %s is %.2f times that without catching up, at most %v is all right", region, felt, mostFelt)
		}
	}
	return fell
}

// needDisk skips a test that may fill the disk with a cut of so long: the owners of both
// regions, six of them at most, keep each write of 1 KB, twice while tables are merged, and
// a log.
func needDisk(t *testing.T, cut time.Duration) {
	t.Helper()
	const spare = 4 << 30
	aWrite := uint64(1<<10 + 4<<10*min(*cutNodes, 3))
	most := 15_000. // writes a second
	if *cutPace > 0 {
		most = float64(*cutPace)
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(t.TempDir(), &fs); err != nil {
		t.Fatal(err)
	}
	need, have := uint64(cut.Seconds()*most)*aWrite+spare, fs.Bavail*uint64(fs.Bsize)
	if have < need {
		t.Skipf("NOT JUDGED: a cut of %v may take %d GiB of disk, %d are free", cut, need>>30, have>>30)
	}
}

// flatOut writes new keys of 1 KB for so long, as fast as it can or at the rate that
// was told, and returns how many.
func flatOut(t *testing.T, ctx context.Context, c *client.Client, span time.Duration) int {
	t.Helper()
	const writers = 32
	var all sync.WaitGroup
	var written atomic.Int64
	begin := time.Now()
	end := begin.Add(span)
	for w := range writers {
		all.Go(func() {
			r := rand.New(rand.NewPCG(1, uint64(w)))
			value := make([]byte, 1<<10)
			for i := 0; time.Now().Before(end); i++ {
				if *cutPace > 0 {
					due := begin.Add(time.Duration(i*writers+w) * time.Second / time.Duration(*cutPace))
					select {
					case <-time.After(time.Until(due)):
					case <-ctx.Done():
						return
					}
				}
				for j := range value {
					value[j] = byte(r.Uint32())
				}
				if _, err := c.Put(ctx, fmt.Sprint("cut-", w, "-", i), value, client.Overwrite()); err != nil {
					t.Errorf("put: %v", err)
					return
				}
				written.Add(1)
			}
		})
	}
	all.Wait()
	return int(written.Load())
}

// processorTime of this process, which all nodes and clients are.
func processorTime(t *testing.T) time.Duration {
	t.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
