package nodetest

import (
	"context"
	"fmt"
	"time"

	"github.com/atolldb/atoll/internal/pause"
	"github.com/atolldb/atoll/node/peer/memnet"
	"github.com/atolldb/atoll/node/topology"
)

// contest is a World that is full of deciders: two dozen in each region, four for
// a key, and under them every fault but disks that take back without a sign what
// they had made durable, which consensus does not promise to survive.
func contest(seed uint64) Shape {
	f := &Focus{
		faults: []fault{
			(*World).crashOne, (*World).crashOne, (*World).flicker, (*World).restartOne,
			(*World).pauseOne, (*World).pauseOne, (*World).cutNodes, (*World).cutNodes, (*World).cutRegions,
			(*World).skewHard, (*World).skewOne,
			(*World).joinOne, (*World).drainOne, (*World).swayOne, (*World).deafen, (*World).storeOutage,
			(*World).fullOne,
		},
		every: 1500 * time.Millisecond,
		keys:  4, clients: 1, think: 40 * time.Millisecond, deciders: 24, contested: 6,
		noise: memnet.Faults{MaxDelay: time.Duration(1+seed%5*5) * time.Millisecond},
	}
	if seed%2 == 0 {
		f.noise.Drop, f.noise.Duplicate = 0.01, 0.1
		f.noise.Reorder, f.noise.ReorderBy = 0.1, 2*time.Second
	}
	if seed%3 == 0 {
		f.sync = 50 * time.Millisecond
	}
	if seed%10 == 0 { // these wait for the World to be at rest, and everything with them
		f.faults = append(f.faults, (*World).wipeWitness, (*World).replaceOne)
	}
	return Shape{Regions: 1 + int(seed/2%2), Nodes: 3 + int(seed/4%3), Partitions: 8, Collect: seed%3 == 1, Focus: f}
}

// pauseOne stops the clockwork between a node and all others for longer than
// every timeout of an operation: what is sent meanwhile, either way, arrives long
// after its sender has given it up.
func (w *World) pauseOne(ctx context.Context) {
	m := w.someNode()
	w.faults.pauses++
	late := memnet.Faults{MinDelay: time.Duration(2500+w.rng.IntN(4000)) * time.Millisecond}
	late.MaxDelay = late.MinDelay + 50*time.Millisecond
	w.around(m.id, late)
	pause.For(ctx, time.Duration(1+w.rng.IntN(5000))*time.Millisecond)
	w.around(m.id, w.noise)
}

// around sets the faults of all links of a node.
func (w *World) around(id topology.NodeID, f memnet.Faults) {
	for _, m := range w.all() {
		if m.id != id {
			w.fabric.SetLink(id, m.id, f)
			w.fabric.SetLink(m.id, id, f)
		}
	}
}

// skewHard has a clock jump by seconds, forth or back, and soon to where it was.
func (w *World) skewHard(ctx context.Context) {
	w.faults.skews++
	m := w.someNode()
	was := m.skew.Load()
	m.skew.Store(int64(time.Duration(w.rng.IntN(6000)-3000) * time.Millisecond))
	pause.For(ctx, time.Duration(w.rng.IntN(1500))*time.Millisecond)
	m.skew.Store(was)
}

// verdicts sums up what porcupine said of several Worlds.
type verdicts struct {
	worlds, ops, homed, unknown, replayed int
	judged, illegal, undecided            int
}

func (v *verdicts) add(r Report) {
	v.worlds++
	v.ops += r.Serial
	v.homed += r.Homed
	v.unknown += r.SerialUnknown
	v.replayed += r.SerialReplays
	v.judged += r.Judged
	v.illegal += r.Illegal
	v.undecided += r.Undecided
}

func (v verdicts) String() string {
	return fmt.Sprintf("%d operations by consensus in %d Worlds (%d at SERIAL, %d of unknown outcome, %d replayed): porcupine judged %d, histories that are not linearizable %d, undecided %d",
		v.ops, v.worlds, v.homed, v.unknown, v.replayed, v.judged, v.illegal, v.undecided)
}
