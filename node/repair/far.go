package repair

import (
	"context"
	"fmt"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/wire"
)

// far is another region. For each partition the first live owner here compares
// itself with one owner there, in turn, and spreads what it fetches over this
// region's owners.
type far struct {
	Region
	nodes  map[topology.NodeID]*other
	turn   int
	urgent bool
}

func (r *Repairer) farRegion(g Region) *far {
	return &far{Region: g, nodes: map[topology.NodeID]*other{}}
}

// farRound compares the partitions that are this node's to look after.
func (r *Repairer) farRound(ctx context.Context, f *far) {
	f.turn++
	parts := map[topology.NodeID][]hashring.Partition{}
	for _, p := range r.Replica.Owned() {
		if !r.firstLive(p) {
			continue
		}
		owners := f.Owners(p)
		if len(owners) == 0 {
			continue
		}
		// The same one for two rounds, since a gap must be seen twice.
		id := topology.NodeID(owners[f.turn/2%len(owners)])
		parts[id] = append(parts[id], p)
	}
	for id, ps := range parts {
		o := f.nodes[id]
		if o == nil {
			o = r.other(id, nil, r.applySpread(f.Name))
			o.joinClock = r.joinClockSpread(f.Name)
			f.nodes[id] = o
		}
		o.parts = ps
		o.urgent = o.urgent || f.urgent
		r.round(ctx, o)
	}
	f.urgent = false
}

func (r *Repairer) firstLive(p hashring.Partition) bool {
	for _, o := range r.Topology().Owners(p) {
		if id := topology.NodeID(o); id == r.cfg.Self {
			return true
		} else if r.Alive(id) {
			return false
		}
	}
	return false
}

// applySpread applies entries here and then has the region's other owners take
// them, of which a quorum is enough. Here first: the clock of this node says
// what is still to be fetched, and after a full sync it speaks for what was
// (A2).
func (r *Repairer) applySpread(origin topology.Region) func(context.Context, []wire.Entry) (int, error) {
	return func(ctx context.Context, entries []wire.Entry) (int, error) {
		if len(entries) == 0 {
			return 0, nil
		}
		changed, err := r.applyHere(ctx, entries)
		if err != nil {
			return 0, err
		}
		return changed, r.ApplyRemote(ctx, string(origin), entries)
	}
}

// joinClockSpread marks the clock here only: the region's other owners learn
// it by comparing themselves with this one.
func (r *Repairer) joinClockSpread(origin topology.Region) func(context.Context, hashring.Partition, *crdt.Clock) error {
	return func(ctx context.Context, p hashring.Partition, c *crdt.Clock) error {
		if err := r.joinClockHere(ctx, p, c); err != nil {
			return fmt.Errorf("join clock of region %s: %w", origin, err)
		}
		return nil
	}
}
