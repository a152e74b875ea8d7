package nodetest

import (
	"flag"
	"maps"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/atolldb/atoll/internal/planted"
	"github.com/atolldb/atoll/node/peer/memnet"
)

var focusN = flag.Int("focus.n", 1, "number of seeds of each World that is made for one rule")

// aims are Worlds made for bugs that the usual ones take hundreds of seeds to
// find.
var aims = map[string]struct {
	shape  Shape
	length time.Duration
}{
	planted.ShipToAll: {Shape{Regions: 2, Nodes: 3, Partitions: 8, Parted: true, Settled: true}, 5 * time.Second},
	// A dot comes twice when a crash took what others have, and the node goes on
	// from what it has: slow disks, and crashes all the time.
	planted.ReuseActor: {Shape{Regions: 1, Nodes: 3, Partitions: 1, Focus: &Focus{
		faults: []fault{(*World).flicker}, every: 500 * time.Millisecond,
		keys: 2, clients: 3, think: 10 * time.Millisecond, sync: 50 * time.Millisecond,
		noise: memnet.Faults{MaxDelay: 2 * time.Millisecond},
	}}, 10 * time.Second},
	// A write goes by the old topology, and a read at once after it by the new.
	planted.IgnoreEpoch: {Shape{Regions: 1, Nodes: 5, Partitions: 2, Focus: &Focus{
		faults: []fault{(*World).deafen}, every: 300 * time.Millisecond,
		keys: 4, clients: 12, think: 10 * time.Millisecond,
		noise: memnet.Faults{MaxDelay: 5 * time.Millisecond},
	}}, 20 * time.Second},
	// Of what two acknowledged, one is wiped when the third returns.
	planted.ServeBehind: {Shape{Regions: 1, Nodes: 3, Partitions: 8, Focus: &Focus{
		faults: []fault{(*World).wipeWitness}, every: time.Second,
		keys: 10, clients: 6, think: 50 * time.Millisecond,
		noise: memnet.Faults{MaxDelay: 5 * time.Millisecond},
	}}, time.Minute},
	// The same, and the wiped one takes over what clocks say.
	planted.ClockFirst: {Shape{Regions: 1, Nodes: 3, Partitions: 8, Focus: &Focus{
		faults: []fault{(*World).wipeWitness}, every: time.Second,
		keys: 10, clients: 6, think: 50 * time.Millisecond,
		noise: memnet.Faults{MaxDelay: 20 * time.Millisecond, Drop: 0.02},
	}}, time.Minute},
	// Something is taken away where its successor is not yet, and comes later: two write
	// one key, each by his own answers, while links are cut.
	planted.EarlySettled: {rivalShape(2), rivalLength},
	planted.NearSettled:  {rivalShape(3), rivalLength},
	// Somebody finds what a proposer is about to decide, and has its acceptor go on,
	// before the proposer knows that it was decided.
	planted.TellMissed: {Shape{Regions: 1, Nodes: 3, Partitions: 8, Focus: &Focus{
		faults: []fault{(*World).halfHeard}, every: time.Second,
		keys: 2, clients: 1, think: 20 * time.Millisecond, deciders: 24, contested: 6,
		noise: memnet.Faults{MaxDelay: 5 * time.Millisecond},
	}}, 20 * time.Second},
	// A record is lost without a word, and not soon written again.
	planted.TrustClocks: {Shape{Regions: 1, Nodes: 3, Partitions: 8, Focus: &Focus{
		faults: []fault{(*World).vanish}, every: 10 * time.Second,
		keys: 10, clients: 3, think: 5 * time.Second,
		noise: memnet.Faults{MaxDelay: 5 * time.Millisecond},
	}}, 30 * time.Second},
}

// TestFocus: the Worlds in which bugs are planted that others rarely find have
// nothing to find without them.
func TestFocus(t *testing.T) {
	for _, bug := range slices.Sorted(maps.Keys(aims)) {
		t.Run(bug, func(t *testing.T) {
			for i := range *focusN {
				seed := *simSeed + uint64(i)
				var r Report
				synctest.Test(t, func(t *testing.T) {
					log := hclog.New(&hclog.LoggerOptions{Level: hclog.LevelFromString(*simLog), Output: os.Stderr})
					r = Simulate(t, seed, aims[bug].shape, aims[bug].length, log)
				})
				t.Log(r)
				for _, p := range r.Problems {
					t.Error(p)
				}
				if t.Failed() {
					t.Fatalf("replay: go test ./node/nodetest -run 'TestFocus/%s' -sim.seed=%d", bug, seed)
				}
			}
		})
	}
}
