package failover

import (
	"cmp"
	"slices"

	"github.com/atolldb/atoll/crdt"
)

// Clocks are what owners of a region have: by partition, one clock of each owner
// that answered. The index is the partition.
type Clocks [][]*crdt.Clock

// Only returns c with the actors of one region alone.
func Only(c *crdt.Clock, region uint8) *crdt.Clock {
	out := &crdt.Clock{}
	for _, d := range c.All() {
		if d.Actor.Region() == region {
			out.AddSpan(d)
		}
	}
	return out
}

// Seen is what any owner has, by partition.
func (c Clocks) Seen() []*crdt.Clock {
	out := make([]*crdt.Clock, len(c))
	for p, owners := range c {
		out[p] = &crdt.Clock{}
		for _, o := range owners {
			out[p].Join(o)
		}
	}
	return out
}

// Join adds what another region has seen.
func Join(a, b []*crdt.Clock) []*crdt.Clock {
	out := make([]*crdt.Clock, max(len(a), len(b)))
	for p := range out {
		out[p] = &crdt.Clock{}
		for _, from := range [][]*crdt.Clock{a, b} {
			if p < len(from) {
				out[p].Join(from[p])
			}
		}
	}
	return out
}

// Lacking counts the writes of want that some owner lacks: of each partition the
// most that one of them does.
func (c Clocks) Lacking(want []*crdt.Clock) (writes uint64) {
	for p, w := range want {
		most := uint64(0)
		if p < len(c) {
			for _, o := range c[p] {
				most = max(most, o.CountMissing(w))
			}
		}
		writes += most
	}
	return writes
}

// Span is one run of writes of an actor in a partition.
type Span struct {
	Partition uint32
	Dots      crdt.Dots
}

// MaxSpans bounds those that are listed.
const MaxSpans = 2048

// Missing lists writes.
type Missing struct {
	// Counted says that there was something to count by.
	Counted bool
	// Writes of all, those beyond Spans included.
	Writes uint64
	Spans  []Span
	// HeardMs is how long ago, when this was counted, the region was heard last: what
	// it took since then is not among these, and cannot be known.
	HeardMs uint64
	// Buckets are the listed writes by bucket, in the order of their names; those of
	// which it is not known are in none. Empty where nobody could be asked: who is told
	// of a write by a clock is not told its key.
	Buckets []BucketWrites
}

// BucketWrites is how many writes there are in a bucket.
type BucketWrites struct {
	Bucket string
	Writes uint64
}

// MaxBuckets bounds those that are listed: the ones with most writes are.
const MaxBuckets = 256

// maxBucketName bounds the name of one, in bytes.
const maxBucketName = 255

// SetBuckets takes what was counted by bucket.
func (m *Missing) SetBuckets(count map[string]uint64) {
	m.Buckets = nil
	for name, n := range count {
		if n > 0 && name != "" && len(name) <= maxBucketName {
			m.Buckets = append(m.Buckets, BucketWrites{name, n})
		}
	}
	slices.SortFunc(m.Buckets, func(a, b BucketWrites) int {
		return cmp.Or(cmp.Compare(b.Writes, a.Writes), cmp.Compare(a.Bucket, b.Bucket))
	})
	m.Buckets = m.Buckets[:min(len(m.Buckets), MaxBuckets)]
	slices.SortFunc(m.Buckets, func(a, b BucketWrites) int { return cmp.Compare(a.Bucket, b.Bucket) })
}

// Compare lists what of told no clock of have has.
func Compare(told, have []*crdt.Clock) Missing {
	m := Missing{Counted: true}
	for p, t := range told {
		h := &crdt.Clock{}
		if p < len(have) {
			h = have[p]
		}
		spans := h.Missing(t)
		slices.SortFunc(spans, func(a, b crdt.Dots) int {
			return cmp.Or(cmp.Compare(a.Actor, b.Actor), cmp.Compare(a.Lo, b.Lo))
		})
		for _, d := range spans {
			m.Writes += d.Len()
			if len(m.Spans) < MaxSpans {
				m.Spans = append(m.Spans, Span{uint32(p), d})
			}
		}
	}
	return m
}

// Whole reports whether all of the writes are listed.
func (m *Missing) Whole() bool {
	n := uint64(0)
	for _, s := range m.Spans {
		n += s.Dots.Len()
	}
	return m.Counted && n == m.Writes
}

// Clocks are the listed writes as clocks of so many partitions.
func (m *Missing) Clocks(partitions int) []*crdt.Clock {
	out := make([]*crdt.Clock, partitions)
	for p := range out {
		out[p] = &crdt.Clock{}
	}
	for _, s := range m.Spans {
		if int(s.Partition) < partitions {
			out[s.Partition].AddSpan(s.Dots)
		}
	}
	return out
}
