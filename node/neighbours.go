package node

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/atolldb/atoll/node/repair"
	"github.com/atolldb/atoll/node/topology"
)

const neighbourBeat = 5 * time.Second

// neighbours are the other regions' topologies, the newest that this node has
// heard of. Nobody pushes them: each node asks, now and then, some node of each
// region.
type neighbours struct {
	// known by region; the map is replaced, never changed.
	known atomic.Pointer[map[topology.Region]*topology.Topology]
	// told gets each newer one; nil tells nobody.
	told func(*topology.Topology)
}

func newNeighbours(first []*topology.Topology, told func(*topology.Topology)) *neighbours {
	m := make(map[topology.Region]*topology.Topology, len(first))
	for _, t := range first {
		m[t.Region] = t
	}
	n := &neighbours{told: told}
	n.known.Store(&m)
	return n
}

// learn takes t if it is of a known region and newer.
func (o *neighbours) learn(t *topology.Topology) {
	for {
		old := o.known.Load()
		have := (*old)[t.Region]
		if have == nil || have.Epoch >= t.Epoch || have.RegionID != t.RegionID ||
			have.Table.Partitions() != t.Table.Partitions() {
			return
		}
		next := make(map[topology.Region]*topology.Topology, len(*old))
		for r, k := range *old {
			next[r] = k
		}
		next[t.Region] = t
		if o.known.CompareAndSwap(old, &next) {
			if o.told != nil {
				o.told(t)
			}
			return
		}
	}
}

// get returns the newest known one of r, nil for a region that is not known.
func (o *neighbours) get(r topology.Region) *topology.Topology { return (*o.known.Load())[r] }

// gossip asks the other regions for their topologies.
type gossip struct {
	n    *Node
	rand *rand.Rand
}

// Run asks until ctx ends.
func (g gossip) Run(ctx context.Context) error {
	beat := time.NewTicker(neighbourBeat)
	defer beat.Stop()
	for {
		for _, first := range g.n.cfg.Others {
			t := g.n.others.get(first.Region)
			if len(t.Members) == 0 {
				continue
			}
			with := t.Members[g.rand.IntN(len(t.Members))].ID
			if _, err := g.n.exchange(ctx, with, t.Epoch, nil); err != nil && ctx.Err() == nil {
				g.n.log.Debug("topology of another region is not known anew", "region", string(t.Region), "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-beat.C:
		}
	}
}

// regions are the others, as repair needs to know them.
func (n *Node) regions() []repair.Region {
	var out []repair.Region
	for _, first := range n.cfg.Others {
		out = append(out, repair.Region{Name: first.Region, Topology: n.others.get(first.Region)})
	}
	return out
}
