package repair

import (
	"context"
	"maps"

	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/internal/pause"
	"github.com/atolldb/atoll/internal/planted"
	"github.com/atolldb/atoll/node/topology"
)

// maxCrowded bounds the partitions for which all owners are asked in one Beat.
const maxCrowded = 64

// heldLoop asks each Beat, for the partitions in which keys are written by many who
// do not read, what all owners in all regions have. Pasts need not name what that had
// replaced. It is what prune asks, but nobody is left out here: of a region that is
// not waited for, its last word counts, too.
func (r *Repairer) heldLoop(ctx context.Context) {
	for pause.For(ctx, r.jitter(r.cfg.Beat)) {
		crowded := r.Replica.Crowded()
		if len(crowded) == 0 {
			continue
		}
		r.tellHeld(ctx, crowded[:min(len(crowded), maxCrowded)]) // the others will say so again
	}
}

func (r *Repairer) tellHeld(ctx context.Context, crowded []hashring.Partition) {
	top, others := r.Topology(), r.Regions()
	var parts []hashring.Partition
	for _, p := range crowded {
		if keeps(top, p, r.cfg.Self) && r.Replica.Owns(p) {
			parts = append(parts, p)
		}
	}
	shares, ok := sharesOf(top, others, parts, r.cfg.Self)
	if !ok {
		return
	}
	if planted.Bug(planted.NearSettled) {
		maps.DeleteFunc(shares, func(l link, _ map[hashring.Partition]bool) bool { return l.region != "" })
	}
	r.askEverybody(ctx, shares)
	owners := shares.owners(func(topology.Region) bool { return false })
	for _, p := range parts {
		if held := r.heldBy(p, owners[p]); held != nil {
			r.Replica.HeldByAll(p, held)
		}
	}
}
