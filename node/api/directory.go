package api

import (
	"math/rand/v2"

	"github.com/atolldb/atoll/geo/regionmap"
	"github.com/atolldb/atoll/node/topology"
	adminv1 "github.com/atolldb/atoll/proto/atoll/admin/v1"
)

// Directory is what clients find regions by: what a node knows of the map of regions,
// and the topologies of its own region and of others. Without a map there is none.
type Directory struct {
	Known      regionmap.Known
	Topologies []*topology.Topology
}

// maxPlaceAddrs of a region are told: a client that has found one node asks that for
// the others.
const maxPlaceAddrs = 16

// directory is nil where there is one region.
func directory(of func() Directory) *adminv1.RegionDirectory {
	if of == nil {
		return nil
	}
	d := of()
	m := d.Known.Map
	if m == nil {
		return nil
	}
	out := &adminv1.RegionDirectory{Version: m.N, Forced: m.Forced, By: uint32(m.By)}
	for _, r := range m.Regions {
		place := &adminv1.RegionPlace{Name: r.Name, State: r.State.String()}
		for _, t := range d.Topologies {
			if string(t.Region) == r.Name {
				place.ClientAddrs = clientAddrs(t)
			}
		}
		out.Regions = append(out.Regions, place)
	}
	return out
}

// clientAddrs are those of some members, not always the same.
func clientAddrs(t *topology.Topology) (addrs []string) {
	for _, i := range rand.Perm(len(t.Members)) {
		m := t.Members[i]
		if m.State != topology.Left && m.ClientAddr != "" && len(addrs) < maxPlaceAddrs {
			addrs = append(addrs, m.ClientAddr)
		}
	}
	return addrs
}

// SetRegionMap says where the number of the map of regions comes from that goes with
// replies on streams. Call it before the service serves anybody; without it there is
// none.
func (s *KVService) SetRegionMap(number func() uint64) { s.mapNumber = number }
