package process

import (
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/topology"
)

// world is what the configuration says about who is where.
type world struct {
	own    *topology.Topology
	others []*topology.Topology
	// peers and regionOf are of all nodes of all regions.
	peers    map[topology.NodeID]string
	regionOf map[topology.NodeID]topology.Region
	names    map[topology.RegionID]topology.Region
}

func newWorld(c *Config) (*world, error) {
	w := &world{
		peers:    map[topology.NodeID]string{},
		regionOf: map[topology.NodeID]topology.Region{},
		names:    map[topology.RegionID]topology.Region{},
	}
	rules := hashring.Rules{Partitions: c.Partitions, Replicas: c.Replicas}
	for _, r := range c.Regions {
		members := make([]topology.Member, len(r.Members))
		for i, m := range r.Members {
			members[i] = topology.Member{ID: m.ID, Rack: m.Rack, Weight: m.Weight, PeerAddr: m.Peer, ClientAddr: m.Client}
			w.peers[m.ID], w.regionOf[m.ID] = m.Peer, r.Name
		}
		t, err := topology.Static(r.Name, r.ID, members, rules)
		if err != nil {
			return nil, err
		}
		w.names[r.ID] = r.Name
		if r.Name == c.Region {
			w.own = t
		} else {
			w.others = append(w.others, t)
		}
	}
	return w, nil
}

func (w *world) addrOf(id topology.NodeID) (string, bool) { a, ok := w.peers[id]; return a, ok }

func (w *world) region(id topology.NodeID) (topology.Region, bool) {
	r, ok := w.regionOf[id]
	return r, ok
}

func (w *world) name(id topology.RegionID) topology.Region { return w.names[id] }

// drainers are so many members of a region that pull the logs of the others:
// two, so that one may be down.
const drainers = 2

// drains says whether this node is one of the region's drainers: the first
// members by id, so that all nodes think the same.
func (w *world) drains(self topology.NodeID) bool {
	before := 0
	for _, m := range w.own.Members {
		if m.ID < self {
			before++
		}
	}
	return before < drainers
}
