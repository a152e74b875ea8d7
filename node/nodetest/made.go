package nodetest

import (
	"context"
	"fmt"
	"hash/fnv"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/internal/pause"
	"github.com/atolldb/atoll/node"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/topology/memtopo"
)

// makeGrace is how long who makes a region waits for others, as in package process.
const makeGrace = 5 * time.Second

// made is the registry of a region as a node gets it that package process starts: when
// it is empty the region is new, or has lost everything, and it begins where the other
// regions say.
type made struct {
	*memtopo.Registry
	w    *World
	m    *member
	from peer.Transport
}

// Allocate implements topology.Registry.
func (r made) Allocate(ctx context.Context, id topology.NodeID, floor crdt.Actor) (topology.Identity, error) {
	if r.Empty() {
		o := r.ask(ctx)
		for end := time.Now().Add(makeGrace); o.Actor == 0 && len(o.Silent) > 0 && time.Now().Before(end); o = r.ask(ctx) {
			if !pause.For(ctx, 200*time.Millisecond) {
				return topology.Identity{}, fmt.Errorf("make region %s: %w", r.w.name(r.m.region), ctx.Err())
			}
		}
		h := fnv.New32a()
		_, _ = fmt.Fprint(h, r.w.seed, id, time.Since(r.w.start))
		if _, above := o.Begin(topology.RegionID(r.m.region+1), 1, time.Now(), h.Sum32()); above != 0 {
			r.Raise(above)
		}
	}
	return r.Registry.Allocate(ctx, id, floor)
}

func (r made) ask(ctx context.Context) node.Origin {
	var others []*topology.Topology
	for b := range r.w.tops {
		if b != r.m.region {
			others = append(others, r.w.known(b))
		}
	}
	ctx, stop := context.WithTimeout(ctx, makeGrace/3)
	defer stop()
	return node.AskOrigins(ctx, others, func(ctx context.Context, id topology.NodeID) (node.Origin, error) {
		return node.AskOrigin(ctx, r.from, id, r.w.tops[r.m.region].Region)
	})
}
