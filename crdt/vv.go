package crdt

import (
	"cmp"
	"slices"
)

// Entry says that all events of an actor up to N, on one key, were seen.
type Entry struct {
	Actor Actor
	N     uint64
}

// VV is a version vector: entries in ascending order of actor, each actor at
// most once, no zero counters. The zero VV has seen nothing. VVs are values:
// methods return new ones and never change the receiver's entries.
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

// Get returns the highest counter of a that v has seen, 0 for none.
func (v VV) Get(a Actor) uint64 {
	if i, ok := v.find(a); ok {
		return v[i].N
	}
	return 0
}

// Covers reports whether v has seen d.
func (v VV) Covers(d Dot) bool { return d.N <= v.Get(d.Actor) }

// CoversAll reports whether v has seen everything that w has.
func (v VV) CoversAll(w VV) bool {
	for _, e := range w {
		if v.Get(e.Actor) < e.N {
			return false
		}
	}
	return true
}

// With returns v joined with d (and, as vectors do, all before d).
func (v VV) With(d Dot) VV {
	i, ok := v.find(d.Actor)
	if ok && v[i].N >= d.N {
		return v
	}
	if ok {
		w := slices.Clone(v)
		w[i].N = d.N
		return w
	}
	w := make(VV, 0, len(v)+1)
	w = append(w, v[:i]...)
	w = append(w, Entry{d.Actor, d.N})
	return append(w, v[i:]...)
}

// Join returns the pointwise maximum.
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
			out = append(out, Entry{v[i].Actor, max(v[i].N, w[j].N)})
			i++
			j++
		}
	}
	out = append(out, v[i:]...)
	return append(out, w[j:]...)
}

// Equal reports whether v and w have seen the same.
func (v VV) Equal(w VV) bool { return slices.Equal(v, w) }

// valid reports whether v keeps the type's promises.
func (v VV) valid() bool {
	for i, e := range v {
		if e.Actor == 0 || e.N == 0 || i > 0 && v[i-1].Actor >= e.Actor {
			return false
		}
	}
	return true
}
