package crdt

import (
	"cmp"
	"slices"
)

// Entry says that the events of an actor up to N, on one key, were seen, all
// but those in Holes.
//
// Holes are there because one minter serves clients that do not know of each
// other: whoever writes blindly beside a sibling of the same minter, and goes on
// from the answer, has seen his own event but not the lower one. Version
// vectors with exceptions (Malkhi and Terry 2005) say just that. A hole is the
// counter of a sibling that was live then, so there are few, and the first read
// closes them.
type Entry struct {
	Actor Actor
	N     uint64
	// Holes ascend and lie in 1..N-1.
	Holes []uint64
}

func (e Entry) covers(n uint64) bool {
	if n > e.N {
		return false
	}
	for _, h := range e.Holes {
		if h == n {
			return false
		}
	}
	return true
}

// join returns what either has seen.
func (e Entry) join(f Entry) Entry {
	out := Entry{Actor: e.Actor, N: max(e.N, f.N)}
	if len(e.Holes) == 0 && len(f.Holes) == 0 {
		return out
	}
	for _, h := range e.Holes {
		if !f.covers(h) {
			out.Holes = append(out.Holes, h)
		}
	}
	for _, h := range f.Holes {
		if !e.covers(h) {
			out.Holes = append(out.Holes, h)
		}
	}
	slices.Sort(out.Holes)
	out.Holes = slices.Compact(out.Holes)
	return out
}

// coversAll reports whether e has seen all that f has.
func (e Entry) coversAll(f Entry) bool {
	if e.N < f.N {
		return false
	}
	for _, h := range e.Holes {
		if f.covers(h) {
			return false
		}
	}
	return true
}

func (e Entry) equal(f Entry) bool {
	return e.Actor == f.Actor && e.N == f.N && slices.Equal(e.Holes, f.Holes)
}

// VV is a version vector with exceptions: entries in ascending order of actor,
// each actor at most once, no zero counters. The zero VV has seen nothing. VVs
// are values: methods return new ones and never change the receiver's entries.
type VV []Entry

func (v VV) find(a Actor) (int, bool) {
	// Vectors are one to three entries long: a scan beats a binary search.
	for i := range v {
		if v[i].Actor >= a {
			return i, v[i].Actor == a
		}
	}
	return len(v), false
}

// Get returns the highest counter of a that v has seen, 0 for none; see Covers
// for what lies below.
func (v VV) Get(a Actor) uint64 {
	if i, ok := v.find(a); ok {
		return v[i].N
	}
	return 0
}

// Covers reports whether v has seen d.
func (v VV) Covers(d Dot) bool {
	i, ok := v.find(d.Actor)
	return ok && v[i].covers(d.N)
}

// CoversAll reports whether v has seen everything that w has.
func (v VV) CoversAll(w VV) bool {
	for _, e := range w {
		i, ok := v.find(e.Actor)
		if !ok || !v[i].coversAll(e) {
			return false
		}
	}
	return true
}

// With returns v joined with d and all events of its actor before it, except
// the given ones that v has not seen.
func (v VV) With(d Dot, except ...uint64) VV {
	add := Entry{Actor: d.Actor, N: d.N}
	for _, n := range except {
		if n < d.N {
			add.Holes = append(add.Holes, n)
		}
	}
	slices.Sort(add.Holes)
	add.Holes = slices.Compact(add.Holes)
	i, ok := v.find(d.Actor)
	if ok && v[i].coversAll(add) {
		return v
	}
	if ok {
		w := slices.Clone(v)
		w[i] = v[i].join(add)
		return w
	}
	w := make(VV, 0, len(v)+1)
	w = append(w, v[:i]...)
	w = append(w, add)
	return append(w, v[i:]...)
}

// Join returns what either has seen.
func (v VV) Join(w VV) VV {
	if len(w) == 0 || v.CoversAll(w) {
		return v
	}
	if w.CoversAll(v) {
		return w
	}
	out := make(VV, 0, len(v)+len(w))
	i, j := 0, 0
	for i < len(v) && j < len(w) {
		switch c := cmp.Compare(v[i].Actor, w[j].Actor); {
		case c < 0:
			out = append(out, v[i])
			i++
		case c > 0:
			out = append(out, w[j])
			j++
		default:
			out = append(out, v[i].join(w[j]))
			i++
			j++
		}
	}
	out = append(out, v[i:]...)
	return append(out, w[j:]...)
}

// Equal reports whether v and w have seen the same.
func (v VV) Equal(w VV) bool { return slices.EqualFunc(v, w, Entry.equal) }

// valid reports whether v keeps the type's promises.
func (v VV) valid() bool {
	for i, e := range v {
		if e.Actor == 0 || e.N == 0 || i > 0 && v[i-1].Actor >= e.Actor {
			return false
		}
		var last uint64
		for _, h := range e.Holes {
			if h <= last || h >= e.N {
				return false
			}
			last = h
		}
	}
	return true
}

// hasHoles reports whether any entry has exceptions.
func (v VV) hasHoles() bool {
	for i := range v {
		if len(v[i].Holes) > 0 {
			return true
		}
	}
	return false
}
