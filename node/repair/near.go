package repair

import (
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/topology"
)

// firstLook is how long after its start, at most, a node asks its peers what it
// has missed.
const firstLook = 250 * time.Millisecond

// nearLoop begins a round with every live peer each beat, and at once with one
// that has come back. A round that is still under way is not begun again.
func (r *Repairer) nearLoop(ctx context.Context) {
	var rounds sync.WaitGroup
	defer rounds.Wait()
	slots := make(chan struct{}, nearRounds)
	begin := func(o *other) {
		if !o.busy.CompareAndSwap(false, true) {
			return
		}
		rounds.Go(func() {
			defer o.busy.Store(false)
			select {
			case slots <- struct{}{}:
				defer func() { <-slots }()
				r.round(ctx, o, false)
			case <-ctx.Done():
			}
		})
	}
	beat := time.NewTimer(r.jitter(min(r.cfg.Beat/4, firstLook)))
	defer beat.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case id := <-r.Up:
			r.meetPeers()
			if o := r.peers[id]; o != nil {
				// It may have lost its memory; its next answer tells.
				r.known.forget(id)
				o.urgent.Store(true)
				begin(o)
			}
		case <-beat.C:
			r.meetPeers()
			for _, id := range slices.Sorted(maps.Keys(r.peers)) {
				if r.Alive(id) {
					begin(r.peers[id])
				}
			}
			beat.Reset(r.jitter(r.beat()))
		}
	}
}

// beat is shorter while this node does not answer for all of its partitions.
func (r *Repairer) beat() time.Duration {
	if r.Replica.BehindCount() > 0 {
		return r.cfg.Beat / 5
	}
	return r.cfg.Beat
}

// meetPeers follows the topology. Who stays keeps what is known of it.
func (r *Repairer) meetPeers() {
	top := r.Topology()
	if top.Epoch == r.epoch {
		return
	}
	r.epoch = top.Epoch
	shared := peersOf(top, r.cfg.Self)
	for id := range r.peers {
		if shared[id] == nil {
			delete(r.peers, id)
			r.met.forget(id)
			r.known.forget(id)
		}
	}
	for id, parts := range shared {
		o := r.peers[id]
		if o == nil {
			o = newOther(link{id: id})
			o.urgent.Store(true) // whatever was missed while this node was away
			r.peers[id] = o
		}
		o.share(top, parts)
	}
}

// other is a node to compare with, again and again. Its rounds follow one
// another.
type other struct {
	link
	busy atomic.Bool
	// urgent: do not wait for a second round before pulling.
	urgent atomic.Bool
	past   past // of the last round; touched by rounds only

	mu sync.Mutex
	// parts are shared with it, in top.
	parts []hashring.Partition
	top   *topology.Topology
}

// past is what a round leaves to the next one.
type past struct {
	// lacked is what the other had and this node had not.
	lacked map[hashring.Partition]*crdt.Clock
	// suspect are the partitions whose digests differed at equal clocks. (With
	// writes going on, the state is another one each time.)
	suspect map[hashring.Partition]bool
	// Of the round that goes by it: whatever is missing is overdue, or on its way.
	urgent, late bool
}

func newOther(l link) *other { return &other{link: l} }

// share says which partitions the next rounds are about.
func (o *other) share(top *topology.Topology, parts []hashring.Partition) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.top, o.parts = top, parts
}

func (o *other) shared() (*topology.Topology, []hashring.Partition) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.top, o.parts
}
