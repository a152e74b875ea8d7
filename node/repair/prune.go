package repair

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/internal/pause"
	"github.com/atolldb/atoll/node/topology"
)

// pruneLoop looks each PruneBeat which dots everybody has.
func (r *Repairer) pruneLoop(ctx context.Context) {
	pruned := map[hashring.Partition]*crdt.Clock{}
	for pause.For(ctx, r.jitter(r.cfg.PruneBeat)) {
		r.prune(ctx, pruned)
	}
}

// prune asks all owners of this node's partitions, in all regions, what they
// have, and gives up the index entries of the dots that everybody has. An owner
// that does not answer is taken at its last word; of one that never gave any,
// nothing is taken. pruned is what was given up before.
func (r *Repairer) prune(ctx context.Context, pruned map[hashring.Partition]*crdt.Clock) {
	top, others := r.Topology(), r.Regions()
	parts := r.parts(top)
	shares, ok := sharesOf(top, others, parts, r.cfg.Self)
	if !ok {
		return
	}
	r.known.retain(shares)
	r.askEverybody(ctx, shares)
	r.returned(shares)
	r.giveUp(ctx, shares, parts, pruned)
	for ctx.Err() == nil && r.keepBudget(ctx, shares, parts) {
		r.giveUp(ctx, shares, parts, pruned)
	}
}

// giveUp prunes what everybody has who is waited for.
func (r *Repairer) giveUp(ctx context.Context, shares shares, parts []hashring.Partition, pruned map[hashring.Partition]*crdt.Clock) {
	owners := shares.owners(r.unwaited.has)
	maps.DeleteFunc(pruned, func(p hashring.Partition, _ *crdt.Clock) bool { return !r.Replica.Owns(p) })
	for _, p := range parts {
		base := r.heldBy(p, owners[p])
		if base == nil {
			continue
		}
		if old := pruned[p]; old != nil && old.Covers(base) || len(base.Actors()) == 0 {
			continue // nothing new
		}
		began := time.Now()
		if err := r.pruneIndex(ctx, p, base); err != nil {
			if ctx.Err() != nil {
				return
			}
			r.Log.Warn("pruning of an index failed", "partition", int(p), "error", err)
			continue
		}
		pruned[p] = base
		r.unwaited.gave(p, base)
		r.stats.Prunings.Add(1)
		if !pause.For(ctx, rest(time.Since(began), r.Busy())) {
			return
		}
	}
}

// heldBy is what this node and all of owners have of p by their last word, nil where
// one of them has never given any.
func (r *Repairer) heldBy(p hashring.Partition, owners []topology.NodeID) *crdt.Clock {
	clocks, ok := r.known.clocks(p, owners)
	mine := r.Replica.Clock(p)
	if !ok || mine == nil {
		return nil
	}
	return commonBase(append(clocks, mine))
}

// shares are the partitions by the nodes that take writes of them.
type shares map[link]map[hashring.Partition]bool

// owners are those nodes by partition, less other regions that are left out.
func (s shares) owners(leftOut func(topology.Region) bool) map[hashring.Partition][]topology.NodeID {
	out := map[hashring.Partition][]topology.NodeID{}
	for l, ps := range s {
		if l.region != "" && leftOut(l.region) {
			continue
		}
		for p := range ps {
			out[p] = append(out[p], l.id)
		}
	}
	return out
}

// sharesOf returns who, in all regions, takes writes of parts, self excepted.
// It reports false when some region's topology is not known: then nobody can
// tell who the owners are.
func sharesOf(top *topology.Topology, others []Region, parts []hashring.Partition, self topology.NodeID) (shares, bool) {
	out := shares{}
	add := func(region topology.Region, t *topology.Topology, p hashring.Partition) {
		for _, id := range t.Takers(p) {
			l := link{id: id, region: region}
			if id == self {
				continue
			}
			if out[l] == nil {
				out[l] = map[hashring.Partition]bool{}
			}
			out[l][p] = true
		}
	}
	for _, p := range parts {
		add("", top, p)
		for _, g := range others {
			if g.Topology == nil || int(p) >= g.Topology.Table.Partitions() {
				return nil, false
			}
			add(g.Name, g.Topology, p)
		}
	}
	return out, true
}

// links in order, so that equal nodes do equal things.
func (s shares) links() []link {
	return slices.SortedFunc(maps.Keys(s), func(a, b link) int {
		return cmp.Or(cmp.Compare(a.region, b.region), cmp.Compare(a.id, b.id))
	})
}

// askEverybody notes what all of them have. A region of which a node does not
// answer is left alone for this time.
func (r *Repairer) askEverybody(ctx context.Context, s shares) {
	var mu sync.Mutex
	mute := map[topology.Region]bool{}
	links := s.links()
	each(farNodes, len(links), func(i int) {
		l := links[i]
		mu.Lock()
		skip := mute[l.region] || l.region == "" && !r.Alive(l.id)
		mu.Unlock()
		if skip || ctx.Err() != nil {
			return
		}
		if _, err := r.ask(ctx, l, slices.Sorted(maps.Keys(s[l]))); unanswered(err) && l.region != "" {
			mu.Lock()
			mute[l.region] = true
			mu.Unlock()
		}
	})
}

// pruneIndex waits for the replica, which takes its time.
func (r *Repairer) pruneIndex(ctx context.Context, p hashring.Partition, held *crdt.Clock) error {
	done := make(chan error, 1)
	r.Replica.PruneIndex(p, held, func(err error) { done <- err })
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
