package crdt

import (
	"cmp"
	"slices"
)

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
	for k := range w {
		i, ok := v.find(w[k].Actor)
		if !ok || !v[i].coversAll(&w[k]) {
			return false
		}
	}
	return true
}

// With returns v joined with d and all events of its actor before it.
func (v VV) With(d Dot) VV { return v.WithAbove(d, 0) }

// WithAbove returns v joined with d and the events of its actor before it that
// are above low.
func (v VV) WithAbove(d Dot, low uint64) VV {
	add := Entry{Actor: d.Actor, N: d.N}
	low = min(low, d.N-1)
	i, ok := v.find(d.Actor)
	if ok && low == 0 && v[i].N >= d.N && len(v[i].Holes) == 0 {
		return v
	}
	if low > 0 {
		add.Holes = []Span{{1, low}}
	}
	if ok && v[i].coversAll(&add) {
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
	for i := range v {
		if !v[i].valid() || i > 0 && v[i-1].Actor >= v[i].Actor {
			return false
		}
	}
	return true
}

// Ranges is how many ranges of events v leaves out.
func (v VV) Ranges() int {
	n := 0
	for i := range v {
		n += len(v[i].Holes)
	}
	return n
}
