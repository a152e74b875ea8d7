package session

import (
	"cmp"
	"slices"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
)

const (
	// MaxExact bounds the runs of dots above the base of their actor that a Part
	// keeps. With more, the shortest gaps between them are folded away.
	MaxExact = 16
	// MaxActors bounds the actors of a Part, and MaxBallots its ballots.
	MaxActors, MaxBallots = 64, 16
)

// Place is a partition, as the highest Bits of the key hashes in it.
type Place struct {
	Bits   uint8 // 0..16
	Prefix uint16
}

// PlaceOf returns the place of a key hash among 2^bits partitions.
func PlaceOf(keyHash uint64, bits uint8) Place {
	if bits == 0 {
		return Place{}
	}
	return Place{bits, uint16(keyHash >> (64 - bits))}
}

// Holds reports whether a key hash is in p.
func (p Place) Holds(keyHash uint64) bool { return PlaceOf(keyHash, p.Bits) == p }

// Ballot is a version that was decided by consensus, and its key: such dots are
// in no clock, only in the record.
type Ballot struct {
	KeyHash uint64
	Dot     crdt.Dot
}

func (b Ballot) compare(o Ballot) int {
	return cmp.Or(cmp.Compare(b.KeyHash, o.KeyHash), b.Dot.Compare(o.Dot))
}

// Part is what a session knows of one partition. The zero Part but for its
// Place knows nothing.
type Part struct {
	Place Place
	// Clock has the events that were seen, and those that folding added.
	Clock crdt.Clock
	// Stamp is the highest that was seen.
	Stamp hlc.Stamp
	// Ballots ascend.
	Ballots []Ballot
	// Told are events that the session was told are lost: it does not ask for them
	// any more.
	Told crdt.Clock
	// Soft are events in Clock for which a version stands, too; the latest first.
	Soft []Soft
}

// Empty reports whether p knows nothing.
func (p *Part) Empty() bool {
	return p.Stamp == 0 && len(p.Ballots) == 0 && len(p.Clock.Actors()) == 0 && len(p.Told.Actors()) == 0
}

// Needs are the events that whoever answers the session has to have, nil for none.
func (p *Part) Needs() *crdt.Clock {
	if p == nil {
		return nil
	}
	needs := &p.Clock
	if len(p.Told.Actors()) > 0 {
		needs = p.Told.Beyond(&p.Clock)
	}
	if len(needs.Actors()) == 0 {
		return nil
	}
	return needs
}

// Saw adds an ordinary event and its stamp.
func (p *Part) Saw(d crdt.Dot, s hlc.Stamp) {
	p.Clock.Add(d)
	p.Stamp = max(p.Stamp, s)
}

// SawBallot adds a version that was decided by consensus. What it knew of the
// same key by ballots of the same actor before goes: ballots of a key are
// decided one after the other.
func (p *Part) SawBallot(keyHash uint64, d crdt.Dot, s hlc.Stamp) {
	p.Stamp = max(p.Stamp, s)
	for _, b := range p.Ballots {
		if b.KeyHash == keyHash && b.Dot.Actor == d.Actor && b.Dot.N >= d.N {
			return
		}
	}
	p.Ballots = slices.DeleteFunc(slices.Clone(p.Ballots), func(b Ballot) bool {
		return b.KeyHash == keyHash && b.Dot.Actor == d.Actor
	})
	b := Ballot{keyHash, d}
	i, _ := slices.BinarySearchFunc(p.Ballots, b, Ballot.compare)
	p.Ballots = slices.Insert(p.Ballots, i, b)
}

// Join adds what o knows. Both are about one partition.
func (p *Part) Join(o *Part) {
	p.Clock.Join(&o.Clock)
	p.Told.Join(&o.Told)
	p.Stamp = max(p.Stamp, o.Stamp)
	for _, b := range o.Ballots {
		p.SawBallot(b.KeyHash, b.Dot, 0)
	}
	p.soften(o.Soft)
}

// Covers reports whether p knows all that o does.
func (p *Part) Covers(o *Part) bool {
	for _, b := range o.Ballots {
		if !slices.ContainsFunc(p.Ballots, func(x Ballot) bool {
			return x.KeyHash == b.KeyHash && x.Dot.Actor == b.Dot.Actor && x.Dot.N >= b.Dot.N
		}) {
			return false
		}
	}
	return p.Stamp >= o.Stamp && p.Clock.Covers(&o.Clock) && p.Told.Covers(&o.Told)
}

// Shows reports whether a record of the key shows the versions decided by
// consensus that the session knows of it, or what replaced them.
func (p *Part) Shows(keyHash uint64, rec crdt.Record) bool {
	for _, b := range p.Ballots {
		if b.KeyHash == keyHash && !rec.Covers(b.Dot) {
			return false
		}
	}
	return true
}

// fold keeps the Clock within MaxExact by asking for the dots of gaps as well, those of
// the shortest ones first: what is asked for and was not seen may be on its way, and
// between what is written now and what was long ago lies all that a region which catches
// up lacks. Told is kept within it in the same way: there it asks for less.
func (p *Part) fold() {
	fold(&p.Clock)
	fold(&p.Told)
}

func fold(c *crdt.Clock) {
	var gaps []crdt.Dots // each before a run that is not at the base of its actor
	var last crdt.Dots
	for _, d := range c.All() {
		if d.Actor != last.Actor {
			last = crdt.Dots{Actor: d.Actor}
		}
		if d.Lo > 1 {
			gaps = append(gaps, crdt.Dots{Actor: d.Actor, Span: crdt.Span{Lo: last.Hi + 1, Hi: d.Lo - 1}})
		}
		last = d
	}
	closeShortest(c, gaps, MaxExact)
}

// closeShortest adds the shortest of some gaps of c to it, the first ones of those that
// are equally long, until most are left.
func closeShortest(c *crdt.Clock, gaps []crdt.Dots, most int) {
	slices.SortStableFunc(gaps, func(a, b crdt.Dots) int { return cmp.Compare(a.Len(), b.Len()) })
	for _, g := range gaps[:max(len(gaps)-most, 0)] {
		c.AddSpan(g)
	}
}

// fits reports whether p can be sealed once it is folded.
func (p *Part) fits() bool {
	return len(p.Clock.Actors()) <= MaxActors && len(p.Told.Actors()) <= MaxActors && len(p.Ballots) <= MaxBallots && len(p.Soft) <= MaxSoft
}
