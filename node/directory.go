package node

import (
	"github.com/atolldb/atoll/node/api"
	"github.com/atolldb/atoll/node/topology"
)

// directory is what clients find regions by.
func (n *Node) directory() api.Directory {
	return api.Directory{
		Known: n.RegionMap(), Topologies: append([]*topology.Topology{n.Topology()}, n.deps.Others.All()...),
	}
}

// RegionMapNumber is that of the map of regions, 0 for none.
func (n *Node) RegionMapNumber() uint64 {
	if m := n.RegionMap().Map; m != nil {
		return m.N
	}
	return 0
}
