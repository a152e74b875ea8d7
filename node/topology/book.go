package topology

import (
	"maps"
	"slices"
	"sync/atomic"
)

// Book has the newest known topology of each region that a node knows of, its
// own one left out, which the replica keeps. Their topologies are learned anew; the
// regions come and go with the map of regions. A nil Book knows of none. It is safe
// for concurrent use, and reads never wait.
type Book struct {
	// known by region; the map is replaced, never changed.
	known atomic.Pointer[map[Region]*Topology]
	newer chan struct{}

	// gone are those that were retired, by number; replaced, too.
	gone atomic.Pointer[map[RegionID]*Topology]
}

// NewBook returns one that begins with these, one of each region.
func NewBook(first ...*Topology) *Book {
	m := make(map[Region]*Topology, len(first))
	for _, t := range first {
		m[t.Region] = t
	}
	b := &Book{newer: make(chan struct{}, 1)}
	b.known.Store(&m)
	b.gone.Store(&map[RegionID]*Topology{})
	return b
}

// Admit takes in a region that the book does not have; it reports whether it did.
func (b *Book) Admit(t *Topology) bool {
	for {
		old := b.known.Load()
		if (*old)[t.Region] != nil || (*b.gone.Load())[t.RegionID] != nil {
			return false
		}
		next := maps.Clone(*old)
		next[t.Region] = t
		if b.known.CompareAndSwap(old, &next) {
			return true
		}
	}
}

// Retire takes a region out, for good: it is among Gone from then on.
func (b *Book) Retire(r Region) {
	for {
		old := b.known.Load()
		t := (*old)[r]
		if t == nil {
			return
		}
		next := maps.Clone(*old)
		delete(next, r)
		if !b.known.CompareAndSwap(old, &next) {
			continue
		}
		for {
			old := b.gone.Load()
			next := maps.Clone(*old)
			next[t.RegionID] = t
			if b.gone.CompareAndSwap(old, &next) {
				return
			}
		}
	}
}

// Gone are those of the regions that were retired, by number.
func (b *Book) Gone() []*Topology {
	if b == nil {
		return nil
	}
	gone := *b.gone.Load()
	out := make([]*Topology, 0, len(gone))
	for _, id := range slices.Sorted(maps.Keys(gone)) {
		out = append(out, gone[id])
	}
	return out
}

// LeftWith returns the region that was retired and had a node among its members; ""
// for a node that there is in a region of the book, and for one that is not known.
func (b *Book) LeftWith(id NodeID) Region {
	if b == nil {
		return ""
	}
	gone := *b.gone.Load()
	if len(gone) == 0 { // as nearly always; it is asked for each request
		return ""
	}
	for _, t := range *b.known.Load() {
		if t.Member(id) != nil {
			return ""
		}
	}
	for _, t := range gone {
		if t.Member(id) != nil {
			return t.Region
		}
	}
	return ""
}

// Learn takes t if it is of a region in the book and newer; it reports whether
// it did.
func (b *Book) Learn(t *Topology) bool {
	if b == nil {
		return false
	}
	for {
		old := b.known.Load()
		have := (*old)[t.Region]
		if have == nil || have.Epoch >= t.Epoch || have.RegionID != t.RegionID ||
			have.Table.Partitions() != t.Table.Partitions() {
			return false
		}
		next := maps.Clone(*old)
		next[t.Region] = t
		if b.known.CompareAndSwap(old, &next) {
			select {
			case b.newer <- struct{}{}:
			default: // whoever waits has not looked yet
			}
			return true
		}
	}
}

// Newer gets a value after something was learned, one for all that was learned
// since the last. It is for one reader.
func (b *Book) Newer() <-chan struct{} { return b.newer }

// Get returns the newest known topology of r, nil for a region that is not in
// the book.
func (b *Book) Get(r Region) *Topology {
	if b == nil {
		return nil
	}
	return (*b.known.Load())[r]
}

// All returns the newest known ones, by the regions' names.
func (b *Book) All() []*Topology {
	if b == nil {
		return nil
	}
	known := *b.known.Load()
	out := make([]*Topology, 0, len(known))
	for _, r := range slices.Sorted(maps.Keys(known)) {
		out = append(out, known[r])
	}
	return out
}
