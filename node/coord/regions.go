package coord

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/atolldb/atoll/node/quorum"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/wire"
)

// An operation whose level leaves the region is met here first, as a local one
// is, and then in other regions: one node of each is asked to have its own
// owners do the same, by an errand. It never waits for the stream between
// regions, which carries the same records and does not mind that they are there.
//
// A write that is met here holds, whatever other regions say: waiting for them
// is waiting, and not a vote. When the time is over, or so many regions cannot be
// reached that waiting is of no use, the answer is PARTIAL, with what each region
// said. Nothing is taken back. A write is refused as not applied only before it
// is minted: when this node knows of too few regions with a node that is up.

// reach is which regions an operation is to be met in.
type reach struct {
	others []*topology.Topology // that are asked, beside the own one
	need   int                  // of all of them, the own one too
}

// far says that an operation leaves the region.
func (w want) far() bool { return w.level.Regional() && w.regions != 1 || w.regions > 1 }

// counted are the other regions that have a bucket's keys and are counted: one that
// is fenced, or not back yet, is not.
func (c *Coordinator) counted(b *Bucket) []*topology.Topology {
	if c.Regions == nil {
		return nil
	}
	all := c.Regions()
	out := func(t *topology.Topology) bool {
		return len(b.Regions) > 0 && !slices.Contains(b.Regions, t.Region) || c.uncounted(t.Region)
	}
	if !slices.ContainsFunc(all, out) {
		return all
	}
	return slices.DeleteFunc(slices.Clone(all), out)
}

// region is the newest known topology of another region, nil for none.
func (c *Coordinator) region(name topology.Region) *topology.Topology {
	for _, t := range c.Regions() {
		if t.Region == name {
			return t
		}
	}
	return nil
}

// reach finds where w is to be met.
func (c *Coordinator) reach(k *key, w want) (reach, *Error) {
	r := reach{others: c.counted(&k.bucket)}
	all := 1 + len(r.others)
	if w.regions < 0 || w.regions > all {
		return r, invalid("regions", fmt.Sprintf("1..%d", all), strconv.Itoa(w.regions), "there are not so many regions")
	}
	r.need = w.regions
	if r.need == 0 {
		r.need = w.level.Regions(all)
	}
	return r, nil
}

// refuse says that a write cannot be met because of the regions that are down,
// nil if it may be.
func (r *reach) refuse(c *Coordinator, w want) *Error {
	up := 1
	var down []string
	for _, t := range r.others {
		if slices.ContainsFunc(t.Present(), c.alive) {
			up++
		} else {
			down = append(down, string(t.Region))
		}
	}
	if up >= r.need {
		return nil
	}
	return &Error{
		Code: CodeUnavailable, Needed: r.need, Acks: up, Lacks: LackRegions, RetryAfterMs: 500,
		Detail: fmt.Sprintf("%s needs %d of %d regions, and no node can be reached of: %s", w, r.need, 1+len(r.others), strings.Join(down, ", ")),
	}
}

// early is when an answer has to be given that shall be there by the deadline:
// a tenth of the time that is left before, at most 100 ms.
func early(deadline time.Time) time.Time {
	return deadline.Add(-max(0, min(time.Until(deadline)/10, 100*time.Millisecond)))
}

// span is one operation in several regions. Region 0 is the own one.
type span struct {
	c     *Coordinator
	k     key
	want  want
	reach reach

	mu       sync.Mutex
	tally    quorum.Regions
	states   []RegionAchieved
	shares   []quorum.Share
	errands  []*errand // of regions 1...
	begun    bool
	answered bool
	late     bool // the time for regions is over
	timer    *time.Timer
}

func (s *span) open(c *Coordinator, k *key, w want, r reach) {
	s.c, s.k, s.want, s.reach = c, *k, w, r
	s.tally = quorum.NewRegions(r.need, 1+len(r.others))
	s.states = []RegionAchieved{{Region: k.top.Region, State: RegionUnknown}}
	for _, t := range r.others {
		s.states = append(s.states, RegionAchieved{Region: t.Region, State: RegionUnknown})
	}
	s.shares = make([]quorum.Share, len(s.states))
	for i, t := range r.others {
		s.shares[1+i].Owners = len(t.Row(k.part).Slots)
	}
}

// said notes what a region said in the end. Called with the lock held.
func (s *span) said(i int, share wire.Share, err error) quorum.Verdict {
	g := &s.states[i]
	s.heard(i, share, err)
	if err != nil {
		g.State = RegionFailed
		return s.tally.Fail(i)
	}
	g.State, g.Detail = RegionReached, ""
	return s.tally.Met(i)
}

// heard notes what a region has said so far. Called with the lock held.
func (s *span) heard(i int, share wire.Share, err error) {
	g := &s.states[i]
	if share.Needed > 0 {
		g.Replicas, g.Needed = int(share.Yes), int(share.Needed)
		s.shares[i] = quorum.Share{Yes: int(share.Yes), Owners: int(share.Owners)}
	}
	if err != nil {
		g.Detail = err.Error()
	}
}

// stop ends all errands, and notes what those said that were not done. Called
// with the lock held.
func (s *span) stop() {
	s.answered = true
	if s.timer != nil {
		s.timer.Stop()
	}
	for i, e := range s.errands {
		if e == nil {
			continue
		}
		best, last := e.close()
		if !s.tally.Answered(1 + i) {
			s.heard(1+i, best.Share, last)
		}
	}
}

// tell adds to what was achieved here what the regions said. Called with the lock
// held.
func (s *span) tell(a *Achieved) {
	a.Regions = slices.Clone(s.states)
	a.Reached = quorum.Reached(s.shares)
	for _, g := range s.states {
		a.Degraded = a.Degraded || g.State == RegionFailed
	}
}

// short says which regions are missing. Called with the lock held.
func (s *span) short(code Code, outcome Outcome) *Error {
	var missing []string
	for _, g := range s.states {
		if g.State == RegionReached {
			continue
		}
		m := string(g.Region)
		if g.Detail != "" {
			m += " (" + g.Detail + ")"
		}
		missing = append(missing, m)
	}
	detail := fmt.Sprintf("%s needs %d of %d regions, %d answered; missing: %s", s.want, s.reach.need, len(s.states), s.tally.Yes(), strings.Join(missing, ", "))
	return &Error{Code: code, Outcome: outcome, Detail: detail, Needed: s.reach.need, Acks: s.tally.Yes(), Lacks: LackRegions}
}
