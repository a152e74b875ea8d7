package topology

import (
	"maps"
	"slices"
	"sync/atomic"
)

// Book has the newest known topology of each region that a node knows of, its
// own one left out, which the replica keeps. The regions are fixed when it is
// made; their topologies are learned anew. A nil Book knows of none. It is safe
// for concurrent use, and reads never wait.
type Book struct {
	// known by region; the map is replaced, never changed.
	known atomic.Pointer[map[Region]*Topology]
	newer chan struct{}
}

// NewBook returns one that begins with these, one of each region.
func NewBook(first ...*Topology) *Book {
	m := make(map[Region]*Topology, len(first))
	for _, t := range first {
		m[t.Region] = t
	}
	b := &Book{newer: make(chan struct{}, 1)}
	b.known.Store(&m)
	return b
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
