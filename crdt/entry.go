package crdt

import "slices"

// Entry says that the events of an actor up to N, on one key, were seen, all
// but those in Holes.
//
// Holes are there because one minter serves clients that do not know of each
// other: whoever writes blindly beside what the same minter has, and goes on
// from the answer, has seen his own event but not the lower ones. Version
// vectors with exceptions (Malkhi and Terry 2005) say just that. As ranges they
// take little room however much was not seen: {only the n-th} is one range.
//
// Counters are of a partition, so most of them are of other keys. Nobody asks
// about those; each is as seen as the next higher one that is of this key. See
// Context.After.
type Entry struct {
	Actor Actor
	N     uint64
	// Holes ascend, lie in 1..N-1, and neither overlap nor touch each other.
	Holes []Span
}

// hole returns the place of the first hole that does not end below n, and
// whether n is in it.
func (e *Entry) hole(n uint64) (int, bool) {
	i, ok := slices.BinarySearchFunc(e.Holes, n, func(h Span, n uint64) int {
		switch {
		case h.Hi < n:
			return -1
		case h.Lo > n:
			return 1
		}
		return 0
	})
	return i, ok
}

func (e *Entry) covers(n uint64) bool {
	if n > e.N {
		return false
	}
	if len(e.Holes) == 0 {
		return true
	}
	_, in := e.hole(n)
	return !in
}

// join returns what either has seen: what neither has is where the holes of
// both meet, those beyond their ends included.
func (e Entry) join(f Entry) Entry {
	if e.N < f.N {
		e, f = f, e
	}
	out := Entry{Actor: e.Actor, N: e.N}
	i, j := 0, 0
	for i < len(e.Holes) {
		g := Span{f.N + 1, e.N}
		if j < len(f.Holes) {
			g = f.Holes[j]
		}
		h := e.Holes[i]
		if both := (Span{max(g.Lo, h.Lo), min(g.Hi, h.Hi)}); both.Lo <= both.Hi {
			out.Holes = append(out.Holes, both)
		}
		if h.Hi <= g.Hi {
			i++
		} else {
			j++
		}
	}
	return out
}

// coversAll reports whether e has seen all that f has.
func (e *Entry) coversAll(f *Entry) bool {
	if e.N < f.N {
		return false
	}
	for _, h := range e.Holes {
		if h.Lo > f.N {
			break
		}
		// All of h is in one hole of f, as those do not touch.
		if i, in := f.hole(h.Lo); !in || f.Holes[i].Hi < h.Hi {
			return false
		}
	}
	return true
}

// highestBeyond returns the highest counter below n that e has seen and f has
// not, 0 for none.
func (e *Entry) highestBeyond(f *Entry, n uint64) uint64 {
	for n = min(e.N, n-1); n > 0; {
		if i, in := e.hole(n); in {
			n = e.Holes[i].Lo - 1
			continue
		}
		if n > f.N {
			return n
		}
		i, in := f.hole(n)
		if in {
			return n
		}
		if i == 0 {
			return 0 // f has seen all below, too
		}
		n = f.Holes[i-1].Hi
	}
	return 0
}

func (e Entry) equal(f Entry) bool {
	return e.Actor == f.Actor && e.N == f.N && slices.Equal(e.Holes, f.Holes)
}

// valid reports whether e keeps the type's promises.
func (e *Entry) valid() bool {
	if e.Actor == 0 || e.N == 0 || e.N > MaxN {
		return false
	}
	low := uint64(1) // of the next hole
	for _, h := range e.Holes {
		if h.Lo < low || h.Hi < h.Lo || h.Hi >= e.N {
			return false
		}
		low = h.Hi + 2
	}
	return true
}
