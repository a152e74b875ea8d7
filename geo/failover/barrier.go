package failover

import (
	"slices"

	"github.com/atolldb/atoll/crdt"
)

// Barrier is what a stage's covers have to bring across: what their sides had seen when
// it began. Disks that are lost meanwhile would have it wait for ever; so it lets go of
// what no owner has any more, and tells of it.
type Barrier struct {
	wants [][]*crdt.Clock
	// absent is what no owner had at the last look, lost what none had at the last two.
	absent, lost []*crdt.Clock
	looked       bool
}

// NewBarrier of what is wanted, by cover and partition.
func NewBarrier(wants ...[]*crdt.Clock) *Barrier { return &Barrier{wants: wants} }

// Want is what the cover i still waits for, or has.
func (b *Barrier) Want(i int) []*crdt.Clock { return less(b.wants[i], b.lost) }

// Look takes what owners have, of each region that is on a side of the stage. Who asks
// has had an answer of every one of them, and lets some time go by between two looks:
// clocks are read one after the other, and what is on its way from one owner to another
// may be seen at neither. What comes to light again is not lost.
func (b *Barrier) Look(owners ...Clocks) {
	var seen, all []*crdt.Clock
	for _, c := range owners {
		seen = Join(seen, c.Seen())
	}
	for _, want := range b.wants {
		all = Join(all, want)
	}
	absent := less(all, seen)
	if b.looked {
		b.lost = less(absent, less(absent, b.absent))
	}
	b.absent, b.looked = absent, true
}

// Lost are the writes that it has let go of.
func (b *Barrier) Lost() Missing { return Compare(b.lost, nil) }

// less is what a has and b has not, by partition.
func less(a, b []*crdt.Clock) []*crdt.Clock {
	out := make([]*crdt.Clock, len(a))
	for p := range a {
		if p < len(b) {
			out[p] = b[p].Beyond(a[p])
		} else {
			out[p] = a[p]
		}
	}
	return out
}

// And are the writes of both lists. Listed are as many of them as MaxSpans allows.
func (m Missing) And(o Missing) Missing {
	switch {
	case !o.Counted:
		return m
	case !m.Counted:
		return o
	case !m.Whole() || !o.Whole(): // some may be on both
		out := Missing{Counted: true, Writes: m.Writes + o.Writes, HeardMs: m.HeardMs}
		out.Spans = append(out.Spans, m.Spans...)
		out.Spans = append(out.Spans, o.Spans[:min(len(o.Spans), MaxSpans-len(m.Spans))]...)
		return out
	}
	parts := 0
	for _, s := range slices.Concat(m.Spans, o.Spans) {
		parts = max(parts, int(s.Partition)+1)
	}
	out := Compare(Join(m.Clocks(parts), o.Clocks(parts)), nil)
	out.HeardMs = m.HeardMs
	return out
}
