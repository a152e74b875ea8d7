package crdt

import (
	"cmp"
	"slices"
)

// Span is the counters Lo..Hi, both included.
type Span struct {
	Lo, Hi uint64
}

// Dots is a run of one actor's dots.
type Dots struct {
	Actor Actor
	Span
}

// Len is the number of dots.
func (d Dots) Len() uint64 { return d.Hi - d.Lo + 1 }

// Clock accounts for delivery: which dots of a partition an owner has durably
// received. Per actor it is a base (all of 1..base) and the spans above the
// gaps. The zero Clock has received nothing. It is not safe for concurrent use.
type Clock struct {
	actors []actorClock // ascending by actor, none empty
}

type actorClock struct {
	actor Actor
	base  uint64
	spans []Span // ascending, disjoint, not touching each other or the base
}

func (c *Clock) find(a Actor) (int, bool) {
	return slices.BinarySearchFunc(c.actors, a, func(x actorClock, a Actor) int { return cmp.Compare(x.actor, a) })
}

// Contains reports whether d was delivered.
func (c *Clock) Contains(d Dot) bool {
	i, ok := c.find(d.Actor)
	if !ok {
		return false
	}
	x := &c.actors[i]
	if d.N <= x.base {
		return true
	}
	j, ok := slices.BinarySearchFunc(x.spans, d.N, func(s Span, n uint64) int {
		switch {
		case s.Hi < n:
			return -1
		case s.Lo > n:
			return 1
		}
		return 0
	})
	_ = j
	return ok
}

// Add marks d as delivered and reports whether that is news. d.N must not be 0.
func (c *Clock) Add(d Dot) bool {
	if c.Contains(d) {
		return false
	}
	c.AddSpan(Dots{d.Actor, Span{d.N, d.N}})
	return true
}

// AddSpan marks a run of dots as delivered. Lo must be at least 1 and at most
// Hi.
func (c *Clock) AddSpan(d Dots) {
	i, ok := c.find(d.Actor)
	if !ok {
		c.actors = slices.Insert(c.actors, i, actorClock{actor: d.Actor})
	}
	c.actors[i].add(d.Span)
}

func (x *actorClock) add(s Span) {
	if s.Lo <= x.base+1 {
		if s.Hi <= x.base {
			return
		}
		x.base = s.Hi
		x.absorb()
		return
	}
	i := x.from(s.Lo - 1) // the first span that touches or follows s
	j := i
	for j < len(x.spans) && x.spans[j].Lo <= s.Hi+1 {
		s.Lo = min(s.Lo, x.spans[j].Lo)
		s.Hi = max(s.Hi, x.spans[j].Hi)
		j++
	}
	x.spans = slices.Replace(x.spans, i, j, s)
}

// absorb moves spans that touch the base into it.
func (x *actorClock) absorb() {
	k := 0
	for k < len(x.spans) && x.spans[k].Lo <= x.base+1 {
		x.base = max(x.base, x.spans[k].Hi)
		k++
	}
	x.spans = slices.Delete(x.spans, 0, k)
}

// Join marks everything that o has as delivered.
func (c *Clock) Join(o *Clock) {
	for _, d := range o.All() {
		c.AddSpan(d)
	}
}

// All returns the delivered dots as runs, ascending.
func (c *Clock) All() []Dots {
	var out []Dots
	for i := range c.actors {
		x := &c.actors[i]
		if x.base > 0 {
			out = append(out, Dots{x.actor, Span{1, x.base}})
		}
		for _, s := range x.spans {
			out = append(out, Dots{x.actor, s})
		}
	}
	return out
}

// Missing returns the runs of dots that o has and c has not, ascending.
func (c *Clock) Missing(o *Clock) []Dots {
	var out []Dots
	c.lacks(o, func(d Dots) bool {
		out = append(out, d)
		return true
	})
	return out
}

// lacks visits the runs of dots that o has and c has not, ascending, until visit returns
// false.
func (c *Clock) lacks(o *Clock, visit func(Dots) bool) {
	for i := range o.actors {
		x, mine := &o.actors[i], &actorClock{}
		if k, ok := c.find(x.actor); ok {
			mine = &c.actors[k]
		}
		if x.base > mine.base && !mine.holes(x.actor, Span{1, x.base}, visit) {
			return
		}
		for _, s := range x.spans {
			if !mine.holes(x.actor, s, visit) {
				return
			}
		}
	}
}

// holes visits the parts of s that x does not have, as dots of a, until visit returns
// false; then it does.
func (x *actorClock) holes(a Actor, s Span, visit func(Dots) bool) bool {
	lo := max(s.Lo, x.base+1)
	for _, h := range x.spans[x.from(lo):] {
		if h.Lo > s.Hi {
			break
		}
		if h.Lo > lo && !visit(Dots{a, Span{lo, h.Lo - 1}}) {
			return false
		}
		lo = h.Hi + 1
	}
	return lo > s.Hi || visit(Dots{a, Span{lo, s.Hi}})
}

// from is the place of the first span that ends at n or above.
func (x *actorClock) from(n uint64) int {
	i, _ := slices.BinarySearchFunc(x.spans, n, func(s Span, n uint64) int { return cmp.Compare(s.Hi, n) })
	return i
}

// Beyond returns the dots that o has and c has not, as a clock.
func (c *Clock) Beyond(o *Clock) *Clock {
	out := new(Clock)
	c.lacks(o, func(d Dots) bool {
		out.AddSpan(d)
		return true
	})
	return out
}

// CountMissing is the number of dots that o has and c has not.
func (c *Clock) CountMissing(o *Clock) uint64 {
	var n uint64
	c.lacks(o, func(d Dots) bool {
		n += d.Len()
		return true
	})
	return n
}

// Covers reports whether c has everything that o has.
func (c *Clock) Covers(o *Clock) bool {
	covers := true
	c.lacks(o, func(Dots) bool {
		covers = false
		return false
	})
	return covers
}

// Overlaps reports whether there is a dot that both c and o have.
func (c *Clock) Overlaps(o *Clock) bool {
	for i := range o.actors {
		x := &o.actors[i]
		k, ok := c.find(x.actor)
		if !ok {
			continue
		}
		mine := &c.actors[k]
		if x.base > 0 && mine.overlaps(Span{1, x.base}) || slices.ContainsFunc(x.spans, mine.overlaps) {
			return true
		}
	}
	return false
}

func (x *actorClock) overlaps(s Span) bool {
	if s.Lo <= x.base {
		return true
	}
	i := x.from(s.Lo)
	return i < len(x.spans) && x.spans[i].Lo <= s.Hi
}

// Max returns the highest delivered counter of a, 0 for none.
func (c *Clock) Max(a Actor) uint64 {
	i, ok := c.find(a)
	if !ok {
		return 0
	}
	x := &c.actors[i]
	if n := len(x.spans); n > 0 {
		return x.spans[n-1].Hi
	}
	return x.base
}

// Base returns the counter up to which a's dots were delivered without a gap.
func (c *Clock) Base(a Actor) uint64 {
	if i, ok := c.find(a); ok {
		return c.actors[i].base
	}
	return 0
}

// Actors returns the actors with at least one delivered dot, ascending.
func (c *Clock) Actors() []Actor {
	out := make([]Actor, len(c.actors))
	for i := range c.actors {
		out[i] = c.actors[i].actor
	}
	return out
}

// Gaps is the number of dots below the highest of each actor that were not
// delivered.
func (c *Clock) Gaps() uint64 {
	var n uint64
	for i := range c.actors {
		at := c.actors[i].base
		for _, s := range c.actors[i].spans {
			n += s.Lo - at - 1
			at = s.Hi
		}
	}
	return n
}

// Clone returns a copy that shares nothing.
func (c *Clock) Clone() *Clock {
	out := &Clock{actors: slices.Clone(c.actors)}
	for i := range out.actors {
		out.actors[i].spans = slices.Clone(out.actors[i].spans)
	}
	return out
}

// Equal reports whether c and o have the same dots.
func (c *Clock) Equal(o *Clock) bool {
	return slices.EqualFunc(c.actors, o.actors, func(a, b actorClock) bool {
		return a.actor == b.actor && a.base == b.base && slices.Equal(a.spans, b.spans)
	})
}
