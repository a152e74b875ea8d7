package nodetest

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/atolldb/atoll/geo/memlog"
	"github.com/atolldb/atoll/internal/pause"
	"github.com/atolldb/atoll/node/peer/memnet"
	"github.com/atolldb/atoll/node/topology"
)

// faultCount counts injected faults by class.
type faultCount struct {
	crashes, restarts, wipes, rollbacks, lostRecords, corrupted int
	cuts, regionCuts, logLosses, skews                          int
	joins, drains, replaced, storeOutages                       int
	sways, deaf, pauses                                         int
	// backups are those of the rollbacks that put back a whole data directory.
	backups int
	// fullDisks are disks that others filled; caughtUp counts owners that were seen
	// to catch up after that, and refilled regions that were seen to take writes.
	fullDisks, caughtUp, refilled int
}

func (f faultCount) String() string {
	var b strings.Builder
	for _, c := range []struct {
		name string
		n    int
	}{
		{"crashes", f.crashes}, {"clean restarts", f.restarts}, {"wipes", f.wipes}, {"rollbacks", f.rollbacks}, {"backups put back", f.backups},
		{"lost records", f.lostRecords}, {"unreadable records", f.corrupted}, {"cuts", f.cuts}, {"region cuts", f.regionCuts}, {"log losses", f.logLosses}, {"skews", f.skews},
		{"joins", f.joins}, {"drains", f.drains}, {"replaced", f.replaced}, {"store outages", f.storeOutages},
		{"weights", f.sways}, {"old topologies", f.deaf}, {"pauses", f.pauses}, {"full disks", f.fullDisks}, {"caught up", f.caughtUp}, {"taking writes again", f.refilled},
	} {
		if c.n > 0 {
			fmt.Fprintf(&b, "%s %d, ", c.name, c.n)
		}
	}
	return strings.TrimSuffix(b.String(), ", ")
}

// chaos injects faults until ctx ends. Which ones, and how often, is drawn per
// seed, so that some Worlds see much of one fault and none of another.
//
// What destroys durable state (wipe, rollback, a silently lost record) hits one
// node at a time, and only after the World has been whole and had time to
// repair itself: N=3 with W=2 promises to survive that, not more.
func (w *World) chaos(ctx context.Context) {
	if f := w.shape.Focus; f != nil {
		w.noise = f.noise
		w.fabric.SetAll(f.noise)
		for pause.For(ctx, time.Duration(w.rng.Int64N(int64(f.every)))) {
			f.faults[w.rng.IntN(len(f.faults))](w, ctx)
		}
		return
	}
	noise := memnet.Faults{MaxDelay: time.Duration(1+w.rng.IntN(20)) * time.Millisecond}
	if w.rng.IntN(2) == 0 {
		noise.Drop = w.rng.Float64() * 0.1
		noise.Duplicate = w.rng.Float64() * 0.2
		noise.Reorder, noise.ReorderBy = w.rng.Float64()*0.3, 2*time.Second
	}
	w.noise = noise
	w.fabric.SetAll(noise)
	logs := memlog.Faults{DelayMin: time.Millisecond, DelayMax: 40 * time.Millisecond}
	if w.rng.IntN(2) == 0 {
		logs.Refuse, logs.Unsure = w.rng.Float64()*0.1, w.rng.Float64()*0.1
		logs.Lose = w.rng.Float64() * 0.2
		logs.Duplicate = w.rng.Float64() * 0.2
		w.faults.logLosses++
	}
	w.cloud.SetFaults(logs)
	// Weights of the faults of this seed.
	kinds := []func(context.Context){w.crashOne, w.restartOne, w.cutNodes, w.cutRegions, w.skewOne, w.destroyOne, w.wipeWitness, w.recreateLog,
		w.fullOne, w.fullOwner, w.fullRegion}
	switch {
	case w.shape.Churn:
		kinds = []func(context.Context){w.joinOne, w.drainOne, w.drainOne, w.swayOne, w.deafen, w.crashOne, w.cutNodes, w.fullOne}
	case !w.shape.Settled:
		kinds = append(kinds, w.joinOne, w.drainOne, w.replaceOne, w.storeOutage, w.swayOne, w.deafen)
	}
	weights := make([]int, len(kinds))
	for i := range weights {
		weights[i] = w.rng.IntN(4)
	}
	weights[w.rng.IntN(len(weights))]++
	for pause.For(ctx, time.Duration(200+w.rng.IntN(3000))*time.Millisecond) {
		total := 0
		for _, x := range weights {
			total += x
		}
		pick := w.rng.IntN(total)
		for i, x := range weights {
			if pick -= x; pick < 0 {
				kinds[i](ctx)
				break
			}
		}
	}
}

// someNode is one that is not dead for good.
func (w *World) someNode() *member {
	var there []*member
	for _, m := range w.all() {
		if !m.gone.Load() {
			there = append(there, m)
		}
	}
	return there[w.rng.IntN(len(there))]
}

func (w *World) crashOne(ctx context.Context) {
	m := w.someNode()
	w.faults.crashes++
	w.Crash(m)
	pause.For(ctx, time.Duration(w.rng.IntN(4000))*time.Millisecond)
	w.Start(m)
}

func (w *World) restartOne(ctx context.Context) {
	m := w.someNode()
	w.faults.restarts++
	w.Stop(m)
	pause.For(ctx, time.Duration(w.rng.IntN(2000))*time.Millisecond)
	w.Start(m)
}

// cutNodes cuts one node from some others of its region, one way or both.
func (w *World) cutNodes(ctx context.Context) {
	a, b := w.someNode(), w.someNode()
	if a == b {
		return
	}
	w.faults.cuts++
	w.fabric.Cut(a.id, b.id)
	if w.rng.IntN(2) == 0 {
		w.fabric.Cut(b.id, a.id)
	}
	pause.For(ctx, time.Duration(w.rng.IntN(6000))*time.Millisecond)
	w.fabric.Heal(a.id, b.id)
	w.fabric.Heal(b.id, a.id)
}

func (w *World) cutRegions(ctx context.Context) {
	if len(w.tops) < 2 {
		return
	}
	w.faults.regionCuts++
	a := w.rng.IntN(len(w.tops))
	b := (a + 1) % len(w.tops)
	w.fabric.Partition(w.ids(a), w.ids(b))
	w.cloud.Cut(w.name(a), w.name(b), true)
	w.cloud.Cut(w.name(b), w.name(a), true)
	pause.For(ctx, time.Duration(w.rng.IntN(10000))*time.Millisecond)
	w.fabric.HealAll()
	w.cloud.Cut(w.name(a), w.name(b), false)
	w.cloud.Cut(w.name(b), w.name(a), false)
}

func (w *World) recreateLog(context.Context) {
	if len(w.tops) < 2 {
		return
	}
	w.faults.logLosses++
	w.cloud.Recreate(w.name(w.rng.IntN(len(w.tops))))
}

func (w *World) member(id topology.NodeID) *member {
	for _, m := range w.all() {
		if m.id == id {
			return m
		}
	}
	return nil
}

func (w *World) ids(region int) []topology.NodeID {
	var out []topology.NodeID
	for _, m := range w.all() {
		if m.region == region && !m.gone.Load() {
			out = append(out, m.id)
		}
	}
	return out
}

func (w *World) name(region int) string { return string(w.tops[region].Region) }

func (w *World) skewOne(context.Context) {
	w.faults.skews++
	w.someNode().skew.Store(int64(time.Duration(w.rng.IntN(800)-400) * time.Millisecond))
}

// destroyOne takes durable state from one node, after and before a time in
// which nothing else goes wrong.
func (w *World) destroyOne(ctx context.Context) {
	// A backup of the data directory is taken now, and put back later.
	m := w.someNode()
	clean := w.rng.IntN(2) == 0
	if clean {
		w.Stop(m)
	}
	backup := m.disk.Copy()
	w.Start(m)
	if !w.settle(ctx) {
		return
	}
	switch w.rng.IntN(5) {
	case 0:
		w.faults.wipes++
		w.Crash(m)
		if err := m.disk.Wipe(); err != nil {
			w.t.Errorf("wipe %s: %v", m.id, err)
		}
	case 1:
		w.mu.Lock()
		w.faults.rollbacks++
		w.mu.Unlock()
		if w.rng.IntN(2) == 0 {
			w.Stop(m)
		} else {
			w.Crash(m)
		}
		if _, err := m.disk.RollBack(1 + w.rng.IntN(50)); err != nil {
			w.t.Errorf("roll back %s: %v", m.id, err)
		}
	case 2:
		w.faults.lostRecords++
		w.loseRecord(m)
	case 3:
		w.mu.Lock()
		w.faults.rollbacks++
		w.faults.backups++
		w.mu.Unlock()
		w.Crash(m)
		m.disk = backup
	default:
		w.faults.corrupted++
		if key := w.someRecord(m); key != nil {
			m.disk.CorruptValue(recordKey(key))
		}
	}
	w.Start(m)
	w.settle(ctx)
}

// wipeWitness cuts one node of a region off, so that writes are acknowledged by
// the others alone, and wipes one of those at the moment when the first returns:
// now a single disk has those writes, and a quorum of reads must find it.
func (w *World) wipeWitness(ctx context.Context) {
	if !w.settle(ctx) {
		return
	}
	ids := w.ids(w.rng.IntN(len(w.tops)))
	w.rng.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
	away, witness := ids[0], w.member(ids[1])
	w.fabric.Partition([]topology.NodeID{away}, ids[1:])
	w.faults.cuts++
	if !pause.For(ctx, 2*time.Second) {
		w.fabric.HealAll()
		return
	}
	w.faults.wipes++
	w.Crash(witness)
	if err := witness.disk.Wipe(); err != nil {
		w.t.Errorf("wipe %s: %v", witness.id, err)
	}
	w.fabric.HealAll()
	w.Start(witness)
	w.settle(ctx)
}

// settle waits until the World is whole again, as far as repair can tell.
func (w *World) settle(ctx context.Context) bool {
	if f := w.shape.Focus; f != nil && f.deciders > 0 {
		w.resting.Add(1)
		defer w.resting.Add(-1)
	}
	if !pause.For(ctx, 15*time.Second) { // a pass of the scrub
		return false
	}
	for range 120 {
		if !pause.For(ctx, time.Second) {
			return false
		}
		if w.converged() == "" {
			return true
		}
	}
	return false
}
