package liveness_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/atolldb/atoll/node/liveness"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/topology"
)

const ms = time.Millisecond

// beats feeds n beats and returns in which the pace changed.
func beats(p *liveness.Pace, n int, latency func(i int) time.Duration) (changed []int) {
	for i := range n {
		if p.Beat(latency(i), 4*ms) {
			changed = append(changed, i)
		}
	}
	return changed
}

func always(d time.Duration) func(int) time.Duration { return func(int) time.Duration { return d } }

func TestPace(t *testing.T) {
	var p liveness.Pace
	if c := beats(&p, 1000, always(5*ms)); len(c) != 0 {
		t.Fatalf("a node as fast as others changed at %v", c)
	}
	if c := beats(&p, 100, always(100*ms)); len(c) != 1 || c[0] > 8 || !p.Slow() {
		t.Fatalf("a disk of 100 ms changed it at %v", c)
	}
	if c := beats(&p, 1000, always(0)); len(c) != 0 {
		t.Fatalf("a node that nobody asked changed at %v", c)
	}
	// Nearly as bad as before: neither.
	if c := beats(&p, 1000, always(15*ms)); len(c) != 0 || !p.Slow() {
		t.Fatalf("three times what is typical changed it back at %v", c)
	}
	if c := beats(&p, 100, always(5*ms)); len(c) != 1 || c[0] < 40 || p.Slow() {
		t.Fatalf("being fast again changed it at %v", c)
	}
	// A pause now and then is not slowness.
	if c := beats(&p, 1000, func(i int) time.Duration {
		if i%20 == 0 {
			return 60 * ms
		}
		return 4 * ms
	}); len(c) != 0 {
		t.Fatalf("pauses changed it at %v", c)
	}
}

// TestPaceDoesNotFlap: whatever the latencies, a node is slow for ten seconds
// at least (L4).
func TestPaceDoesNotFlap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var p liveness.Pace
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		levels := rapid.SliceOfN(rapid.IntRange(0, 400), 1, 5).Draw(t, "ms")
		since := 0
		for i := range 2000 {
			was := p.Slow()
			changed := p.Beat(time.Duration(levels[rng.IntN(len(levels))])*ms, 4*ms)
			if changed != (was != p.Slow()) {
				t.Fatal("what it reports is not what it did")
			}
			if changed {
				if was && i-since < 40 {
					t.Fatalf("slow for %d beats", i-since)
				}
				since = i
			}
		}
	})
}

func TestTypical(t *testing.T) {
	for _, c := range []struct {
		means []time.Duration
		want  time.Duration
	}{
		{nil, 0}, {[]time.Duration{5}, 0}, {[]time.Duration{0, 5}, 0}, {[]time.Duration{100, 5}, 5},
		{[]time.Duration{100, 5, 7}, 7}, {[]time.Duration{100, 0, 100, 5, 7}, 7},
	} {
		before := slices.Clone(c.means)
		if got := liveness.Typical(c.means); got != c.want || !slices.Equal(before, c.means) {
			t.Errorf("%v: %v, want %v", before, got, c.want)
		}
	}
}

// TestSlowPeer: found out by its latencies, left alone, tried now and then, and
// taken back.
func TestSlowPeer(t *testing.T) {
	inWorld(t, lan, func(t *testing.T, w *world) {
		asked := map[topology.NodeID]int{}
		slow := 100 * ms
		// Each 20 ms somebody writes to one of the two, b if it is not slow.
		run := func(d time.Duration) {
			clear(asked)
			for range d / (20 * ms) {
				pass(20 * ms)
				id, took := topology.NodeID("b"), slow
				if w.Slow("b", liveness.Writes) {
					id, took = "c", 3*ms
				}
				asked[id]++
				w.Took(id, liveness.Writes, took)
				w.Took("a", liveness.Writes, 2*ms)
			}
		}
		run(30 * time.Second)
		if n := asked["b"]; n > 150 || n < 20 {
			t.Errorf("the slow one was asked %d times of 1500", n)
		}
		if w.Slow("b", liveness.Reads) || w.Slow("c", liveness.Writes) || w.Slow("a", liveness.Writes) || w.Slow("nobody", liveness.Reads) {
			t.Error("others are slow")
		}
		if s := w.Stats()["b"]; !s.Slow[liveness.Writes] || s.Turns[liveness.Writes] != 1 || s.Falls != 0 || s.State != liveness.Up ||
			s.Latency[liveness.Writes] < 50*ms {
			t.Errorf("%+v", s)
		}
		slow = 3 * ms
		run(90 * time.Second)
		if s := w.Stats()["b"]; s.Slow[liveness.Writes] || s.Turns[liveness.Writes] != 2 {
			t.Errorf("fast again: %+v", s)
		}
	})
}

// TestManyPeersAreNotAllPinged: the pings of a large region do not grow with
// its square.
func TestManyPeersAreNotAllPinged(t *testing.T) {
	inWorld(t, lan, func(t *testing.T, w *world) {
		ids := []topology.NodeID{"a", "b", "c"}
		for i := range 998 {
			id := topology.NodeID(fmt.Sprint("n", i))
			w.net.Node(id, func(_ topology.NodeID, _ peer.Request, reply peer.Done) { reply(nil, nil) })
			ids = append(ids, id)
		}
		w.nodes.Store(&ids)
		pass(10 * time.Second) // all are asked once, at first
		count := func() (n uint64) {
			for _, s := range w.Stats() {
				n += s.Pings
			}
			return n
		}
		before := count()
		pass(60 * time.Second)
		got := float64(count()-before) / 60
		t.Logf("%.0f pings a second to 1000 peers", got)
		if got > 90 || got < 50 {
			t.Errorf("%.0f pings a second to 1000 peers", got)
		}
		w.net.Down("n7")
		if took := w.until(t, "n7", liveness.Down); took > 30*time.Second {
			t.Errorf("down after %v", took)
		}
	})
}
