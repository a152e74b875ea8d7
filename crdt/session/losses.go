package session

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/internal/strict"
)

// Losses is what is known of a partition's events that nobody has any more, so
// that a session which knows of them is told, instead of waiting for ever or being
// answered as if they had never been. It only grows, but for cuts that are
// withdrawn: owners and regions join what they know of it, in any order, and come
// to the same. A Losses is not changed once it was made; nil is that of nothing.
//
// There are three kinds, by what is known and how:
//
//	Void   nobody had them when a round over all owners of all regions closed
//	       the incarnation that made them; clocks have them since, as delivered
//	Ends   the same of all later ones of that incarnation, of which nobody can
//	       say how many there were; clocks do not have them
//	Cuts   a region was given up, and its events beyond those that survive
//	       elsewhere went with it; it may come back, and its cut is withdrawn
type Losses struct {
	Void crdt.Clock
	// Ends are the last events of closed incarnations, ascending by actor; N is 0
	// where nobody has any.
	Ends []crdt.Dot
	// Cuts ascend by region, at most one of each.
	Cuts []Cut
}

// Cut says which events of one region's actors are left.
type Cut struct {
	Region uint8
	// Fence orders cuts of a region: a higher one takes the place of a lower one.
	Fence uint64
	// Open: the region is back, and nothing is cut off.
	Open bool
	// Survives has the events of the region's actors that are left. Those of equal
	// fences are joined.
	Survives crdt.Clock
}

// MaxVoidRuns bounds the runs of one actor in Void. Of more, those that are next
// to each other become one, with what is between them: that tells a session of a
// loss that may be none, and never hides one.
const MaxVoidRuns = 8

// Join returns what either side knows.
func (l *Losses) Join(o *Losses) *Losses {
	switch {
	case l == nil:
		return o
	case o == nil || l == o:
		return l
	}
	out := &Losses{Void: *l.Void.Clone()}
	out.Void.Join(&o.Void)
	out.fold()
	for i, j := 0, 0; i < len(l.Ends) || j < len(o.Ends); {
		switch {
		case j == len(o.Ends) || i < len(l.Ends) && l.Ends[i].Actor < o.Ends[j].Actor:
			out.Ends = append(out.Ends, l.Ends[i])
			i++
		case i == len(l.Ends) || o.Ends[j].Actor < l.Ends[i].Actor:
			out.Ends = append(out.Ends, o.Ends[j])
			j++
		default:
			out.Ends = append(out.Ends, crdt.Dot{Actor: l.Ends[i].Actor, N: max(l.Ends[i].N, o.Ends[j].N)})
			i, j = i+1, j+1
		}
	}
	out.Cuts = slices.Clone(l.Cuts)
	for _, c := range o.Cuts {
		i, found := slices.BinarySearchFunc(out.Cuts, c.Region, func(x Cut, g uint8) int { return cmp.Compare(x.Region, g) })
		switch {
		case !found:
			out.Cuts = slices.Insert(out.Cuts, i, c)
		case c.Fence > out.Cuts[i].Fence:
			out.Cuts[i] = c
		case c.Fence == out.Cuts[i].Fence:
			out.Cuts[i].Open = out.Cuts[i].Open || c.Open
			survives := out.Cuts[i].Survives.Clone()
			survives.Join(&c.Survives)
			out.Cuts[i].Survives = *survives
		}
	}
	return out
}

// fold keeps each actor of Void within MaxVoidRuns.
func (l *Losses) fold() {
	gaps := map[crdt.Actor][]crdt.Dots{}
	var last crdt.Dots
	for _, d := range l.Void.All() {
		if d.Actor == last.Actor {
			gaps[d.Actor] = append(gaps[d.Actor], crdt.Dots{Actor: d.Actor, Span: crdt.Span{Lo: last.Hi + 1, Hi: d.Lo - 1}})
		}
		last = d
	}
	for _, between := range gaps {
		closeShortest(&l.Void, between, MaxVoidRuns-1)
	}
}

// Equal reports whether both know the same.
func (l *Losses) Equal(o *Losses) bool {
	return l == o || string(AppendLosses(nil, l)) == string(AppendLosses(nil, o))
}

// Empty reports whether nothing is known to be lost.
func (l *Losses) Empty() bool {
	return l == nil || len(l.Ends) == 0 && len(l.Cuts) == 0 && len(l.Void.Actors()) == 0
}

// Ended reports whether an actor's incarnation was closed: it must make no more
// events.
func (l *Losses) Ended(a crdt.Actor) bool {
	if l == nil {
		return false
	}
	_, found := slices.BinarySearchFunc(l.Ends, a, func(d crdt.Dot, a crdt.Actor) int { return cmp.Compare(d.Actor, a) })
	return found
}

// Of returns which of needs are lost, nil for none, at an owner that lacks
// missing of them.
func (l *Losses) Of(needs, missing *crdt.Clock) *crdt.Clock {
	if l.Empty() || needs == nil {
		return nil
	}
	lost := both(&l.Void, needs)
	if missing != nil {
		for _, d := range missing.All() {
			for _, e := range l.Ends {
				if e.Actor == d.Actor && d.Hi > e.N {
					lost.AddSpan(crdt.Dots{Actor: d.Actor, Span: crdt.Span{Lo: max(d.Lo, e.N+1), Hi: d.Hi}})
				}
			}
			for i := range l.Cuts {
				if c := &l.Cuts[i]; c.Region == d.Actor.Region() && !c.Open {
					one := &crdt.Clock{}
					one.AddSpan(d)
					for _, gone := range c.Survives.Missing(one) {
						lost.AddSpan(gone)
					}
				}
			}
		}
	}
	if len(lost.Actors()) == 0 {
		return nil
	}
	return lost
}

// both returns the events that a and b have in common.
func both(a, b *crdt.Clock) *crdt.Clock {
	return a.Beyond(b).Beyond(b)
}

// The encoding of Losses: a byte, 0 for an empty one and nothing else; 1, and then
//
//	clock     Void; see crdt.AppendClock
//	uvarint   number of Ends, then ascending, each: uvarint actor, uvarint n
//	uvarint   number of Cuts, then ascending, each: region (1 byte), uvarint
//	          fence, open (1 byte, 0 or 1), clock of what survives

var errLosses = errors.New("malformed losses")

// AppendLosses appends the encoding of l; equal ones have equal encodings.
func AppendLosses(dst []byte, l *Losses) []byte {
	if l.Empty() {
		return append(dst, 0)
	}
	dst = crdt.AppendClock(append(dst, 1), &l.Void)
	dst = binary.AppendUvarint(dst, uint64(len(l.Ends)))
	for _, d := range l.Ends {
		dst = binary.AppendUvarint(binary.AppendUvarint(dst, uint64(d.Actor)), d.N)
	}
	dst = binary.AppendUvarint(dst, uint64(len(l.Cuts)))
	for i := range l.Cuts {
		c := &l.Cuts[i]
		dst = binary.AppendUvarint(append(dst, c.Region), c.Fence)
		if c.Open {
			dst = append(dst, 1)
		} else {
			dst = append(dst, 0)
		}
		dst = crdt.AppendClock(dst, &c.Survives)
	}
	return dst
}

// DecodeLosses decodes one from the front of b and returns what follows it. An
// empty one is nil.
func DecodeLosses(b []byte) (l *Losses, rest []byte, err error) {
	bad := func(what string) (*Losses, []byte, error) { return nil, nil, fmt.Errorf("%w: %s", errLosses, what) }
	if len(b) == 0 || b[0] > 1 {
		return bad("flag")
	}
	if b[0] == 0 {
		return nil, b[1:], nil
	}
	void, b, err := crdt.DecodeClock(b[1:])
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", errLosses, err)
	}
	l = &Losses{Void: *void}
	r := strict.Reader{B: b}
	count := r.Count(math.MaxInt, 2)
	if r.Bad {
		return bad("number of ends")
	}
	for range count {
		end := crdt.Dot{Actor: crdt.Actor(r.Uint32()), N: r.Uvarint()}
		if r.Bad || end.Actor == 0 || end.N > crdt.MaxN || end.Actor.IsBallot() ||
			len(l.Ends) > 0 && l.Ends[len(l.Ends)-1].Actor >= end.Actor {
			return bad("end")
		}
		l.Ends = append(l.Ends, end)
	}
	if count = r.Count(256, 1); r.Bad {
		return bad("number of cuts")
	}
	for range count {
		c := Cut{Region: r.Byte(), Fence: r.Uvarint(), Open: r.Flags(1) == 1}
		if r.Bad || len(l.Cuts) > 0 && l.Cuts[len(l.Cuts)-1].Region >= c.Region {
			return bad("cut")
		}
		survives, after, err := crdt.DecodeClock(r.B)
		if err != nil {
			return nil, nil, fmt.Errorf("%w: %w", errLosses, err)
		}
		c.Survives, r.B = *survives, after
		l.Cuts = append(l.Cuts, c)
	}
	if l.Empty() {
		return bad("nothing in it")
	}
	l.fold()
	return l, r.B, nil
}
