package repair

import (
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/topology"
)

// far is another region. For each partition the first live owner here compares
// itself with one owner there, in turn, and spreads what it fetches over this
// region's owners.
type far struct {
	busy, urgent atomic.Bool

	// The rest is touched by rounds only, which follow one another.
	nodes map[topology.NodeID]*other
	turn  int
}

// farLoop begins a round with every region each beat, and at once when a log
// has a gap.
func (r *Repairer) farLoop(ctx context.Context) {
	var rounds sync.WaitGroup
	defer rounds.Wait()
	begin := func(urgent bool) {
		for _, g := range r.Regions() {
			if g.Topology == nil {
				continue
			}
			f := r.regions[g.Name]
			if f == nil {
				f = &far{nodes: map[topology.NodeID]*other{}}
				r.regions[g.Name] = f
			}
			if urgent {
				f.urgent.Store(true)
			}
			if f.busy.CompareAndSwap(false, true) {
				rounds.Go(func() {
					defer f.busy.Store(false)
					r.farRound(ctx, g, f)
				})
			}
		}
	}
	beat := time.NewTimer(r.jitter(r.cfg.RegionBeat))
	defer beat.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.Gap:
			begin(true)
		case <-beat.C:
			begin(false)
			beat.Reset(r.jitter(r.cfg.RegionBeat))
		}
	}
}

// farRound compares the partitions that are this node's to look after.
func (r *Repairer) farRound(ctx context.Context, g Region, f *far) {
	f.turn++
	urgent := f.urgent.Swap(false)
	top := r.Topology()
	parts := map[topology.NodeID][]hashring.Partition{}
	for _, p := range r.parts(top) {
		if int(p) >= g.Topology.Table.Partitions() || !r.firstLive(top, p) {
			continue
		}
		if there := r.answering(servers(g.Topology, p)); len(there) > 0 {
			// The same one for two rounds, since a gap must be seen twice.
			id := there[f.turn/2%len(there)]
			parts[id] = append(parts[id], p)
		}
	}
	ids := slices.Sorted(maps.Keys(parts))
	for _, id := range ids {
		if f.nodes[id] == nil {
			f.nodes[id] = newOther(link{id: id, region: g.Name})
		}
		f.nodes[id].share(g.Topology, parts[id])
		if urgent {
			f.nodes[id].urgent.Store(true)
		}
	}
	each(farNodes, len(ids), func(i int) {
		if ctx.Err() == nil {
			r.round(ctx, f.nodes[ids[i]])
		}
	})
}

// answering leaves out the nodes of another region that are known to be down, as
// long as one is left: a dead one would cost two rounds.
func (r *Repairer) answering(there []topology.NodeID) []topology.NodeID {
	var up []topology.NodeID
	for _, id := range there {
		if r.AliveAfar(id) {
			up = append(up, id)
		}
	}
	if len(up) == 0 {
		return there
	}
	return up
}

// firstLive reports whether this node is the first live one that serves p.
func (r *Repairer) firstLive(top *topology.Topology, p hashring.Partition) bool {
	for _, id := range servers(top, p) {
		if id == r.cfg.Self {
			return true
		}
		if r.Alive(id) {
			return false
		}
	}
	return false
}
