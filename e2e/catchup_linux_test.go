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
	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/fleet"
	"github.com/atolldb/atoll/node/process"
	"github.com/atolldb/atoll/node/topology"
)

// A long form of TestCatchUp, on a machine with processors for each region:
//
//	go test -tags e2e ./e2e -run '^TestCatchUp$' -v -cut.for=5m -cut.times=3 -cut.felt=1.5
//
// The defaults are for two regions on two processors, where catching up shares them
// with what is written meanwhile. With -cut.rate, less than what the machine does is
// written during the cut; with -cut.idle, nothing while it catches up.
var (
	cutFor   = flag.Duration("cut.for", 5*time.Second, "for how long TestCatchUp writes as fast as it can while the regions are cut off")
	cutTimes = flag.Float64("cut.times", 1, "how many times faster than they were written the writes must arrive at least")
	cutPace  = flag.Int("cut.rate", 0, "how many writes a second TestCatchUp makes during the cut, 0 for as many as it can")
	cutIdle  = flag.Bool("cut.idle", false, "no client does anything while TestCatchUp catches up")
	cutFelt  = flag.Float64("cut.felt", 0, "how many times longer operations may take at p99 meanwhile, 0 for any")
)

// TestCatchUp: what one region wrote during a cut, as fast as it could, arrives
// faster than it was written, while clients of both regions go on.
func TestCatchUp(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute+4**cutFor)
	defer cancel()
	f := startFleet(t, ctx, fleet.Config{
		Regions: []topology.Region{"eu", "us"}, Nodes: 3, Latency: 20 * time.Millisecond,
		Memtable: 64 * process.MiB,
	})
	var clients []*client.Client
	for _, region := range f.Regions() {
		c, err := client.Open(ctx, strings.Join(f.Endpoints(region), ","))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		clients = append(clients, c)
	}
	// both has clients of both regions work for so long.
	both := func(span time.Duration) (took [2][]time.Duration) {
		var all sync.WaitGroup
		for i, c := range clients {
			all.Go(func() { took[i] = steadily(t, ctx, c, span) })
		}
		all.Wait()
		return took
	}
	both(2 * time.Second) // warm
	before := both(min(max(*cutFor, 4*time.Second), 20*time.Second))

	if err := f.Partition("eu", "us"); err != nil {
		t.Fatal(err)
	}
	spentBy := processorTime(t)
	written := flatOut(t, ctx, clients[0], *cutFor)
	writing := processorTime(t) - spentBy
	made := minted(f, "eu")

	crossed, spentBy := f.Crossed(), processorTime(t)
	began := time.Now()
	f.HealAll()
	var during [2][]time.Duration
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for caught := false; !caught; caught = has(f, "us", made) {
		if ctx.Err() != nil {
			t.Fatal("it never catches up")
		}
		if *cutIdle {
			select {
			case <-look.C:
			case <-ctx.Done():
			}
			continue
		}
		took := both(200 * time.Millisecond)
		for i := range during {
			during[i] = append(during[i], took[i]...)
		}
	}
	took := time.Since(began)
	catching := processorTime(t) - spentBy
	times := cutFor.Seconds() / took.Seconds()
	per := func(d time.Duration) time.Duration { return (d / time.Duration(written)).Round(100 * time.Nanosecond) }
	t.Logf("%d writes in %v, %.0f a second; caught up in %v, %.0f a second: %.2f times; %.2f bytes crossed for each byte; processor time of a write %v, of catching up with it, beside the clients, %v",
		written, *cutFor, float64(written)/cutFor.Seconds(), took.Round(10*time.Millisecond), float64(written)/took.Seconds(), times,
		float64(f.Crossed()-crossed)/float64(written<<10), per(writing), per(catching))
	if times < *cutTimes {
		t.Errorf("caught up %.2f times as fast as it was written, at least %v is all right", times, *cutTimes)
	}
	if *cutIdle {
		return
	}
	for i, region := range f.Regions() {
		quiet, busy := p99(before[i]), p99(during[i])
		felt := float64(busy) / float64(quiet)
		t.Logf("clients of %s: p99 %v, %v while it catches up: %.2f times", region, quiet, busy, felt)
		if *cutFelt > 0 && felt > *cutFelt {
			t.Errorf("p99 in %s is %.2f times that without catching up, at most %v is all right", region, felt, *cutFelt)
		}
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

// minted is what a region's owners have, by partition.
func minted(f *fleet.Fleet, region topology.Region) map[hashring.Partition]*crdt.Clock {
	clocks := map[hashring.Partition]*crdt.Clock{}
	each(f, region, func(p hashring.Partition, c *crdt.Clock) {
		if was := clocks[p]; was != nil {
			c.Join(was)
		}
		clocks[p] = c
	})
	return clocks
}

// has reports whether all owners of a region have what is in clocks.
func has(f *fleet.Fleet, region topology.Region, clocks map[hashring.Partition]*crdt.Clock) bool {
	all := true
	each(f, region, func(p hashring.Partition, c *crdt.Clock) { all = all && c.Covers(clocks[p]) })
	return all
}

func each(f *fleet.Fleet, region topology.Region, do func(hashring.Partition, *crdt.Clock)) {
	for _, id := range f.Nodes() {
		n := f.Process(id).Node()
		if n.Topology().Region != region {
			continue
		}
		for _, p := range n.Replica().Owned() {
			do(p, n.Replica().Clock(p))
		}
	}
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
