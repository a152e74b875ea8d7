package coord

import (
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/session"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/quorum"
	"github.com/atolldb/atoll/node/wire"
)

// Await asks in which regions everything is that a session knows. What the session
// knows by consensus only, of reads, is not asked for: it is in no clock.
type Await struct {
	Session []byte
	// Level is quorum.Quorum, EachQuorum or All; the default is EachQuorum. Regions
	// overrides in how many regions, the own one among them, where it is not 0.
	Level    quorum.Level
	Regions  int
	Deadline time.Time
}

// maxAwaited bounds the partitions that one Await asks for at a time.
const maxAwaited = 32

// Await calls done when as many regions as asked for have everything; with an
// error of CodePartial, whose Applied has the regions, when the time is over; and
// with one of CodeSessionLost, soon, when owners here know that some of it is lost
// for good, and will never be anywhere.
func (c *Coordinator) Await(a Await, done func([]RegionAchieved, error)) {
	parts, err := c.awaited(&a)
	if err != nil {
		done(nil, err)
		return
	}
	top := c.Topology()
	k := key{top: top}
	w := want{level: a.Level, field: "owners", regions: a.Regions}
	r, err := c.reach(&k, w)
	if err != nil {
		done(nil, err)
		return
	}
	f := &farAwait{done: done, token: a.Session, parts: parts, deadline: early(a.Deadline), todo: make([]progress, 1+len(r.others))}
	f.open(c, &k, w, r)
	f.begin()
}

// awaited checks an Await and returns what its session knows, by partition.
func (c *Coordinator) awaited(a *Await) ([]*session.Part, *Error) {
	if a.Level == quorum.Default {
		a.Level = quorum.EachQuorum
	}
	if !a.Level.Regional() {
		return nil, invalid("level", "quorum, each-quorum or all", a.Level.String(), "only other regions are waited for")
	}
	bad := func(err error) *Error {
		return &Error{Code: CodeBadSession, Detail: err.Error(), Field: "session",
			Limit: "a token of this deployment, of at most " + strconv.Itoa(session.MaxSent) + " bytes", Seen: strconv.Itoa(len(a.Session)) + " bytes"}
	}
	if len(a.Session) > session.MaxSent {
		return nil, bad(errors.New("the token is too long"))
	}
	pieces, err := session.Split(a.Session)
	if err != nil {
		return nil, bad(err)
	}
	var places []session.Place
	var parts []*session.Part
	for _, p := range pieces {
		if slices.Contains(places, p.Place) {
			continue
		}
		places = append(places, p.Place)
		t, err := session.Open(*c.keys.Load(), a.Session, p.Place)
		switch {
		case err != nil:
			return nil, bad(err)
		case int(p.Place.Bits) != bits.TrailingZeros(uint(c.Topology().Table.Partitions())):
			return nil, bad(errors.New("of another number of partitions"))
		}
		if t.Part().Needs() != nil {
			parts = append(parts, t.Part())
		}
	}
	return parts, nil
}

// farAwait asks all regions about all partitions.
type farAwait struct {
	span
	done     func([]RegionAchieved, error)
	token    []byte
	parts    []*session.Part
	deadline time.Time
	todo     []progress // by region
	lost     []lostPart
}

// progress of a region.
type progress struct {
	next, open int
	least      wire.Share // of the partitions so far
	errands    []*errand
}

func (f *farAwait) begin() {
	f.mu.Lock()
	f.timer = time.AfterFunc(max(time.Until(f.deadline), 1), f.expire)
	f.mu.Unlock()
	for i := range f.states {
		for range min(maxAwaited, len(f.parts)) {
			f.step(i)
		}
		if len(f.parts) == 0 {
			f.mu.Lock()
			f.settle(f.said(i, wire.Share{}, nil))
		}
	}
}

// step asks a region about one partition more.
func (f *farAwait) step(i int) {
	f.mu.Lock()
	p := &f.todo[i]
	if f.answered || f.tally.Answered(i) || p.next == len(f.parts) {
		f.mu.Unlock()
		return
	}
	part := f.parts[p.next]
	p.next++
	p.open++
	which := hashring.Partition(part.Place.Prefix)
	if i == 0 {
		f.mu.Unlock()
		// A little later than the rest, so that expire is first.
		f.c.coveredOr(which, part.Needs(), f.want, f.deadline.Add(maxCoverPause), func(s wire.Share) {
			var err error
			if s.Yes < s.Needed {
				err = errors.New(s.Detail)
			}
			f.told(0, s, err)
		}, func(lost *crdt.Clock) { f.loses(part, lost) })
		return
	}
	e := &errand{
		c: f.c, region: f.states[i].Region, part: which, verb: peer.VerbRegionRead, deadline: f.deadline, patient: true,
		body: wire.AppendRegionRead(nil, &wire.RegionRead{Level: uint8(f.want.level), Partition: which, Needs: part.Needs()}),
		done: func(r wire.RegionReply, err error) { f.told(i, r.Share, err) },
	}
	p.errands = append(p.errands, e)
	f.mu.Unlock()
	e.begin()
}

// told takes what a region said of one partition.
func (f *farAwait) told(i int, s wire.Share, err error) {
	f.mu.Lock()
	p := &f.todo[i]
	p.open--
	if p.least.Needed == 0 || s.Yes < p.least.Yes {
		p.least = s
	}
	switch {
	case f.answered || f.tally.Answered(i):
		f.mu.Unlock()
		return
	case err != nil:
		f.settle(f.said(i, p.least, err))
		return
	case p.next == len(f.parts) && p.open == 0 && i == 0 && len(f.lost) > 0:
		f.late = true
		f.settle(f.tally.Verdict())
		return
	case p.next == len(f.parts) && p.open == 0:
		f.settle(f.said(i, p.least, nil))
		return
	}
	f.mu.Unlock()
	f.step(i)
}

func (f *farAwait) expire() {
	f.mu.Lock()
	f.late = true
	f.settle(f.tally.Verdict())
}

// settle answers if there is an answer. It is called with the lock held, and gives
// it back.
func (f *farAwait) settle(v quorum.Verdict) {
	if f.answered || v == quorum.Pending && !f.late {
		f.mu.Unlock()
		return
	}
	f.stop()
	for i := range f.todo {
		for _, e := range f.todo[i].errands {
			if best, last := e.close(); last != nil && !f.tally.Answered(i) {
				f.heard(i, best.Share, last)
			}
		}
	}
	states := slices.Clone(f.states)
	var err error
	if len(f.lost) > 0 {
		err = f.sessionLost()
	} else if v != quorum.Met {
		e := f.short(CodePartial, Applied)
		e.Detail = "not everything that the session knows is there: " + e.Detail
		e.Applied = &PutResult{Achieved: Achieved{Level: f.want.level, Coordinator: f.c.cfg.Self, Regions: states}}
		err = e
	}
	f.mu.Unlock()
	f.done(states, err)
}

// The pauses between two looks at the owners' clocks, doubling.
const coverPause, maxCoverPause = 20 * time.Millisecond, 250 * time.Millisecond

// covered calls done, once, when as many of this region's owners of a partition as
// w wants have all dots of needs, or at the deadline.
func (c *Coordinator) covered(p hashring.Partition, needs *crdt.Clock, w want, deadline time.Time, done func(wire.Share)) {
	c.coveredOr(p, needs, w, deadline, done, nil)
}

// coveredOr is covered, but calls lose instead of done when an owner knows that
// some of needs is lost for good.
func (c *Coordinator) coveredOr(p hashring.Partition, needs *crdt.Clock, w want, deadline time.Time, done func(wire.Share), lose func(*crdt.Clock)) {
	v := &covering{c: c, p: p, needs: needs, want: w, deadline: deadline, done: done, lose: lose}
	v.look(coverPause)
}

// covering looks at owners' clocks again and again.
type covering struct {
	c        *Coordinator
	p        hashring.Partition
	needs    *crdt.Clock
	want     want
	deadline time.Time
	done     func(wire.Share)
	lose     func(lost *crdt.Clock) // nil: what is lost is waited for in vain
}

func (v *covering) look(pause time.Duration) {
	row := v.c.Topology().Row(v.p)
	need, e := (&key{row: row}).need(v.want)
	share := wire.Share{Needed: uint32(max(need, 1)), Owners: uint32(len(row.Slots))}
	left := time.Until(v.deadline)
	if e != nil || left <= 0 {
		v.end(share, e)
		return
	}
	var mu sync.Mutex
	open := len(row.Slots)
	body := wire.AppendCompare(nil, wire.Compare{Sums: []wire.Sum{{Partition: v.p}}})
	over := false
	vote := func(has bool, lost *crdt.Clock) {
		mu.Lock()
		if over {
			mu.Unlock()
			return
		}
		over = lost != nil && v.lose != nil
		if has && lost == nil {
			share.Yes++
		}
		open--
		now, last, ends := share, open == 0, over
		mu.Unlock()
		switch {
		case ends && now.Yes < now.Needed:
			v.lose(lost)
		case has && lost == nil && now.Yes == now.Needed:
			v.done(now)
		case !last || now.Yes >= now.Needed:
		case time.Until(v.deadline) <= pause:
			v.end(now, nil)
		default:
			time.AfterFunc(pause, func() { v.look(min(2*pause, maxCoverPause)) })
		}
	}
	for _, s := range row.Slots {
		switch id := s.Serves(); {
		case id == v.c.cfg.Self:
			missing, lost := v.c.Replica.Look(v.p, v.needs)
			vote(missing == nil, lost)
		case !v.c.alive(id):
			vote(false, nil)
		default:
			v.c.send(id, 0, peer.VerbCompare, body, time.Now().Add(min(left, time.Second)), func(b []byte, err error) {
				ds, derr := wire.DecodeDifferences(b)
				if err != nil || derr != nil || len(ds) != 1 {
					vote(false, nil)
					return
				}
				lacks := less(v.needs, ds[0].Clock)
				vote(lacks == nil, ds[0].Losses.Of(v.needs, lacks))
			})
		}
	}
}

func (v *covering) end(s wire.Share, e *Error) {
	s.Code, s.Detail = uint8(CodePartial), fmt.Sprintf("%d of %d owners of partition %d have it, it takes %d", s.Yes, s.Owners, v.p, s.Needed)
	if e != nil {
		s.Detail = e.Error()
	}
	v.done(s)
}

// serveRegionNeeds answers a RegionRead that asks for delivery only.
func (c *Coordinator) serveRegionNeeds(m *wire.RegionRead, w want, deadline time.Time, reply peer.Done) {
	if int(m.Partition) >= c.Topology().Table.Partitions() {
		invalidRequest(reply, fmt.Errorf("no partition %d", m.Partition))
		return
	}
	c.covered(m.Partition, m.Needs, w, deadline, func(s wire.Share) {
		reply(wire.AppendRegionReply(nil, &wire.RegionReply{Share: s}), nil)
	})
}
