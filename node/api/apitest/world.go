package apitest

import (
	"sync/atomic"

	"github.com/atolldb/atoll/geo/regionmap"
	"github.com/atolldb/atoll/node/api"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/topology"
)

// World is some regions over one store: what is written in one of them is in all.
// They go by a map of regions, and refuse writes when it has them out of service.
type World struct {
	Regions []*Region
	known   atomic.Pointer[regionmap.Map]
}

// NewWorld starts regions of n nodes each, which end with the test.
func NewWorld(t TB, n int, names ...topology.Region) *World {
	w := &World{}
	var places []regionmap.Region
	store := NewStore()
	for i, name := range names {
		r := newRegion(t, name, topology.RegionID(i+1), store, w, n)
		w.Regions = append(w.Regions, r)
		places = append(places, regionmap.Region{Name: string(name), ID: uint8(i + 1)})
	}
	w.known.Store(regionmap.First(places))
	return w
}

// Region by name; nil for none.
func (w *World) Region(name topology.Region) *Region {
	for _, r := range w.Regions {
		if r.Name == name {
			return r
		}
	}
	return nil
}

// Set brings a region into a state, by a map with the next number.
func (w *World) Set(region topology.Region, s regionmap.State) {
	m := w.known.Load().Clone()
	m.N++
	for i := range m.Regions {
		if m.Regions[i].Name == string(region) {
			m.Regions[i].State = s
		}
	}
	w.known.Store(m)
}

// Map of regions, as all nodes know it but those that are held.
func (w *World) Map() *regionmap.Map { return w.known.Load() }

// HoldMap keeps a node at the map of regions that it knows now, until LearnMap: news of
// later ones do not reach it.
func (n *Node) HoldMap() { n.held.Store(n.region.world.Map()) }

// LearnMap ends HoldMap.
func (n *Node) LearnMap() { n.held.Store(nil) }

// regionMap is what the node goes by.
func (n *Node) regionMap() *regionmap.Map {
	if m := n.held.Load(); m != nil {
		return m
	}
	return n.region.world.Map()
}

func (w *World) directory(m *regionmap.Map) api.Directory {
	d := api.Directory{Known: regionmap.Known{Map: m}}
	for _, r := range w.Regions {
		d.Topologies = append(d.Topologies, r.Topology())
	}
	return d
}

// refuses is what a node of a region that is out of service says to writes.
func (n *Node) refuses() error {
	if n.region.world == nil {
		return nil
	}
	m, region := n.regionMap(), n.region.Name
	if m.N == 0 || m.Counts(string(region)) {
		return nil
	}
	return &coord.Error{Code: coord.CodeRegionFenced, RetryAfterMs: 1000, RegionMap: m.N, Detail: "region " + string(region) + " is " + m.State(string(region)).String()}
}
