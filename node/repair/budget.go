package repair

import (
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/topology"
)

// The index keeps a dot until every owner in every region has it. A region that is
// away would make it grow without end: when it is above its budget (Config.IndexBytes),
// the region that lacks most is not waited for any more. What only it lacks is given
// up, and the region *needs a full sync*: when it comes back, its Pull is answered
// with Full, and it scans. It is waited for again when it has all that was given up.

// unwaited are the regions that are not waited for, each with what was given up
// of each partition although the region may lack it.
type unwaited struct {
	mu sync.Mutex
	of map[topology.Region]map[hashring.Partition]*crdt.Clock
}

// NeedFullSync are the other regions that need a full sync with this node, in
// order: its index does not reach back to what they have.
func (r *Repairer) NeedFullSync() []topology.Region {
	r.unwaited.mu.Lock()
	defer r.unwaited.mu.Unlock()
	return slices.Sorted(maps.Keys(r.unwaited.of))
}

func (u *unwaited) has(region topology.Region) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	_, ok := u.of[region]
	return ok
}

// gave notes what of p was given up, for all regions that are not waited for.
func (u *unwaited) gave(p hashring.Partition, base *crdt.Clock) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, parts := range u.of {
		if parts[p] == nil {
			parts[p] = &crdt.Clock{}
		}
		parts[p].Join(base)
	}
}

// back reports whether every owner of a region is known to have what was given up.
func (u *unwaited) back(region topology.Region, has func(hashring.Partition, *crdt.Clock) bool) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	for p, base := range u.of[region] {
		if !has(p, base) {
			return false
		}
	}
	delete(u.of, region)
	return true
}

func (u *unwaited) add(region topology.Region) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.of == nil {
		u.of = map[topology.Region]map[hashring.Partition]*crdt.Clock{}
	}
	u.of[region] = map[hashring.Partition]*crdt.Clock{}
}

// keepBudget looks how large the index is, stops to wait for the region that lacks
// most if it is too large, and reports whether it did. Of a region that was never
// heard of everything is lacking.
func (r *Repairer) keepBudget(ctx context.Context, s shares, parts []hashring.Partition) bool {
	if !s.abroad() {
		return false
	}
	entries, size := uint64(0), uint64(0)
	for _, p := range parts {
		n, bytes, err := r.Replica.IndexSize(p)
		if err != nil || ctx.Err() != nil {
			return false
		}
		entries, size = entries+n, size+bytes
	}
	r.stats.IndexBytes.Store(size)
	if size <= r.cfg.IndexBytes {
		return false
	}
	var worst topology.Region
	most := uint64(0)
	for region, n := range r.lacks(s) {
		if n > most || n == most && n > 0 && region < worst {
			worst, most = region, n
		}
	}
	if most == 0 || most < entries/2 {
		return false // it is not for another region that it is so large
	}
	r.unwaited.add(worst)
	r.stats.Unwaited.Add(1)
	r.Log.Warn("the dot index is above its budget: a region that is away needs a full sync when it returns",
		"region", string(worst), "index-bytes", size, "budget", r.cfg.IndexBytes)
	return true
}

// abroad reports whether there are owners in other regions.
func (s shares) abroad() bool {
	for l := range s {
		if l.region != "" {
			return true
		}
	}
	return false
}

// lacks counts, of each other region that is waited for, the dots that its owners
// are not known to have of what this node has; of a partition, those of the owner
// that lacks most.
func (r *Repairer) lacks(s shares) map[topology.Region]uint64 {
	most := map[topology.Region]map[hashring.Partition]uint64{}
	for l, parts := range s {
		if l.region == "" || r.unwaited.has(l.region) {
			continue
		}
		for p := range parts {
			mine := r.Replica.Clock(p)
			if mine == nil {
				continue
			}
			theirs := &crdt.Clock{}
			if have, ok := r.known.clocks(p, []topology.NodeID{l.id}); ok {
				theirs = have[0]
			}
			if most[l.region] == nil {
				most[l.region] = map[hashring.Partition]uint64{}
			}
			most[l.region][p] = max(most[l.region][p], theirs.CountMissing(mine))
		}
	}
	out := map[topology.Region]uint64{}
	for region, parts := range most {
		for _, n := range parts {
			out[region] += n
		}
	}
	return out
}

// returned waits again for the regions that have all that was given up.
func (r *Repairer) returned(s shares) {
	for _, region := range r.NeedFullSync() {
		back := r.unwaited.back(region, func(p hashring.Partition, base *crdt.Clock) bool {
			for l, parts := range s {
				if l.region != region || !parts[p] {
					continue
				}
				have, ok := r.known.clocks(p, []topology.NodeID{l.id})
				if !ok || !have[0].Covers(base) {
					return false
				}
			}
			return true
		})
		if back {
			r.Log.Info("a region has had its full sync, and the index waits for it again", "region", string(region))
		}
	}
}
