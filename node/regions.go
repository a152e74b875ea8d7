package node

import (
	"github.com/atolldb/atoll/geo/regionmap"
	"github.com/atolldb/atoll/node/regions"
	"github.com/atolldb/atoll/node/topology"
)

// wireRegions makes what knows the map of regions, and returns how it is read: nil
// where there is one region, and no log for others to come.
func (n *Node) wireRegions() func() regionmap.Known {
	others := n.deps.Others.All()
	if len(others) == 0 && n.deps.GeoLog == nil {
		return nil
	}
	own := n.cfg.Topology
	all := []regionmap.Region{{Name: string(own.Region), ID: uint8(own.RegionID)}}
	for _, t := range others {
		all = append(all, regionmap.Region{Name: string(t.Region), ID: uint8(t.RegionID)})
	}
	n.world = regions.New(regions.Config{
		Self: n.cfg.ID, Region: own.Region, ID: own.RegionID, First: regionmap.First(all),
	}, regions.Deps{
		Store: n.deps.RegionStore, Recall: n.deps.RecallRegions, Keep: n.deps.KeepRegions,
		Transport: n.deps.Transport, Peers: n.peers,
		Others: func() []*topology.Topology { return n.deps.Others.All() },
		Rand:   n.rand(), Log: n.deps.Logger.Named("regions"),
	})
	return n.world.Known
}

// RegionMap is what this node knows of the map of regions; its Map is nil where there
// is one region.
func (n *Node) RegionMap() regionmap.Known {
	if n.world == nil {
		return regionmap.Known{}
	}
	return n.world.Known()
}
