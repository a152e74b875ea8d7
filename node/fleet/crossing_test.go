package fleet_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/node/fleet"
	"github.com/atolldb/atoll/node/topology"
)

// noise returns n bytes that do not shrink.
func noise(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// A key that is written ten thousand times while the regions are cut off from
// each other crosses a few times, not ten thousand: here with others between.
func TestHotKeyCrossesAFewTimes(t *testing.T) {
	t.Parallel()
	f, ctx := start(t, fleet.Config{Regions: []topology.Region{"eu", "us"}, Nodes: 1, Partitions: 16})
	eu, us := open(t, ctx, f, "eu"), open(t, ctx, f, "us")
	put := func(key string, value []byte) {
		if _, err := eu.Put(ctx, key, value, client.Overwrite()); err != nil {
			t.Error(err)
		}
	}
	put("hot", []byte("first"))
	eventually(t, ctx, "the first write in us", func() bool {
		_, err := us.Get(ctx, "hot")
		return err == nil
	})
	if err := f.Partition("eu", "us"); err != nil {
		t.Fatal(err)
	}
	first := f.Process("eu-1").Node().Figures().Pump
	const writes, size, writers, duration = 10_000, 4 << 10, 8, 6 * time.Second
	var load sync.WaitGroup
	for w := range writers {
		load.Go(func() {
			r := rand.New(rand.NewPCG(1, uint64(w)))
			beat := time.NewTicker(duration / (writes / writers))
			defer beat.Stop()
			for i := range writes / writers {
				<-beat.C
				put("hot", noise(r, size))
				if i%50 == 0 {
					put(fmt.Sprintf("cold-%d-%d", w, i), noise(r, size))
				}
			}
		})
	}
	load.Wait()
	last := noise(rand.New(rand.NewPCG(2, 2)), size)
	put("hot", last)
	before, cut := f.Crossed(), f.Process("eu-1").Node().Figures().Pump
	if err := f.Heal("eu", "us"); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	eventually(t, ctx, "equal regions", func() bool { return f.Converged() == nil })
	if obj, err := us.Get(ctx, "hot"); err != nil || string(obj.Value()) != string(last) {
		t.Errorf("us has not the last value: %v", err)
	}
	crossed := f.Crossed() - before
	pump := f.Process("eu-1").Node().Figures().Pump
	hot := pump.Entries - first.Entries - writes/50
	t.Logf("%d writes of %d bytes, equal %v after the cut: the hot key was shipped %d times, in %d messages before it was clear that nobody takes them; %d bytes crossed",
		writes, size, time.Since(began).Round(time.Millisecond), hot, cut.Batches-first.Batches, crossed)
	// What was shipped before it was clear crosses, too: the pause before each message
	// is longer than the one before. The others are 200, which repair may have begun
	// to fetch by itself.
	if hot > 8 || crossed > 2<<20 {
		t.Errorf("the hot key was shipped %d times, and %d bytes crossed", hot, crossed)
	}
}

// In quiet times what crosses between regions is little more than what was
// written: values of 1 KB that do not shrink, heartbeats and pings included.
func TestBytesThatCross(t *testing.T) {
	t.Parallel()
	f, ctx := start(t, fleet.Config{Regions: []topology.Region{"eu", "us"}, Nodes: 1, Partitions: 64})
	eu := open(t, ctx, f, "eu")
	eventually(t, ctx, "equal regions", func() bool { return f.Converged() == nil })
	const writes, size, writers = 8000, 1 << 10, 16
	before := f.Crossed()
	write(t, ctx, eu, writes, size, writers)
	eventually(t, ctx, "equal regions", func() bool { return f.Converged() == nil })
	ratio := float64(f.Crossed()-before) / (writes * size)
	t.Logf("%.2f bytes crossed for each byte of value", ratio)
	if ratio > 1.3 {
		t.Errorf("%.2f bytes crossed for each byte of value, at most 1.3 are all right", ratio)
	}
}

// write puts new keys, from several writers at once.
func write(t *testing.T, ctx context.Context, c *client.Client, writes, size, writers int) {
	var load sync.WaitGroup
	for w := range writers {
		load.Go(func() {
			r := rand.New(rand.NewPCG(3, uint64(w)))
			for i := range writes / writers {
				if _, err := c.Put(ctx, fmt.Sprintf("k-%d-%d", w, i), noise(r, size), client.Overwrite()); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	load.Wait()
}
