package coord

import (
	"bytes"
	"fmt"
	"sync"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/quorum"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/wire"
)

// Get reads a key. It asks as many owners as the level needs, itself first,
// and one more for each that fails or is slow.
func (c *Coordinator) Get(g Get, done func(GetResult, error)) {
	c.stats.Gets.Add(1)
	k, e := c.key(g.Bucket, g.Key)
	if e != nil {
		done(GetResult{}, e)
		return
	}
	n, e := need(&k, g.Level, g.R, "r")
	if e != nil {
		done(GetResult{}, e)
		return
	}
	c.read(k, g.Level, n, g.Deadline, func(rec crdt.Record, who Achieved, err *Error) {
		if err != nil {
			c.stats.Failures.Add(1)
			done(GetResult{}, err)
			return
		}
		res := GetResult{View: crdt.Read(rec, k.bucket.Kind, c.HLC.Now()), Achieved: who}
		if len(res.View.Live) > 1 {
			c.stats.Siblings.Add(1)
		}
		if len(rec.Versions) > 0 {
			res.Context = c.token(&k, rec.Context())
		}
		done(res, nil)
	})
}

// read gathers the join of n owners' records.
func (c *Coordinator) read(k key, level quorum.Level, n int, deadline time.Time, done func(crdt.Record, Achieved, *Error)) {
	r := &read{c: c, k: k, level: level, deadline: deadline, done: done, tally: quorum.NewTally(n, len(k.owners))}
	left := time.Until(deadline)
	if left <= 0 {
		r.expired()
		return
	}
	r.order()
	if n == 1 && r.self >= 0 {
		// The common case needs no lock, timer or fan-out.
		if b, err := c.Replica.Read(k.hash, k.full); err == nil {
			if rec, err := decode(&k, b); err == nil {
				done(rec, r.achieved([]topology.NodeID{c.cfg.Self}), nil)
				return
			}
		}
	}
	r.mu.Lock()
	for range n {
		r.askNext()
	}
	if r.tally.Verdict() == quorum.Pending {
		r.timer = time.AfterFunc(min(c.cfg.HedgeAfter, left), r.tick)
	}
	r.mu.Unlock()
	r.flush()
}

func decode(k *key, b []byte) (crdt.Record, error) {
	if len(b) == 0 {
		return crdt.Record{}, nil
	}
	return crdt.DecodeRecord(k.hash, b)
}

type read struct {
	c        *Coordinator
	k        key
	level    quorum.Level
	deadline time.Time
	done     func(crdt.Record, Achieved, *Error)

	mu       sync.Mutex
	tally    quorum.Tally
	self     int   // this node's index among the owners, -1 for none
	queue    []int // owners not yet asked
	replies  []readReply
	timer    *time.Timer
	finished bool
	lastErr  error
	// outbound requests are sent, and the answer given, outside the lock.
	outbound []int
	result   func()
}

type readReply struct {
	owner  int
	record []byte
}

// order puts this node first, then live owners, then the rest.
func (r *read) order() {
	r.self = -1
	var dead []int
	start := int(r.k.hash & 0xff) // spread the reads of non-owners
	for j := range r.k.owners {
		i := (start + j) % len(r.k.owners)
		switch id := topology.NodeID(r.k.owners[i]); {
		case id == r.c.cfg.Self:
			r.self = i
		case r.c.Alive(id):
			r.queue = append(r.queue, i)
		default:
			dead = append(dead, i)
		}
	}
	if r.self >= 0 {
		r.queue = append([]int{r.self}, r.queue...)
	}
	r.queue = append(r.queue, dead...)
}

// askNext takes one more owner. Called with the lock held.
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
	id := topology.NodeID(r.k.owners[i])
	if i == r.self {
		b, err := r.c.Replica.Read(r.k.hash, r.k.full)
		r.answer(i, b, err)
		return
	}
	r.c.send(id, peer.VerbRead, r.k.full, r.deadline, func(b []byte, err error) {
		r.answer(i, b, err)
		r.flush()
	})
}

// answer takes owner i's reply; flush must follow.
func (r *read) answer(i int, b []byte, err error) {
	if err == nil && len(b) > 0 {
		// A record that does not decode is a failure of its owner.
		if _, bad := decode(&r.k, b); bad != nil {
			err = fmt.Errorf("record of %s: %w", r.k.owners[i], bad)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.finished {
		return
	}
	var v quorum.Verdict
	if err != nil {
		r.lastErr = err
		v = r.tally.Fail(i)
		r.askNext()
	} else {
		r.replies = append(r.replies, readReply{i, b})
		v = r.tally.Ack(i)
	}
	switch v {
	case quorum.Met:
		r.finish(r.met)
	case quorum.Lost:
		r.finish(r.lost)
	case quorum.Pending:
	}
}

func (r *read) finish(f func()) {
	r.finished = true
	if r.timer != nil {
		r.timer.Stop()
	}
	r.outbound = nil
	r.result = f
}

// tick asks one more owner, and in the end gives up.
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
		} else {
			r.timer.Reset(left)
		}
	}
	r.mu.Unlock()
	r.flush()
}

func (r *read) lost() { r.fail(CodeUnavailable) }

func (r *read) expired() { r.fail(CodeDeadline) }

func (r *read) fail(code Code) {
	e := r.c.unavailable(&r.k, r.level, r.tally.Need(), r.tally.Yes(), NotApplied)
	e.Code = code
	if r.lastErr != nil {
		e.Detail += ": " + r.lastErr.Error()
	}
	r.done(crdt.Record{}, Achieved{}, e)
}

func (r *read) met() {
	var who []topology.NodeID
	same := true
	for _, rep := range r.replies {
		who = append(who, topology.NodeID(r.k.owners[rep.owner]))
		same = same && bytes.Equal(rep.record, r.replies[0].record)
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
	a := Achieved{Level: r.level, Needed: r.tally.Need(), Replicas: who, Coordinator: r.c.cfg.Self}
	for _, o := range r.k.owners {
		a.Degraded = a.Degraded || !r.c.alive(o)
	}
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
		if rep.owner == r.self {
			r.c.Replica.Apply(entries, func(int, error) {})
			continue
		}
		if body == nil {
			body = wire.AppendApply(nil, wire.Apply{Entries: entries})
		}
		id := topology.NodeID(r.k.owners[rep.owner])
		r.c.send(id, peer.VerbApply, body, time.Now().Add(DefaultTimeout), func(_ []byte, err error) {
			if err != nil {
				r.c.stats.Missed.Add(1)
			}
		})
	}
}
