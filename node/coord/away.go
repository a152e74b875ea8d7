package coord

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/quorum"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/wire"
)

// What another region decides, as the home of the bucket, is sent to one node
// there: the servers of the key in that region's order, so that all regions find
// the same proposer, and then some that do not serve it. A write goes on to the
// next node only after one that is known to have had no effect (K4), and is not
// sent twice otherwise. A read asks one more while others are silent, and all of
// them again while there is time; see errand.

// goHome sends a write to the home region of its bucket.
func (w *write) goHome() {
	c := w.c
	c.stats.Homeward.Add(1)
	if w.forwarded { // its sender holds this region to be the home
		w.done(PutResult{}, c.fenced(c.notHome(&w.k, w.want.home), NotApplied))
		return
	}
	e := errand{c: c, region: w.away, part: w.k.part}
	e.order()
	w.p.Level = w.want.level
	body := wire.AppendHomePut(nil, &wire.HomePut{Home: w.want.home, Put: *packPut(&w.p)})
	w.askHome(e.queue, body, nil)
}

// askHome asks the first of those nodes; last is why the one before has not taken
// the write, nil for none.
func (w *write) askHome(queue []topology.NodeID, body []byte, last *Error) {
	c := w.c
	if len(queue) == 0 || time.Until(w.p.Deadline) <= 0 {
		w.done(PutResult{}, w.unreached(last))
		return
	}
	to := queue[0]
	c.send(to, 0, peer.VerbHomePut, body, w.p.Deadline, func(reply []byte, err error) {
		if err != nil {
			if noEffect(err) {
				w.askHome(queue[1:], body, &Error{Detail: fmt.Sprintf("%s: %v", to, err)})
				return
			}
			e := &Error{Code: CodeUnavailable, Outcome: Unknown, Detail: fmt.Sprintf("%s in the home region %s may or may not have taken the write: %v", to, w.away, err)}
			if time.Until(w.p.Deadline) <= 0 {
				e.Code = CodeDeadline
			}
			w.done(PutResult{}, e)
			return
		}
		res, failed, bad := unpackReply(reply)
		switch {
		case bad != nil:
			w.done(PutResult{}, &Error{Code: CodeInternal, Outcome: Unknown, Detail: fmt.Sprintf("reply of %s: %v", to, bad)})
		case failed != nil && failed.again:
			w.askHome(queue[1:], body, failed)
		case failed != nil:
			failed.certain = true // who decides knows best
			w.done(res, c.shown(&w.k, failed))
		default:
			w.done(res, nil)
		}
	})
}

// unreached says that no node of the home region has taken the write.
func (w *write) unreached(last *Error) *Error {
	e := w.c.awayFrom(w.away, w.p.Deadline, nil)
	if last != nil {
		if last.Code != 0 {
			e.Code = last.Code
		}
		e.Detail += "; the last one: " + last.Detail
	}
	return e
}

// awayFrom says that the home region could not be asked. Nothing was done.
func (c *Coordinator) awayFrom(region topology.Region, deadline time.Time, why error) *Error {
	e := &Error{
		Code: CodeUnavailable, Lacks: LackHome, RetryAfterMs: 200,
		Detail: fmt.Sprintf("serial is decided in the bucket's home region %s, and no node of it could be asked", region),
	}
	if why != nil {
		e.Detail += ": " + why.Error()
	}
	if time.Until(deadline) <= 0 {
		e.Code = CodeDeadline
	}
	return e
}

// handleHomePut serves a write that a node of another region was asked for.
func (c *Coordinator) handleHomePut(req peer.Request, reply peer.Done) {
	m, err := wire.DecodeHomePut(req.Body)
	if err != nil {
		invalidRequest(reply, err)
		return
	}
	p := unpackPut(&m.Put)
	p.Deadline = early(time.Now().Add(req.Timeout))
	answer := func(r PutResult, e *Error) { reply(packReply(r, e), nil) }
	c.prepared(p, func(w *write, e *Error) {
		if e == nil && (w.away != "" || w.want.home != m.Home) {
			e = c.fenced(c.notHome(&w.k, m.Home), NotApplied)
		}
		if e != nil { // the asker takes it for what became of the request
			answer(PutResult{}, e.ofRequest(&p))
			return
		}
		c.stats.Puts.Add(1)
		w.done = answer
		w.speaksOfRequest()
		c.begin(w)
	})
}

// readHome reads in the home region of the key's bucket.
func (c *Coordinator) readHome(k key, w want, region topology.Region, g *Get, done func(GetResult, error)) {
	c.stats.Homeward.Add(1)
	h := &homeRead{c: c, k: k, want: w, region: region, deadline: g.Deadline, done: done}
	h.errand = &errand{
		c: c, region: region, part: k.part, verb: peer.VerbRegionRead, deadline: early(g.Deadline), done: h.answer,
		body: wire.AppendRegionRead(nil, &wire.RegionRead{Key: k.full, Level: uint8(w.level), Home: w.home, Session: g.Session}),
		once: true,
	}
	h.timer = time.AfterFunc(max(time.Until(early(g.Deadline)), 1), h.expire)
	h.errand.begin()
}

// homeRead is a read on its way to another region.
type homeRead struct {
	c        *Coordinator
	k        key
	want     want
	region   topology.Region
	deadline time.Time
	done     func(GetResult, error)
	errand   *errand
	timer    *time.Timer
	once     sync.Once
}

func (h *homeRead) answer(r wire.RegionReply, err error) {
	h.once.Do(func() {
		h.timer.Stop()
		c := h.c
		if err != nil {
			c.stats.Failures.Add(1)
			e := c.awayFrom(h.region, h.deadline, err)
			if r.Code != 0 {
				e.Code = Code(r.Code)
			}
			h.done(GetResult{}, e)
			return
		}
		rec, err := decode(&h.k, r.Record)
		if err != nil {
			c.stats.Failures.Add(1)
			h.done(GetResult{}, &Error{Code: CodeInternal, Detail: fmt.Sprintf("record of region %s: %v", h.region, err)})
			return
		}
		a := Achieved{Level: h.want.level, Reached: h.want.level, Needed: int(r.Needed), Coordinator: c.cfg.Self}
		a.Regions = []RegionAchieved{{Region: h.region, State: RegionReached, Replicas: int(r.Yes), Needed: int(r.Needed)}}
		h.done(c.show(&h.k, rec, a), nil)
	})
}

// expire ends the wait.
func (h *homeRead) expire() {
	best, last := h.errand.close()
	if last == nil {
		best.Code, last = uint8(CodeDeadline), errors.New("no answer in time")
	}
	h.answer(best, last)
}

// serveHomeRead reads for another region; this one is the home of the key's
// bucket, as that one believes.
func (c *Coordinator) serveHomeRead(m *wire.RegionRead, deadline time.Time, answer func(crdt.Record, Achieved, *Error)) {
	bucket, k := SplitKey(m.Key)
	g := Get{Bucket: bucket, Key: k, Level: quorum.Level(m.Level), Session: m.Session, Deadline: deadline, home: m.Home}
	c.Get(g, func(r GetResult, err error) {
		if e := (*Error)(nil); errors.As(err, &e) {
			answer(crdt.Record{}, Achieved{}, e)
			return
		}
		answer(r.rec, r.Achieved, nil)
	})
}
