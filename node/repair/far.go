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

// far is another region. For each partition the first live owner here compares
// itself with one owner there, in turn, and spreads what it fetches over this
// region's owners.
type far struct {
	busy, urgent atomic.Bool

	// The rest is touched by rounds only, which follow one another.
	nodes map[topology.NodeID]*other
	turn  int
	// late is what was missing when that was looked at first, less what has come, and moved
	// when some of it came last.
	late  map[hashring.Partition]*crdt.Clock
	moved time.Time
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
				f = &far{nodes: map[topology.NodeID]*other{}, late: map[hashring.Partition]*crdt.Clock{}}
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

// logPatience is for how long nothing of what is late may come by a log that is heard.
const logPatience = 30 * time.Second

// leaveToLog reports whether what this node still lacks is left to g's log, which is late
// and brings it: after a cut, all that was written in it would come twice. It asks for
// what was missing when it was looked at first, and nothing else, so that this ends: in
// all partitions at once, since the log brings one after the other.
func (r *Repairer) leaveToLog(g Region, f *far, now time.Time) bool {
	n := uint64(0)
	for p, late := range f.late {
		mine := r.Replica.Clock(p)
		if mine == nil || mine.Covers(late) {
			delete(f.late, p)
			f.moved = now
			continue
		}
		if mine.Overlaps(late) {
			f.late[p], f.moved = mine.Beyond(late), now
		}
		n += mine.CountMissing(late)
	}
	return n > r.cfg.LittleLate && now.Sub(f.moved) < logPatience && r.Hears(g.Name)
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
	late := r.leaveToLog(g, f, time.Now()) && !urgent
	if !late {
		clear(f.late)
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
			r.round(ctx, f.nodes[ids[i]], late)
		}
	})
	if len(f.late) == 0 {
		for _, id := range ids {
			maps.Copy(f.late, f.nodes[id].past.lacked)
		}
		f.moved = time.Now()
	}
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
