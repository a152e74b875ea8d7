package node

import (
	"context"
	"time"

	"github.com/atolldb/atoll/geo/failover"
	"github.com/atolldb/atoll/geo/regionmap"
	"github.com/atolldb/atoll/node/topology"
)

// When a failover has ended, what the survivors have of the lost region is all that is
// left of it for now: sessions that know more are told so, by every node that hears of
// it. When the region rejoins, that is withdrawn.

const cutBeat = 200 * time.Millisecond

// cuts does both, as the map of regions says.
type cuts struct {
	n *Node
	// done is the fence of each region's cut that is on the disk, and opened of the
	// withdrawal.
	done, opened map[string]uint64
	// removed are the regions of whose removal the cut is on the disk, by number.
	removed map[uint8]bool
}

// Run looks at the map until ctx ends.
func (c cuts) Run(ctx context.Context) error {
	beat := time.NewTicker(cutBeat)
	defer beat.Stop()
	var seen *regionmap.Map
	for {
		if m := c.n.world.Known().Map; m != seen && c.follow(m) {
			seen = m
		}
		select {
		case <-ctx.Done():
			return nil
		case <-beat.C:
		}
	}
}

// forgetTold forgets what a region told that has begun anew: what of it is lost is not
// waited for. Its nodes are asked to tell what they have.
func (n *Node) forgetTold(region string) {
	if n.fresh == nil {
		return
	}
	n.fresh.Drop(region)
	for _, id := range n.nodesOf(region) {
		n.askFull(id)
	}
}

// follow does what a map asks for; it reports whether all of it is durable.
func (c cuts) follow(m *regionmap.Map) bool {
	for _, r := range m.Regions { // of what was removed nothing more comes
		fence := max(r.Fence, 1)
		if r.State != regionmap.Removed || r.ID == uint8(c.n.Topology().RegionID) || c.removed[r.ID] {
			continue
		}
		if err := c.n.replica.CutRegion(topology.RegionID(r.ID), 2*fence); err != nil {
			c.n.log.Warn("what is left of a removed region is not noted yet, sessions wait for more", "removed", r.Name, "error", err)
			return false
		}
		c.removed[r.ID] = true
	}
	o, err := failover.Current(m)
	if err != nil || o == nil {
		return true
	}
	r := m.Get(o.Region)
	if r == nil || r.State == regionmap.Removed {
		return true
	}
	// A region cuts nothing off itself, but withdraws, as all do, what others have.
	own := o.Region == string(c.n.Topology().Region)
	switch {
	case !own && r.State == regionmap.Fenced && o.Kind == failover.Failover && o.Ended && c.done[r.Name] < r.Fence:
		if err := c.n.replica.CutRegion(topology.RegionID(r.ID), 2*r.Fence); err != nil {
			c.n.log.Warn("what is left of a lost region is not noted yet, sessions wait for more", "lost", r.Name, "error", err)
			return false
		}
		c.done[r.Name] = r.Fence
	case r.State == regionmap.Rebuilding: // it stays cut until it has everything
	case !own && o.Kind == failover.Rebuild && r.Fence > 0 && c.opened[r.Name] < r.Fence:
		if err := c.n.replica.CloseRegion(topology.RegionID(r.ID), 2*r.Fence+1); err != nil {
			c.n.log.Warn("that a region has begun anew is not noted yet, sessions wait for what it has lost", "rebuilt", r.Name, "error", err)
			return false
		}
		c.n.forgetTold(r.Name)
		c.opened[r.Name] = r.Fence
	case r.State != regionmap.Fenced && r.Fence > 0 && c.opened[r.Name] < r.Fence:
		if err := c.n.replica.OpenRegion(topology.RegionID(r.ID), 2*r.Fence+1); err != nil {
			c.n.log.Warn("that a region is back is not noted yet, sessions take its writes for lost", "returned", r.Name, "error", err)
			return false
		}
		c.opened[r.Name] = r.Fence
	}
	return true
}
