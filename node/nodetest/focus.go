package nodetest

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/internal/pause"
	"github.com/atolldb/atoll/node/peer/memnet"
	"github.com/atolldb/atoll/node/topology"
)

// fault injects one and ends it; it returns early when ctx ends.
type fault func(*World, context.Context)

// Focus is a World that is made for one rule: a few faults, in a tight loop,
// with what makes a breach of the rule show soon. It finds in seconds what a
// World that has everything finds in hours, and nothing else.
type Focus struct {
	// faults, each as likely as any other.
	faults []fault
	// every is how long it is from one fault to the next, at most.
	every time.Duration
	// keys are how many keys there are, clients how many each region has, and think
	// is how long one waits between two operations at most.
	keys, clients int
	think         time.Duration
	// deciders are how many each region has, which work on so many contested keys
	// at a time.
	deciders, contested int
	// sync is how long every disk takes at most.
	sync  time.Duration
	noise memnet.Faults
}

// flicker crashes a node and starts it at once: what it had not synced, others
// may have.
func (w *World) flicker(ctx context.Context) {
	m := w.someNode()
	w.faults.crashes++
	w.Crash(m)
	pause.For(ctx, time.Duration(w.rng.IntN(20))*time.Millisecond)
	w.Start(m)
}

// vanish has a disk lose a record without a word.
func (w *World) vanish(context.Context) {
	w.faults.lostRecords++
	w.loseRecord(w.someNode())
}

// swayOne changes the weight of a node, so that partitions leave it, or come
// back to it.
func (w *World) swayOne(ctx context.Context) {
	region := w.rng.IntN(len(w.tops))
	up := w.owners(region)
	if len(up) == 0 {
		return
	}
	c := topology.Weight{Nodes: []topology.NodeID{up[w.rng.IntN(len(up))]}, Weight: 1 + 4*w.rng.IntN(2)}
	if w.commit(ctx, region, c) {
		w.faults.sways++
	}
}

// deafen keeps the topology's changes from one node, which goes on by the last
// one that it knows: it is cut off from the store and from who leads, and is heard
// by nobody but one node, which owns a partition with it and moves meanwhile.
func (w *World) deafen(ctx context.Context) {
	region := w.rng.IntN(len(w.tops))
	t := w.stored(region)
	if t == nil {
		return
	}
	owners := t.Owners(hashring.Partition(w.rng.IntN(w.shape.Partitions)))
	at := w.rng.Perm(len(owners))
	deaf, mover := w.member(topology.NodeID(owners[at[0]])), topology.NodeID(owners[at[1]])
	if deaf == nil || deaf.ear.leads.Load() {
		return
	}
	w.faults.deaf++
	deaf.ear.setDeaf(true)
	defer deaf.ear.setDeaf(false)
	var cut [][2]topology.NodeID
	for _, m := range w.all() {
		if m == deaf || m.region != region {
			continue
		}
		if m.id != mover {
			cut = append(cut, [2]topology.NodeID{deaf.id, m.id})
		}
		if m.ear.leads.Load() {
			cut = append(cut, [2]topology.NodeID{m.id, deaf.id})
		}
	}
	defer w.cut(cut)()
	weight := 5
	if m := t.Member(mover); m != nil && m.Weight > 1 {
		weight = 1
	}
	if w.commit(ctx, region, topology.Weight{Nodes: []topology.NodeID{mover}, Weight: weight}) {
		w.faults.sways++
	}
	pause.For(ctx, time.Duration(200+w.rng.IntN(1500))*time.Millisecond)
	// In the middle of its move the mover is not reached either by who leads.
	cut = nil
	for _, m := range w.all() {
		if m.region == region && m.ear.leads.Load() && m.id != mover {
			cut = append(cut, [2]topology.NodeID{mover, m.id}, [2]topology.NodeID{m.id, mover})
		}
	}
	defer w.cut(cut)()
	pause.For(ctx, time.Duration(w.rng.IntN(3000))*time.Millisecond)
}

// halfHeard has a second node take a first one, which hears it, for dead, and so do what
// the first one does. The first hears a third one late, and that misses half of what the
// second one says.
func (w *World) halfHeard(ctx context.Context) {
	w.faults.cuts++
	first := w.someNode()
	var others []*member
	for _, m := range w.all() {
		if m != first && m.region == first.region && !m.gone.Load() {
			others = append(others, m)
		}
	}
	w.rng.Shuffle(len(others), func(i, j int) { others[i], others[j] = others[j], others[i] })
	second, third := others[0], others[1]
	defer w.cut([][2]topology.NodeID{{first.id, second.id}})()
	late := time.Duration(20+w.rng.IntN(300)) * time.Millisecond
	w.fabric.SetLink(third.id, first.id, memnet.Faults{MinDelay: late, MaxDelay: late + 50*time.Millisecond})
	w.fabric.SetLink(second.id, third.id, memnet.Faults{MaxDelay: w.noise.MaxDelay, Drop: 0.5})
	pause.For(ctx, time.Duration(200+w.rng.IntN(1800))*time.Millisecond)
	w.fabric.SetLink(third.id, first.id, w.noise)
	w.fabric.SetLink(second.id, third.id, w.noise)
}

// cut cuts links and returns what mends them.
func (w *World) cut(links [][2]topology.NodeID) (mend func()) {
	for _, c := range links {
		w.fabric.Cut(c[0], c[1])
	}
	return func() {
		for _, c := range links {
			w.fabric.Heal(c[0], c[1])
		}
	}
}

// ear is how a node hears of its region's topology: the region's store, which
// all share, and from which one node may be cut off.
type ear struct {
	topology.Store
	deaf  atomic.Pointer[chan struct{}] // closed when it hears again
	leads atomic.Bool                   // it was told so when it asked last
}

func (e *ear) setDeaf(on bool) {
	if on {
		c := make(chan struct{})
		e.deaf.Store(&c)
	} else if c := e.deaf.Swap(nil); c != nil {
		close(*c)
	}
}

// await returns when the store can be reached, or with ctx's error.
func (e *ear) await(ctx context.Context) error {
	if c := e.deaf.Load(); c != nil {
		select {
		case <-*c:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (e *ear) Load(ctx context.Context) (*topology.Topology, topology.Revision, error) {
	if err := e.await(ctx); err != nil {
		return nil, 0, err
	}
	return e.Store.Load(ctx)
}

func (e *ear) Swap(ctx context.Context, t *topology.Topology, at topology.Revision) (topology.Revision, error) {
	if err := e.await(ctx); err != nil {
		return 0, err
	}
	return e.Store.Swap(ctx, t, at)
}

func (e *ear) Watch(ctx context.Context, each func(*topology.Topology, topology.Revision)) error {
	return e.Store.Watch(ctx, func(t *topology.Topology, at topology.Revision) {
		if e.await(ctx) == nil {
			each(t, at)
		}
	})
}

func (e *ear) Lead(ctx context.Context, node topology.NodeID, ttl time.Duration) (topology.NodeID, error) {
	if err := e.await(ctx); err != nil {
		e.leads.Store(false)
		return "", err
	}
	leader, err := e.Store.Lead(ctx, node, ttl)
	e.leads.Store(err == nil && leader == node)
	return leader, err
}
