package coord

import (
	"bytes"
	"fmt"
	"sync"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/node/liveness"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/quorum"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/wire"
)

// readDone takes what a read found, or why it failed.
type readDone func(crdt.Record, Achieved, *Error)

// read gathers the join of as many servers' records as w wants. It asks that
// many, this node first, and one more for each that fails or is slow.
func (c *Coordinator) read(k key, w want, deadline time.Time, done readDone) {
	r := &read{c: c, k: k, want: w, deadline: deadline, done: done, strict: serialOnly(w)}
	r.begin()
}

func decode(k *key, b []byte) (crdt.Record, error) {
	if len(b) == 0 {
		return crdt.Record{}, nil
	}
	return crdt.DecodeRecord(k.hash, b)
}

// read is one turn of a read: all that it asks goes by one topology.
type read struct {
	c        *Coordinator
	k        key
	want     want
	deadline time.Time
	done     readDone
	// strict: only servers that agree will do, else the key's consensus has to
	// tell; see serial.go.
	strict bool
	// turns and waits are how often the read began anew; see stale.go.
	turns, waits int

	mu       sync.Mutex
	tally    quorum.Tally
	body     []byte // of the Read that is sent; set before anybody is asked
	self     int    // the slot that this node serves, -1 for none
	queue    []int  // slots not yet asked
	replies  []readReply
	timer    *time.Timer
	finished bool
	behind   bool // a peer goes by an older topology than this node
	session  sessionRead
	fresh    []wire.Fresh // what the answers told
	lastErr  error
	// outbound requests are sent, and the answer given, outside the lock.
	outbound []int
	result   func()
}

type readReply struct {
	slot   int
	record []byte
	// pending: something was accepted by consensus there, and is undecided.
	pending bool
	// missing are dots that the session knows and that were not there.
	missing *crdt.Clock
}

func (r *read) begin() {
	n, e := r.k.need(r.want)
	if e != nil {
		r.done(crdt.Record{}, Achieved{}, e)
		return
	}
	r.tally = quorum.NewTally(n, len(r.k.row.Slots))
	left := time.Until(r.deadline)
	if left <= 0 {
		r.expired()
		return
	}
	r.self = r.k.place(r.c.cfg.Self)
	if n == 1 && r.self >= 0 && !r.strict && !r.k.careful() {
		// The common case needs no lock, timer or fan-out.
		if b, err := r.c.Replica.Read(r.k.top.Epoch, r.k.hash, r.k.full); err == nil {
			if rec, err := decode(&r.k, b); err == nil {
				r.done(rec, r.achieved([]topology.NodeID{r.c.cfg.Self}), nil)
				return
			}
		}
	}
	r.order()
	r.body = wire.AppendRead(make([]byte, 0, len(r.k.full)+1), wire.Read{Key: r.k.full, Needs: r.k.needs(), Fresh: r.k.fresh, Home: r.want.home})
	r.mu.Lock()
	for range n {
		r.askNext()
	}
	r.timer = time.AfterFunc(min(r.c.cfg.HedgeAfter, left), r.tick)
	r.mu.Unlock()
	r.flush()
}

// again starts a turn by the topology that holds now.
func (r *read) again(turns, waits int) {
	next := &read{c: r.c, k: r.k, want: r.want, deadline: r.deadline, done: r.done, strict: r.strict, turns: turns, waits: waits}
	next.k.resolve(r.c.Topology())
	next.begin()
}

// order puts this node first, then live servers, the slow ones last, then the
// rest.
func (r *read) order() {
	slots := len(r.k.row.Slots)
	r.queue = make([]int, 0, slots)
	if r.self >= 0 {
		r.queue = append(r.queue, r.self)
	}
	start := int(r.k.hash & 0xff) // spread the reads of those who serve no slot
	var slow, dead []int
	for j := range slots {
		i := (start + j) % slots
		switch id := r.k.server(i); {
		case i == r.self:
		case !r.c.Alive(id):
			dead = append(dead, i)
		case r.c.Slow(id, liveness.Reads):
			slow = append(slow, i)
		default:
			r.queue = append(r.queue, i)
		}
	}
	r.queue = append(append(r.queue, slow...), dead...)
}

// askNext takes one more server. Called with the lock held.
func (r *read) askNext() {
	if len(r.queue) > 0 {
		r.outbound = append(r.outbound, r.queue[0])
		r.queue = r.queue[1:]
	}
}

// flush does what was decided under the lock.
func (r *read) flush() {
	for {
		r.mu.Lock()
		out, result := r.outbound, r.result
		r.outbound, r.result = nil, nil
		r.mu.Unlock()
		if len(out) == 0 && result == nil {
			return
		}
		for _, i := range out {
			r.ask(i)
		}
		if result != nil {
			result()
		}
	}
}

func (r *read) ask(i int) {
	body := r.body
	if r.k.careful() {
		var asked bool
		if body, asked = r.askKnowing(i); asked {
			return
		}
	}
	if i == r.self {
		if err := r.c.decides(&r.k, r.want.home); err != nil {
			r.answer(i, wire.Held{}, err)
			return
		}
		pending := r.c.Replica.SerialPending(r.k.full) // before the record is read
		b, err := r.c.Replica.Read(r.k.top.Epoch, r.k.hash, r.k.full)
		r.answer(i, wire.Held{Record: b, Pending: pending}, err)
		return
	}
	r.c.send(r.k.server(i), r.k.top.Epoch, peer.VerbRead, body, r.deadline, func(b []byte, err error) {
		var held wire.Held
		if err == nil {
			held, err = wire.DecodeHeld(b)
		}
		r.answer(i, held, err)
		r.flush()
	})
}

// answer takes the reply of slot i's server; flush must follow.
func (r *read) answer(i int, held wire.Held, err error) {
	b := held.Record
	var rec crdt.Record
	if err == nil && len(b) > 0 {
		// A record that does not decode is a failure of its owner.
		var bad error
		if rec, bad = decode(&r.k, b); bad != nil {
			err = fmt.Errorf("record of %s: %w", r.k.server(i), bad)
		}
	}
	held.Missing, held.Lost = r.k.excuse(rec, held.Missing, held.Lost)
	if err != nil && (stale(err) || unaware(r.k.row.Slots[i], err)) {
		r.refused(i, err)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.finished {
		return
	}
	if err != nil {
		r.fail(i, err)
		return
	}
	if held.Lost != nil {
		r.finish(func() { r.done(crdt.Record{}, Achieved{}, r.c.sessionLost(held.Lost)) })
		return
	}
	r.replies = append(r.replies, readReply{slot: i, record: b, pending: held.Pending, missing: held.Missing})
	r.newest(held.Fresh)
	v := r.tally.Ack(i)
	if r.k.asks() && !r.knows() {
		r.seek()
		return
	}
	if v == quorum.Met {
		r.finish(r.met)
	}
}

// fail gives up slot i. Called with the lock held.
func (r *read) fail(i int, err error) {
	r.lastErr = err
	r.askNext()
	if r.tally.Fail(i) == quorum.Lost {
		r.finish(r.lost)
	} else if r.k.asks() {
		r.refusedToWait(i, err)
		r.seek()
	}
}

// refused finds out who is behind: this node, or slot i's server. The others
// may meet the read meanwhile.
func (r *read) refused(i int, err error) {
	r.mu.Lock()
	if r.finished {
		r.mu.Unlock()
		return
	}
	r.askNext()
	r.mu.Unlock()
	r.c.learn(r.k.server(i), r.k.top.Epoch, func(newer bool) {
		r.mu.Lock()
		switch {
		case r.finished:
		case newer && r.turns < maxTurns:
			r.finish(func() { r.again(r.turns+1, r.waits) })
		default:
			r.behind = true
			r.fail(i, err)
		}
		r.mu.Unlock()
		r.flush()
	})
}

func (r *read) finish(f func()) {
	r.finished = true
	r.timer.Stop()
	r.outbound = nil
	r.result = f
}

// tick asks one more server, and in the end gives up.
func (r *read) tick() {
	r.mu.Lock()
	left := time.Until(r.deadline)
	switch {
	case r.finished:
	case left <= 0:
		r.finish(r.expired)
	default:
		if len(r.queue) > 0 {
			r.c.stats.Hedges.Add(1)
			r.askNext()
			r.timer.Reset(min(r.c.cfg.HedgeAfter, left))
		} else if missing := r.undecided(); missing != nil {
			r.finish(func() { r.decides(missing) })
		} else if r.k.asks() {
			r.timer.Reset(r.await(left))
		} else {
			r.timer.Reset(left)
		}
	}
	r.mu.Unlock()
	r.flush()
}

func (r *read) lost() {
	if r.behind {
		// A server that does not know of its office yet will soon.
		if d, ok := pause(r.waits, r.deadline); ok {
			time.AfterFunc(d, func() { r.again(r.turns, r.waits+1) })
			return
		}
	}
	r.tell(CodeUnavailable)
}

func (r *read) expired() {
	if r.tally.Verdict() == quorum.Met { // and yet it did not end
		r.done(crdt.Record{}, Achieved{}, r.c.sessionBehind(&r.k, r.missing()))
		return
	}
	r.tell(CodeDeadline)
}

func (r *read) tell(code Code) {
	e := r.c.unavailable(&r.k, r.want, r.tally.Need(), r.tally.Yes(), NotApplied)
	e.Code = code
	if isFenced(r.lastErr) {
		e = r.c.fenced(r.lastErr, NotApplied)
	} else if r.lastErr != nil {
		e.Detail += ": " + r.lastErr.Error()
	}
	r.done(crdt.Record{}, Achieved{}, e)
}

func (r *read) met() {
	who := make([]topology.NodeID, 0, len(r.replies))
	same, pending := true, false
	for _, rep := range r.replies {
		pending = pending || rep.pending
		who = append(who, r.k.server(rep.slot))
		same = same && bytes.Equal(rep.record, r.replies[0].record)
	}
	if pending && r.settles() || r.strict && !same {
		if !r.strict {
			r.c.stats.Serials.Add(1)
		}
		r.c.settle(r.k, r.want, r.deadline, r.withKnown(r.done))
		return
	}
	rec, _ := decode(&r.k, r.replies[0].record) // checked by answer
	if !same {
		for _, rep := range r.replies[1:] {
			other, _ := decode(&r.k, rep.record)
			rec = crdt.Join(rec, other)
		}
	}
	r.done(rec, r.achieved(who), nil)
	if !same {
		r.repair(rec)
	}
}

func (r *read) achieved(who []topology.NodeID) Achieved {
	a := Achieved{Level: r.want.level, Needed: r.tally.Need(), Replicas: who, Coordinator: r.c.cfg.Self, Reached: r.k.reached(len(who)), Freshness: r.freshness()}
	for i := range r.k.row.Slots {
		a.Degraded = a.Degraded || !r.c.alive(r.k.server(i))
	}
	a.atHome(r.k.top.Region)
	return a
}

// repair gives the join to those whose record was another.
func (r *read) repair(rec crdt.Record) {
	encoded := crdt.AppendRecord(nil, r.k.hash, rec)
	entries := []wire.Entry{{Key: r.k.full, Record: encoded}}
	var body []byte
	for _, rep := range r.replies {
		if bytes.Equal(rep.record, encoded) {
			continue
		}
		r.c.stats.ReadRepairs.Add(1)
		if rep.slot == r.self {
			r.c.Replica.Apply(entries, func(int, error) {})
			continue
		}
		if body == nil {
			body = wire.AppendApply(nil, wire.Apply{Entries: entries})
		}
		r.c.send(r.k.server(rep.slot), r.k.top.Epoch, peer.VerbApply, body, time.Now().Add(DefaultTimeout), func(_ []byte, err error) {
			if err != nil {
				r.c.stats.Missed.Add(1)
			}
		})
	}
}
