package repair

import (
	"context"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/wire"
)

// Where not every region has every bucket, what another region tells is judged
// before it is applied: see replica.Placement.

// afar is how this node names itself to l; nothing within the region.
func (r *Repairer) afar(l link) wire.Afar {
	if l.region == "" {
		return wire.Afar{}
	}
	return r.Replica.Afar(l.region)
}

// askedBy is how this node asks itself what it has in common with l.
func (r *Repairer) askedBy(l link) wire.Afar {
	if l.region == "" {
		return wire.Afar{}
	}
	a := r.Replica.Afar(l.region)
	a.Region = string(l.region)
	return a
}

// regionOf finds the region whose nodes mint as an actor, "" if it is not known.
func (r *Repairer) regionOf() func(crdt.Actor) topology.Region {
	names := map[uint8]topology.Region{}
	top := r.Topology()
	names[uint8(top.RegionID)] = top.Region
	for _, g := range r.Regions() {
		if g.Topology != nil {
			names[uint8(g.Topology.RegionID)] = g.Name
		}
	}
	return func(a crdt.Actor) topology.Region { return names[a.Region()] }
}

// leftOut are dots that a source told of and could not deliver: it is not asked
// for them again in the same pull.
type leftOut struct{ dots crdt.Clock }

func (l *leftOut) addTo(c *crdt.Clock) { c.Join(&l.dots) }

// unskip returns entries without the skips that are not for this region, which
// it leaves to others.
func (r *Repairer) unskip(ctx context.Context, l link, p hashring.Partition, entries []wire.Entry, left *leftOut) []wire.Entry {
	if l.region == "" {
		return entries
	}
	out := entries[:0]
	var ask []wire.Entry
	for _, e := range entries {
		if !e.Skips() {
			out = append(out, e)
			continue
		}
		take, doubtful := r.Replica.Takes(&e, l.region, r.regionOf())
		for _, d := range e.Dots {
			if !contains(take, d) {
				left.dots.Add(d)
			}
		}
		if len(take) > 0 {
			e.Dots = take
			out = append(out, e)
		}
		if len(doubtful) > 0 {
			e.Dots = doubtful
			ask = append(ask, e)
		}
	}
	return append(out, r.lost(ctx, p, ask)...)
}

// lost are the skips whose dots no owner of this region has, as all of them say
// now: whoever minted them here took the records with it before anybody had
// them.
func (r *Repairer) lost(ctx context.Context, p hashring.Partition, skips []wire.Entry) (out []wire.Entry) {
	if len(skips) == 0 {
		return nil
	}
	clocks := []*crdt.Clock{}
	for _, id := range r.Topology().Takers(p) {
		if id == r.cfg.Self {
			continue
		}
		if _, err := r.ask(ctx, link{id: id}, []hashring.Partition{p}); err != nil {
			return nil
		}
		have, ok := r.known.clocks(p, []topology.NodeID{id})
		if !ok {
			return nil
		}
		clocks = append(clocks, have...)
	}
	if mine := r.Replica.Clock(p); mine != nil {
		clocks = append(clocks, mine)
	}
	for _, e := range skips {
		var nobody []crdt.Dot
		for _, d := range e.Dots {
			held := false
			for _, c := range clocks {
				held = held || c.Contains(d)
			}
			if !held {
				nobody = append(nobody, d)
			}
		}
		if len(nobody) > 0 {
			e.Dots = nobody
			out = append(out, e)
			r.stats.Orphans.Add(uint64(len(nobody)))
		}
	}
	return out
}

// spoken is what of the clock of a source of a full sync may be joined: not what
// was minted in a region that has a bucket with this one that the source does
// not have. Of that it may have had the dots alone.
func (r *Repairer) spoken(l link, c *crdt.Clock) *crdt.Clock {
	if l.region == "" {
		return c
	}
	regionOf, out := r.regionOf(), &crdt.Clock{}
	for _, s := range c.All() {
		if minter := regionOf(s.Actor); minter == l.region || !r.Replica.Hidden(minter, l.region) {
			out.AddSpan(s)
		}
	}
	return out
}

func contains(dots []crdt.Dot, d crdt.Dot) bool {
	for _, x := range dots {
		if x == d {
			return true
		}
	}
	return false
}
