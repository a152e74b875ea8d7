package client

import (
	"cmp"
	"fmt"
	"slices"

	adminv1 "github.com/atolldb/atoll/proto/atoll/admin/v1"
)

// directory is what a client knows of the map of regions, and where nodes of each
// region take clients; immutable.
type directory struct {
	version uint64
	forced  bool
	by      uint32
	places  []place // in the order of the map
}

type place struct {
	name, state string
	addrs       []string
}

// The bounds of a directory.
const (
	maxPlaces     = 63
	maxPlaceName  = 32
	maxPlaceAddrs = 64
)

// The states in which a region takes clients.
const (
	stateActive   = "ACTIVE"
	stateDraining = "DRAINING"
	// The name of a REMOVED region may be that of another one by now.
	stateRemoved = "REMOVED"
)

// directoryOf refuses what cannot be gone by; nil for none.
func directoryOf(m *adminv1.RegionDirectory) (*directory, error) {
	if m == nil {
		return nil, nil
	}
	d := &directory{version: m.Version, forced: m.Forced, by: m.By}
	if len(m.Regions) > maxPlaces {
		return nil, fmt.Errorf("the map has %d regions", len(m.Regions))
	}
	for _, r := range m.Regions {
		switch {
		case r.Name == "" || len(r.Name) > maxPlaceName:
			return nil, fmt.Errorf("the map has a region whose name has %d bytes", len(r.Name))
		case d.place(r.Name) == nil:
			d.places = append(d.places, place{name: r.Name})
		case r.State == stateRemoved: // one that had the name before, or an older one
			continue
		case d.place(r.Name).state != stateRemoved:
			return nil, fmt.Errorf("the map has region %q twice", r.Name)
		}
		addrs := slices.DeleteFunc(slices.Clone(r.ClientAddrs), func(a string) bool { return a == "" })
		*d.place(r.Name) = place{name: r.Name, state: r.State, addrs: addrs[:min(len(addrs), maxPlaceAddrs)]}
	}
	return d, nil
}

// place returns nil for a region that the map does not know.
func (d *directory) place(name string) *place {
	if d == nil {
		return nil
	}
	for i := range d.places {
		if d.places[i].name == name {
			return &d.places[i]
		}
	}
	return nil
}

func (d *directory) state(name string) string {
	if p := d.place(name); p != nil {
		return p.state
	}
	return ""
}

func (d *directory) number() uint64 {
	if d == nil {
		return 0
	}
	return d.version
}

// compare orders versions: by number, then the forced one, then by region.
func (d *directory) compare(o *directory) int {
	force := func(f bool) int {
		if f {
			return 1
		}
		return 0
	}
	return cmp.Or(cmp.Compare(d.version, o.version), cmp.Compare(force(d.forced), force(o.forced)), cmp.Compare(d.by, o.by))
}

// join takes what a node tells: the states of the higher version, and the newer
// addresses, but where the node knows none. Of two that have one version, the one
// that is there stays.
func (d *directory) join(told *directory) *directory {
	switch {
	case told == nil:
		return d
	case d == nil:
		return told
	}
	states := d
	if told.compare(d) > 0 {
		states = told
	}
	out := &directory{version: states.version, forced: states.forced, by: states.by}
	for _, p := range states.places {
		p.addrs = nil
		if t := told.place(p.name); t != nil {
			p.addrs = t.addrs
		}
		if old := d.place(p.name); len(p.addrs) == 0 && old != nil {
			p.addrs = old.addrs
		}
		out.places = append(out.places, p)
	}
	return out
}

// better are the regions in which a client that works in region here should rather
// work, the best first: those of order that are ACTIVE, and then those that are
// DRAINING, until here comes. Without an order behind the first, the map's.
func (d *directory) better(order []string, here string) (out []string) {
	if d == nil {
		return nil
	}
	for _, state := range []string{stateActive, stateDraining} {
		for _, name := range order {
			switch {
			case d.state(name) != state || slices.Contains(out, name):
			case name == here:
				return out
			default:
				out = append(out, name)
			}
		}
	}
	return out
}

// all are the regions of the map, behind those that are given.
func (d *directory) all(first []string) []string {
	out := slices.Clone(first)
	if d != nil {
		for _, p := range d.places {
			if !slices.Contains(out, p.name) {
				out = append(out, p.name)
			}
		}
	}
	return out
}
