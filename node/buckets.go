package node

import (
	"slices"

	"github.com/atolldb/atoll/node/catalog"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/home"
	"github.com/atolldb/atoll/node/topology"
)

// wireBuckets makes what knows the buckets. It asks the coordinator, which asks
// it in turn: hence the functions.
func (n *Node) wireBuckets() error {
	var err error
	n.buckets, err = catalog.New(catalog.Config{Floor: n.cfg.Buckets}, catalog.Deps{
		Get:     func(g coord.Get, done func(coord.GetResult, error)) { n.coord.Get(g, done) },
		Put:     func(p coord.Put, done func(coord.PutResult, error)) { n.coord.Put(p, done) },
		Regions: n.regionNames, Beside: n.deps.Engine, HLC: n.deps.HLC, Chance: n.chance(),
		Log: n.deps.Logger.Named("catalog"),
	})
	return err
}

// home of a bucket, by what this node knows now: the one place that the
// coordinator and the replica ask. (See package home for what an answer promises.)
func (n *Node) home(bucket string) home.Home {
	h := coord.HomeOf(n.buckets.Bucket)(bucket)
	known := n.RegionMap()
	if h.Region == "" || known.Map == nil || known.Map.N == 0 {
		return h
	}
	if moved, ok := known.Map.Home(bucket); ok {
		h.Region, h.Epoch = moved.Region, home.Epoch(min(moved.Epoch, uint64(home.MaxEpoch)))
	}
	h.Lapsed = h.Region == string(n.cfg.Topology.Region) && !n.world.Leased()
	switch s := known.Map.State(h.Region); {
	case known.Contested:
		h.Closed = "the map of regions is contested"
	case !s.Counts():
		h.Closed = "the region is " + s.String()
	case h.Lapsed:
		h.Closed = "its lease has run out, too few other regions grant it one"
	}
	return h
}

// regionNames of all regions, ascending.
func (n *Node) regionNames() []string {
	names := []string{string(n.Topology().Region)}
	for _, t := range n.deps.Others.All() {
		names = append(names, string(t.Region))
	}
	slices.Sort(names)
	return names
}

// otherRegions are the names of the other regions.
func (n *Node) otherRegions() []topology.Region {
	all := n.deps.Others.All()
	names := make([]topology.Region, len(all))
	for i, t := range all {
		names[i] = t.Region
	}
	return names
}

// Buckets of the deployment.
func (n *Node) Buckets() *catalog.Catalog { return n.buckets }
