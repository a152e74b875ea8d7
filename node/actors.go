package node

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/node/topology"
)

// An actor is never used again, but a region that has lost all its disks has lost its
// registry with them, which then counts from the beginning. So a node that remembers no
// actor of its region asks the other regions for the last that they have heard of,
// before it asks the registry for the next. If not all of them can tell, it begins far
// away from where registries begin, by chance.

const (
	// unheard bounds the actors of a region that no other one has heard of.
	unheard = 64
	// tellFloor is how long other regions are asked.
	tellFloor = 5 * time.Second
	// byChance and its double bound the place to begin at when they do not tell.
	byChance = 1 << 23
)

// heardOf is a registry that hands out no actor which another region has heard of.
type heardOf struct {
	topology.Registry
	n    *Node
	rand *rand.Rand
}

// Allocate implements topology.Registry.
func (h heardOf) Allocate(ctx context.Context, id topology.NodeID, floor crdt.Actor) (topology.Identity, error) {
	if floor == 0 {
		var err error
		if floor, err = h.floor(ctx); err != nil {
			return topology.Identity{}, err
		}
	}
	return h.Registry.Allocate(ctx, id, floor)
}

// floor is above all actors of this region that others may know; 0 if they know none.
func (h heardOf) floor(ctx context.Context) (crdt.Actor, error) {
	own := uint8(h.n.cfg.Topology.RegionID)
	var why error
	for end := time.Now().Add(tellFloor); time.Now().Before(end); {
		once, stop := context.WithTimeout(ctx, tellFloor/3)
		var top crdt.Actor
		top, why = h.n.highestAfar(once, own)
		stop()
		if why == nil {
			if top == 0 {
				return 0, nil
			}
			return crdt.MakeActor(top.Seq()+unheard, own), nil
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("ask other regions for the actors of this one: %w", ctx.Err())
		case <-time.After(200 * time.Millisecond):
		}
	}
	h.n.log.Warn("other regions do not tell which actors of this region they have heard of: its next one is far from those", "error", why)
	return crdt.MakeActor(byChance+h.rand.Uint32N(byChance), own), nil
}

// highestAfar is the highest actor of a region that any other one has heard of.
func (n *Node) highestAfar(ctx context.Context, region uint8) (top crdt.Actor, err error) {
	for _, t := range n.deps.Others.All() {
		clocks, err := n.clocksOf(ctx, string(t.Region), region)
		if err != nil {
			return 0, err
		}
		for _, owners := range clocks {
			for _, c := range owners {
				for _, a := range c.Actors() {
					top = max(top, a)
				}
			}
		}
	}
	return top, nil
}
