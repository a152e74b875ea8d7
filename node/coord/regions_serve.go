package coord

import (
	"fmt"
	"sync"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/geo"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/quorum"
	"github.com/atolldb/atoll/node/wire"
)

// What other regions ask of this one; see errand. A share that is less than
// needed is an answer: who asked wants to know how many there are.

// serveRegion serves what nodes of other regions ask for; it reports whether req
// was such.
func (c *Coordinator) serveRegion(req peer.Request, reply peer.Done) bool {
	switch req.Verb {
	case peer.VerbRegionApply:
		c.serveRegionApply(req, reply)
	case peer.VerbRegionRead:
		c.serveRegionRead(req, reply)
	case peer.VerbHomePut:
		c.handleHomePut(req, reply)
	default:
		return false
	}
	return true
}

func invalidRequest(reply peer.Done, err error) {
	reply(nil, &peer.Refusal{Code: peer.CodeInvalid, Detail: err.Error()})
}

// asked is what another region wants of this one's owners.
func asked(level uint8, owners uint32) want {
	return want{level: quorum.Level(level), count: int(min(owners, 1<<16)), field: "owners"}
}

// foreign is the key of a request from another region. What the bucket allows
// was judged there.
func (c *Coordinator) foreign(full []byte) (key, error) {
	if len(full) == 0 || len(full) > MaxBucket+1+MaxKey {
		return key{}, fmt.Errorf("%w: a key of %d bytes", wire.ErrMalformed, len(full))
	}
	k := key{full: full, hash: hashring.KeyHash(full)}
	k.resolve(c.Topology())
	return k, nil
}

func (c *Coordinator) serveRegionApply(req peer.Request, reply peer.Done) {
	m, err := wire.DecodeRegionApply(req.Body)
	if err != nil {
		invalidRequest(reply, err)
		return
	}
	k, err := c.foreign(m.Entry.Key)
	if err != nil {
		invalidRequest(reply, err)
		return
	}
	w := asked(m.Level, m.Owners)
	if _, e := k.need(w); e != nil {
		invalidRequest(reply, e)
		return
	}
	c.joinHere(m.Entry, w, early(time.Now().Add(req.Timeout)), func(s wire.Share) {
		reply(wire.AppendRegionReply(nil, &wire.RegionReply{Share: s}), nil)
	})
}

// joinHere has this region's owners join a record, and calls done once, when as
// many as w wants have it durably, when that cannot be any more, or at the
// deadline.
func (c *Coordinator) joinHere(entry wire.Entry, w want, deadline time.Time, done func(wire.Share)) {
	j := &joining{c: c, entry: entry, want: w, deadline: deadline, done: done}
	j.timer = time.AfterFunc(max(time.Until(deadline), 1), j.expire)
	j.turn(0)
}

// joining is one record on its way to this region's owners.
type joining struct {
	c        *Coordinator
	entry    wire.Entry
	want     want
	deadline time.Time
	done     func(wire.Share)
	timer    *time.Timer
	once     sync.Once

	mu  sync.Mutex
	now *spread // of the last turn
}

// turn sends the record by the topology that holds now, for the n-th time after
// the first.
func (j *joining) turn(n int) {
	top := j.c.Topology()
	entries := []geo.Entry{{Key: j.entry.Key, Record: j.entry.Record, Dots: j.entry.Dots, IDs: j.entry.IDs}}
	s := j.c.spread(top, entries, j.want, j.deadline, func(s *spread, err error) {
		if err != nil && stale(err) && n < maxTurns && j.c.Topology().Epoch > top.Epoch {
			j.turn(n + 1)
			return
		}
		j.end(s, err)
	})
	j.mu.Lock()
	j.now = s
	j.mu.Unlock()
}

func (j *joining) expire() {
	j.mu.Lock()
	s := j.now
	j.mu.Unlock()
	if s == nil { // it is being sent
		j.timer.Reset(time.Millisecond)
		return
	}
	j.end(s, fmt.Errorf("the deadline passed: %w", peer.ErrTimeout))
}

func (j *joining) end(s *spread, err error) {
	j.once.Do(func() {
		j.timer.Stop()
		yes, need := s.yes()
		p := hashring.PartitionOf(hashring.KeyHash(j.entry.Key), s.top.Table.Partitions())
		slots := len(s.top.Row(p).Slots)
		out := wire.Share{Yes: uint32(min(yes, slots)), Needed: uint32(max(1, min(need, slots))), Owners: uint32(slots)}
		if err != nil {
			out.Code = uint8(CodeUnavailable)
			out.Detail = fmt.Sprintf("%d of %d owners have it, it takes %d: %v", yes, slots, need, err)
			// All but one that does not count may have it.
			out.Yes = min(out.Yes, out.Needed-1)
		}
		j.done(out)
	})
}

func (c *Coordinator) serveRegionRead(req peer.Request, reply peer.Done) {
	m, err := wire.DecodeRegionRead(req.Body)
	if err == nil && m.Needs != nil && len(m.Key) > 0 {
		err = fmt.Errorf("%w: both a key and needs", wire.ErrMalformed)
	}
	if err != nil {
		invalidRequest(reply, err)
		return
	}
	if m.Needs != nil {
		c.serveRegionNeeds(&m, asked(m.Level, m.Owners), early(time.Now().Add(req.Timeout)), reply)
		return
	}
	k, err := c.foreign(m.Key)
	if err != nil {
		invalidRequest(reply, err)
		return
	}
	w := asked(m.Level, m.Owners)
	n, e := k.need(w)
	if e != nil {
		invalidRequest(reply, e)
		return
	}
	owners := uint32(len(k.row.Slots))
	answer := func(rec crdt.Record, a Achieved, e *Error) {
		out := wire.RegionReply{Share: wire.Share{Yes: uint32(len(a.Replicas)), Needed: uint32(a.Needed), Owners: owners}}
		if e != nil {
			out.Share = wire.Share{Yes: uint32(min(e.Acks, n-1)), Needed: uint32(n), Owners: owners, Code: uint8(e.Code), Detail: e.Error()}
		} else {
			// What went through the key's consensus does not name who took part.
			out.Yes = max(out.Yes, out.Needed)
			if len(rec.Versions) > 0 {
				out.Record = crdt.AppendRecord(nil, k.hash, rec)
			}
		}
		reply(wire.AppendRegionReply(nil, &out), nil)
	}
	if w.level.Consensus() && w.count == 0 {
		if m.Home == 0 {
			invalidRequest(reply, fmt.Errorf("%w: a read at %s of no home", wire.ErrMalformed, w.level))
			return
		}
		c.serveHomeRead(&m, early(time.Now().Add(req.Timeout)), answer)
		return
	}
	if e := c.current(&k, w, n); e != nil {
		answer(crdt.Record{}, Achieved{}, e)
		return
	}
	c.read(k, w, early(time.Now().Add(req.Timeout)), answer)
}
