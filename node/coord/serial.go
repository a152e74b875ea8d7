package coord

import (
	"fmt"
	"slices"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/internal/planted"
	"github.com/atolldb/atoll/node/cas"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/quorum"
	"github.com/atolldb/atoll/node/replica"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/wire"
)

// A write at a serial level is decided by a majority of the key's slots, as the
// next value of a register: what it follows is all that is there, unless it
// comes with a context and without a condition; then what the context has not
// seen stays beside it. So writes at this level never lose each other's updates,
// and of two with the same condition one fails. What plain writes did before is
// seen, and what they do at the same time becomes a sibling.

// serialWrite is what a write makes at each ballot that it is proposed with.
type serialWrite struct {
	stamp   hlc.Stamp
	context crdt.Context
}

// decide runs w at a serial level, here; this node serves the key.
func (w *write) decide() {
	if w.p.Retry && w.want.home == 0 {
		if others := w.c.tried(&w.k, w.p.TriedIn); len(others) > 0 {
			w.inquireAfar(others)
			return
		}
	}
	w.knowingly(w.propose)
}

// inquireAfar asks those who decide for themselves in other regions, where an
// earlier attempt was made perhaps, before a retry is decided here: what they have
// decided is the write, and where they cannot be asked it may be there twice.
func (w *write) inquireAfar(others []target) {
	q := &inquiry{
		c: w.c, k: &w.k, ask: replica.Ask{ID: w.p.RequestID, Ballot: replica.Forbid},
		enough: func(q *inquiry) bool { return q.happened() },
	}
	q.done = func(q *inquiry) {
		if q.happened() {
			r := serialResult{Outcome: cas.Outcome{Record: q.record(), Carried: &cas.Carried{Version: q.event.Dot, Stamp: q.event.Stamp}}}
			res := w.replayed(&r)
			res.Achieved = Achieved{Level: w.p.Level, Coordinator: w.c.cfg.Self} // it may not be here yet
			w.done(res, nil)
			return
		}
		if w.doubtful = !q.none(); w.doubtful {
			w.c.stats.Doubtful.Add(1)
		}
		w.knowingly(w.propose)
	}
	now := time.Now()
	q.begin(others, now.Add(min(w.p.Deadline.Sub(now)/3, askPatience)))
}

func (w *write) propose() {
	c, p := w.c, &w.p
	c.stats.Serials.Add(1)
	made := map[crdt.Dot]serialWrite{} // by who acts for the key
	ahead := false
	if err := replica.RequestOver(p.RequestID, time.Now()); err != nil {
		w.done(PutResult{}, c.localError(err))
		return
	}
	op := cas.Op{Actor: ballotActor(&w.k, w.want.home), ID: p.RequestID, Retry: p.Retry, Write: func(cur crdt.Record, dot crdt.Dot) (crdt.Version, crdt.VV) {
		seen := cur.Context().Seen
		if w.beside() {
			seen = w.ctx.Seen
		}
		v := crdt.Version{
			Dot: dot, Dead: p.Delete, Value: p.Value,
			Stamp: c.HLC.Next(max(w.ctx.Stamp, w.k.above(), cur.MaxStamp(), c.Replica.Floors(w.k.part).Promised)),
		}
		if p.TTL > 0 {
			v.Expiry = c.HLC.Now() + int64(p.TTL/time.Millisecond)
		}
		made[dot] = serialWrite{v.Stamp, crdt.Context{Seen: seen}.After(cur, &v)}
		return v, seen
	}}
	if w.blind() {
		op.Holds = func(cur crdt.Record) bool {
			return crdt.Condition{Kind: crdt.IfAbsent}.Holds(cur, nil, c.HLC.Now())
		}
	}
	if p.Condition.Kind != crdt.Always {
		op.Holds = func(cur crdt.Record) bool {
			if ahead = w.ahead(cur); ahead {
				return false
			}
			return p.Condition.Holds(cur, w.ctx.Seen, c.HLC.Now())
		}
	}
	if planted.Bug(planted.ReadThenWrite) {
		w.readThenWrite(op)
		return
	}
	c.serial(w.k, op, w.want.home, p.Deadline, func(r serialResult) {
		switch {
		case r.Err != nil && r.Err.again && !w.forwarded:
			w.refused = r.Err
			w.route(w.at + 1)
		case r.Err != nil:
			w.done(PutResult{}, r.Err)
		case r.Result == cas.Done && r.Carried != nil:
			w.done(w.replayed(&r), nil)
		case r.Result == cas.Done:
			m := made[r.Version]
			r.Achieved.Level, r.Achieved.Reached = p.Level, p.Level
			r.Achieved.atHome(w.k.top.Region)
			res := PutResult{Version: r.Version, Event: r.Event, Stamp: m.stamp, Achieved: r.Achieved, MaybeDuplicate: w.doubtful}
			res.Context, res.ContextOmitted = c.handOut(&w.k, m.context)
			w.done(res, nil)
		case r.Result == cas.Failed && ahead:
			w.done(PutResult{}, &Error{
				Code: CodeContextAhead, RetryAfterMs: 200,
				Detail: "the context shows writes that have not reached this region yet",
			})
		case r.Result == cas.Failed && p.Condition.Kind == crdt.Always:
			e := contextRequired()
			e.certain = !w.doubtful // the owners have said so of the request
			w.done(PutResult{}, e)
		case r.Result == cas.Failed:
			e := c.conditionFailed(&w.k, p.Condition, r.Record, r.Achieved)
			e.certain = !w.doubtful
			w.done(PutResult{}, e)
		default:
			w.done(PutResult{}, c.undecided(&w.k, w.want, &r, p.Deadline))
		}
	})
}

// replayed is the answer to an attempt of a request that another one has carried
// out.
func (w *write) replayed(r *serialResult) PutResult {
	c, by := w.c, r.Carried
	c.stats.Replayed.Add(1)
	d := by.Version
	if d.IsZero() {
		d = by.Event // all that is known of it
	}
	ctx := w.ctx.Again(r.Record, d, by.Stamp)
	if by.Version.IsZero() && !r.Record.Covers(d) {
		// It is the event of a version that its ballot names, which nobody told:
		// no condition on it would ever hold.
		d = crdt.Dot{}
	}
	res := PutResult{Version: d, Event: by.Event, Stamp: by.Stamp, Replayed: true, Achieved: r.Achieved}
	if v := r.Record.Find(d); v != nil {
		res.Stamp = v.Stamp
	}
	if !r.Event.IsZero() {
		res.Event = r.Event
	}
	res.Achieved.Level, res.Achieved.Reached = w.p.Level, w.p.Level
	res.Achieved.atHome(w.k.top.Region)
	res.Context, res.ContextOmitted = c.handOut(&w.k, ctx)
	return res
}

// readThenWrite is a planted bug.
func (w *write) readThenWrite(op cas.Op) {
	c := w.c
	w.want.level = quorum.LocalQuorum
	c.read(w.k, w.want, w.p.Deadline, func(rec crdt.Record, who Achieved, err *Error) {
		switch {
		case err != nil:
			w.done(PutResult{}, err)
		case op.Holds != nil && !op.Holds(rec):
			w.done(PutResult{}, c.conditionFailed(&w.k, w.p.Condition, rec, who))
		default:
			w.ctx, w.p.Condition = rec.Context(), crdt.Condition{}
			w.mint(w.k.place(c.cfg.Self))
		}
	})
}

// beside reports whether the write leaves what its context has not seen.
func (w *write) beside() bool {
	return len(w.p.Context) > 0 && w.p.Condition.Kind == crdt.Always && !w.p.Overwrite && w.k.bucket.Kind == crdt.MV
}

// ahead reports whether the writer has seen what is not here yet, and was not
// collected either.
func (w *write) ahead(cur crdt.Record) bool {
	return w.p.Condition.Kind == crdt.IfContext && len(w.ctx.Seen) > 0 &&
		!cur.Context().Seen.CoversAll(w.ctx.Seen) && w.ctx.Stamp > w.c.Replica.Floors(w.k.part).Raised
}

// conditionFailed shows what is there.
func (c *Coordinator) conditionFailed(k *key, cond crdt.Condition, rec crdt.Record, who Achieved) *Error {
	res := c.show(k, rec, who)
	return &Error{
		Code: CodeConditionFailed, Detail: "the condition does not hold: " + cond.String(),
		Current: &res, current: crdt.AppendRecord(nil, k.hash, rec),
	}
}

// shown completes an error that another coordinator sent.
func (c *Coordinator) shown(k *key, e *Error) *Error {
	if e == nil || e.Code != CodeConditionFailed || e.Current != nil {
		return e
	}
	rec, err := decode(k, e.current)
	if err != nil {
		return &Error{Code: CodeInternal, Detail: "what is there instead: " + err.Error()}
	}
	res := c.show(k, rec, Achieved{})
	e.Current = &res
	return e
}

// undecided is an operation that came to no result. Where an acceptor knows of its
// request, who sent that twice without saying so must not hear that it was not
// applied.
func (c *Coordinator) undecided(k *key, w want, r *serialResult, deadline time.Time) *Error {
	out := NotApplied
	if r.Result == cas.Unknown || r.carried {
		out = Unknown
	}
	if r.Contended {
		c.stats.SerialContended.Add(1)
	}
	if r.fenced != nil {
		return c.fenced(r.fenced, out)
	}
	if r.ended && out == NotApplied {
		return c.localError(replica.ErrForbidden)
	}
	e := c.unavailable(k, w, len(k.row.Slots)/2+1, 0, out)
	if len(k.row.Slots)-len(r.full) < e.Needed { // as many as the others are, they are no quorum
		slots, need := len(k.row.Slots), e.Needed
		e.Code, e.Needed = CodeDiskFull, 0 // they did answer
		e.Detail = fmt.Sprintf("%s needs %d of %d owners, and the disks of some are full: %v", w, need, slots, slices.Sorted(slices.Values(r.full)))
	}
	if r.Contended {
		e.Detail = fmt.Sprintf("%s: others proposed for the key at the same time, again and again", w)
	}
	if time.Until(deadline) <= 0 {
		e.Code = CodeDeadline
	}
	return e
}

// A read at a serial level is answered by a quorum that agrees and of which none
// holds anything undecided, or else as an operation of the key's consensus. So
// is a plain read of a quorum which meets something undecided: it may have been
// acknowledged.

// settle has a server of the key run a read through its consensus.
func (c *Coordinator) settle(k key, w want, deadline time.Time, done readDone) {
	s := &settling{c: c, k: k, want: w, deadline: deadline, done: done}
	s.route(0)
}

type settling struct {
	c        *Coordinator
	k        key
	want     want
	deadline time.Time
	done     readDone
	turns    int
}

// route asks the i-th server, and those behind it.
func (s *settling) route(i int) {
	c := s.c
	for ; i < len(s.k.row.Slots); i++ {
		id := s.k.server(i)
		if id == c.cfg.Self {
			c.serial(s.k, cas.Op{}, s.want.home, s.deadline, func(r serialResult) {
				if r.Err != nil && r.Err.again {
					s.route(i + 1)
					return
				}
				s.end(r)
			})
			return
		}
		if c.Alive(id) && time.Until(s.deadline) > 0 {
			s.ask(i, id)
			return
		}
	}
	if s.turns < maxTurns && time.Until(s.deadline) > 0 {
		d, _ := pause(s.turns, s.deadline)
		s.turns++
		time.AfterFunc(d, func() {
			s.k.resolve(c.Topology())
			s.route(0)
		})
		return
	}
	s.end(serialResult{Outcome: cas.Outcome{Result: cas.Refused}})
}

func (s *settling) ask(i int, id topology.NodeID) {
	c := s.c
	body := wire.AppendRead(nil, wire.Read{Key: s.k.full, Home: s.want.home})
	c.send(id, s.k.top.Epoch, peer.VerbSerialRead, body, s.deadline, func(b []byte, err error) {
		var rec crdt.Record
		if err == nil {
			rec, err = decode(&s.k, b)
		}
		switch {
		case err == nil:
			who := Achieved{Needed: len(s.k.row.Slots)/2 + 1, Coordinator: id}
			s.end(serialResult{Outcome: cas.Outcome{Result: cas.Done, Record: rec}, Achieved: who})
		case isFenced(err):
			s.end(serialResult{Outcome: cas.Outcome{Result: cas.Refused}, fenced: err})
		case stale(err):
			c.learn(id, s.k.top.Epoch, func(newer bool) { s.route(i + 1) })
		default:
			s.route(i + 1)
		}
	})
}

func (s *settling) end(r serialResult) {
	switch {
	case r.Err != nil:
		s.done(crdt.Record{}, Achieved{}, r.Err)
	case r.Result != cas.Done:
		e := s.c.undecided(&s.k, s.want, &r, s.deadline)
		e.Outcome = NotApplied
		s.done(crdt.Record{}, Achieved{}, e)
	default:
		r.Achieved.Level, r.Achieved.Reached = s.want.level, s.want.level
		r.Achieved.atHome(s.k.top.Region)
		s.done(r.Record, r.Achieved, nil)
	}
}

// handleSerialRead serves a coordinator that reads through the consensus.
func (c *Coordinator) handleSerialRead(req peer.Request, reply peer.Done) {
	m, err := wire.DecodeRead(req.Body)
	if err != nil {
		reply(nil, &peer.Refusal{Code: peer.CodeInvalid, Detail: err.Error()})
		return
	}
	k := key{full: m.Key, hash: hashring.KeyHash(m.Key)}
	k.resolve(c.Topology())
	if since := k.top.SinceOf(k.part); req.Epoch != 0 && req.Epoch < since {
		reply(nil, &peer.Refusal{Code: peer.CodeStaleEpoch, Detail: "the partition has changed since"})
		return
	}
	if k.place(c.cfg.Self) < 0 {
		reply(nil, &peer.Refusal{Code: peer.CodeNotOwner, Detail: "not a server of the key"})
		return
	}
	deadline := time.Now().Add(req.Timeout)
	c.serial(k, cas.Op{Settle: m.Settle}, m.Home, deadline, func(r serialResult) {
		switch {
		case r.fenced != nil:
			reply(nil, replica.Refuse(r.fenced))
		case r.Err != nil:
			reply(nil, &peer.Refusal{Code: peer.CodeOverloaded, Detail: r.Err.Detail})
		case r.Result != cas.Done:
			reply(nil, &peer.Refusal{Code: peer.CodeUnknown, Detail: "not decided in time"})
		case len(r.Record.Versions) == 0:
			reply(nil, nil)
		default:
			reply(crdt.AppendRecord(nil, k.hash, r.Record), nil)
		}
	})
}

// Settle has what this node holds of proposals for a key, of which it is a server,
// finished or passed over, for whatever home they were made: by itself, and where
// that does not succeed in half of the time, as with a clock that is off, by the
// other servers, one after the other. done is called once, whether that came to an
// end or not: what is left is found at the replica.
func (c *Coordinator) Settle(fullKey []byte, deadline time.Time, done func()) {
	k := key{full: fullKey, hash: hashring.KeyHash(fullKey)}
	k.resolve(c.Topology())
	if k.place(c.cfg.Self) < 0 {
		done()
		return
	}
	own := time.Now().Add(time.Until(deadline) / 2)
	c.serial(k, cas.Op{Settle: true}, 0, own, func(r serialResult) {
		if r.Err == nil && r.Result == cas.Done {
			done()
			return
		}
		c.settleBy(k, 0, deadline, done)
	})
}

// Leads reports whether this node is the first live server of a key, which proposes
// for all.
func (c *Coordinator) Leads(fullKey []byte) bool {
	k := key{full: fullKey, hash: hashring.KeyHash(fullKey)}
	k.resolve(c.Topology())
	for i := range k.row.Slots {
		if id := k.server(i); id == c.cfg.Self || c.Alive(id) {
			return id == c.cfg.Self
		}
	}
	return false
}

// settleBy has the i-th server do it, and those behind it.
func (c *Coordinator) settleBy(k key, i int, deadline time.Time, done func()) {
	for ; i < len(k.row.Slots) && time.Until(deadline) > 0; i++ {
		id := k.server(i)
		if id == c.cfg.Self || !c.Alive(id) {
			continue
		}
		body := wire.AppendRead(nil, wire.Read{Key: k.full, Settle: true})
		c.send(id, k.top.Epoch, peer.VerbSerialRead, body, deadline, func(_ []byte, err error) {
			if err != nil {
				c.settleBy(k, i+1, deadline, done)
				return
			}
			done()
		})
		return
	}
	done()
}

// serialOnly reports whether l runs through the key's consensus.
func serialOnly(w want) bool { return w.count == 0 && w.level.Consensus() }

// settles reports whether a read must show what was decided by consensus.
func (r *read) settles() bool {
	return r.strict || r.want.count == 0 && (r.want.level == quorum.Default || r.want.level >= quorum.LocalQuorum) ||
		r.want.count > len(r.k.row.Slots)/2
}
