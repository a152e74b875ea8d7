package regions

import (
	"context"
	"slices"
	"time"

	"github.com/atolldb/atoll/geo/failover"
	"github.com/atolldb/atoll/geo/regionmap"
)

// Disks may be lost while an operation waits for what was on them. Then it waits no
// more for what no owner has: it asks all of them, twice, some seconds apart, and tells
// what it was. As long as one of them does not answer nobody can say so, and it waits.

// lookBeat is how long lies between two looks. What is in the log of a region that has
// lost its disks is on its way for as long as that.
const lookBeat = 5 * time.Second

// looks are how a stage looks for what is lost.
type looks struct {
	// lacking: something is missing that was waited for.
	lacking bool
	last    time.Time
	why     string // it is not known what is lost
	lost    failover.Missing
}

// letGo looks whether anything of the barrier is lost, while something is missing.
func (s *Steer) letGo(ctx context.Context, m *regionmap.Map, o *failover.Operation) {
	if !s.looks.lacking || time.Since(s.looks.last) < lookBeat {
		return
	}
	s.looks.lacking, s.looks.last, s.looks.why = false, time.Now(), ""
	var owners []failover.Clocks
	for _, region := range s.concerned(m, o) {
		c, err := s.deps.Owners(ctx, region, 0)
		if err != nil {
			s.looks.why = "(whether they are lost is not known: " + err.Error() + ") "
			return
		}
		owners = append(owners, c)
	}
	s.barrier.Look(owners...)
	lost := s.barrier.Lost()
	if lost.Writes == 0 {
		lost = failover.Missing{}
	}
	if lost.Writes != s.looks.lost.Writes {
		s.r.deps.Log.Warn("an operation on regions waits no more for writes that no owner has", "kind", o.Kind.String(), "of", o.Region, "stage", o.At().Name, "writes", lost.Writes)
	}
	s.looks.lost = lost
}

// concerned are the regions on the sides of a stage.
func (s *Steer) concerned(m *regionmap.Map, o *failover.Operation) (out []string) {
	for _, c := range o.At().Covers {
		for _, side := range []failover.Side{c.Of, c.At} {
			for _, region := range s.side(m, o, side) {
				if !slices.Contains(out, region) {
					out = append(out, region)
				}
			}
		}
	}
	return out
}

// late is what a failback found to have come late, counted once.
type late struct {
	of      operation
	missing failover.Missing
}

// cameLate notes what a region that returns has of its own and the survivors had not.
func (s *Steer) cameLate(ctx context.Context, m *regionmap.Map, o *failover.Operation) {
	if o.Missing.Counted || !o.Had.Whole() {
		return
	}
	if s.late.of != operationOf(o) || !s.late.missing.Counted {
		c, err := s.deps.Clocks(ctx, o.Region, idOf(m, o.Region))
		if err != nil {
			return // the next turn, or stage, asks again
		}
		s.late = late{operationOf(o), s.tallied(ctx, o.Region, failover.Compare(c.Seen(), o.Had.Clocks(len(c))))}
	}
	o.Missing = s.late.missing
}

// tallied is the list with what it has by bucket. A list that cannot be counted so is
// as good without.
func (s *Steer) tallied(ctx context.Context, region string, m failover.Missing) failover.Missing {
	if len(m.Spans) == 0 {
		return m
	}
	count, err := s.deps.Tally(ctx, region, m.Spans)
	if err != nil {
		s.r.deps.Log.Warn("it is not known to which buckets writes belong", "of", region, "error", err)
		return m
	}
	m.SetBuckets(count)
	return m
}
