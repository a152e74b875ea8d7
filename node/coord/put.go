package coord

import (
	"fmt"
	"sync"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/internal/planted"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/quorum"
	"github.com/atolldb/atoll/node/replica"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/wire"
)

// Put writes, wherever the first live owner of the key is.
func (c *Coordinator) Put(p Put, done func(PutResult, error)) {
	c.stats.Puts.Add(1)
	finish := func(res PutResult, err *Error) {
		if err != nil {
			c.stats.Failures.Add(1)
			done(PutResult{}, err)
			return
		}
		done(res, nil)
	}
	w, err := c.prepare(p)
	if err != nil {
		finish(PutResult{}, err)
		return
	}
	w.done = finish
	if p.Delete && len(p.Context) == 0 {
		// A delete covers what is there, so it has to look first.
		c.read(w.k, p.Level, w.need, p.Deadline, func(rec crdt.Record, _ Achieved, err *Error) {
			if err != nil {
				finish(PutResult{}, err)
				return
			}
			w.ctx = rec.Context()
			w.p.Context = c.token(&w.k, w.ctx)
			w.route(0)
		})
		return
	}
	w.route(0)
}

// prepare checks everything that can be known before an owner is asked.
func (c *Coordinator) prepare(p Put) (*write, *Error) {
	k, err := c.key(p.Bucket, p.Key)
	if err != nil {
		return nil, err
	}
	limit := k.bucket.MaxValue
	if limit == 0 {
		limit = DefaultMaxValue
	}
	if len(p.Value) > limit {
		return nil, invalidSize("value", limit, len(p.Value))
	}
	if p.TTL < 0 || p.TTL > maxTTL {
		return nil, invalid("ttl", "0.."+maxTTL.String(), p.TTL.String(), "ttl is out of range")
	}
	if p.TTL%time.Millisecond != 0 { // less than one would be for ever
		return nil, invalid("ttl", "whole milliseconds", p.TTL.String(), "ttl is too fine")
	}
	n, err := need(&k, p.Level, p.W, "w")
	if err != nil {
		return nil, err
	}
	ctx, err := c.context(&k, p.Context)
	if err != nil {
		return nil, err
	}
	return &write{c: c, k: k, p: p, ctx: ctx, need: n}, nil
}

// write is one Put under way.
type write struct {
	c    *Coordinator
	k    key
	p    Put
	ctx  crdt.Context
	need int
	done func(PutResult, *Error)
	// forwarded: this node was asked by the coordinator to mint.
	forwarded bool
	// refused is why the last owner that was tried would not mint.
	refused *Error
}

// route finds the owner that mints, from index i of the row on: the first
// live one. It goes on to the next only after an outcome that is known to have
// had no effect (K4).
func (w *write) route(i int) {
	c := w.c
	if time.Until(w.p.Deadline) <= 0 {
		w.done(PutResult{}, &Error{Code: CodeDeadline, Detail: "the deadline passed before an owner could take the write"})
		return
	}
	live := 0
	for _, o := range w.k.owners {
		if c.alive(o) {
			live++
		}
	}
	if live < w.need {
		w.done(PutResult{}, c.unavailable(&w.k, w.p.Level, w.need, live, NotApplied))
		return
	}
	for ; i < len(w.k.owners); i++ {
		if w.k.owners[i] == string(c.cfg.Self) {
			w.mint(i)
			return
		}
		if !w.forwarded && c.Alive(topology.NodeID(w.k.owners[i])) {
			w.forward(i)
			return
		}
	}
	e := &Error{Code: CodeUnavailable, Detail: "no live owner of the key could take the write", RetryAfterMs: 100}
	if w.refused != nil {
		e.Code = w.refused.Code
		e.Detail += "; the last one: " + w.refused.Detail
	}
	w.done(PutResult{}, e)
}

// forward has owner i mint and coordinate.
func (w *write) forward(i int) {
	w.c.stats.Forwards.Add(1)
	to := topology.NodeID(w.k.owners[i])
	w.c.send(to, peer.VerbForward, appendPut(nil, &w.p), w.p.Deadline, func(reply []byte, err error) {
		if err == nil {
			res, failed, bad := decodePutReply(reply)
			switch {
			case bad != nil:
				w.done(PutResult{}, &Error{Code: CodeInternal, Outcome: Unknown, Detail: fmt.Sprintf("reply of %s: %v", to, bad)})
			case failed != nil && failed.again:
				w.refused = failed
				w.route(i + 1)
			default:
				w.done(res, failed)
			}
			return
		}
		if noEffect(err) || planted.Bug(planted.MintTwice) {
			w.route(i + 1)
			return
		}
		w.done(PutResult{}, &Error{Code: CodeUnavailable, Outcome: Unknown, Detail: fmt.Sprintf("%s may or may not have taken the write: %v", to, err)})
	})
}

// mint decides the version here; this node is owner i.
func (w *write) mint(i int) {
	f := &fanout{write: w, self: i, tally: quorum.NewTally(w.need, len(w.k.owners))}
	m := replica.Mint{
		Key: w.k.full, KeyHash: w.k.hash,
		Context:     w.ctx,
		Overwrite:   w.p.Overwrite || w.k.bucket.Kind == crdt.LWW,
		Dead:        w.p.Delete,
		Value:       w.p.Value,
		TTL:         int64(w.p.TTL / time.Millisecond),
		MaxSiblings: MaxSiblings,
		Decided:     f.decided,
		Done:        f.local,
	}
	// A stalled disk here must not keep the client beyond its deadline.
	f.mu.Lock()
	f.timer = time.AfterFunc(max(time.Until(w.p.Deadline), 1), f.expire)
	f.mu.Unlock()
	w.c.Replica.Mint(m)
}

// fanout is a minted write on its way to the other owners, which overlaps the
// local sync.
type fanout struct {
	*write
	self int

	mu     sync.Mutex
	tally  quorum.Tally
	minted *replica.Minted
	closed bool
	timer  *time.Timer
}

// decided runs on the committer's goroutine, before the sync.
func (f *fanout) decided(m *replica.Minted) {
	f.minted = m
	if planted.Bug(planted.AckBeforeSync) {
		f.vote(f.self, nil)
	}
	record := m.Record
	if planted.Bug(planted.DenseDelta) {
		record = denseDelta(f.k.hash, m)
	}
	var body []byte
	for i, o := range f.k.owners {
		if i == f.self {
			continue
		}
		id := topology.NodeID(o)
		if !f.c.Alive(id) {
			f.c.stats.Missed.Add(1)
			f.vote(i, peer.ErrNotSent)
			continue
		}
		if body == nil {
			body = wire.AppendApply(make([]byte, 0, len(m.Record)+len(f.k.full)+16),
				wire.Apply{Entries: []wire.Entry{{Key: f.k.full, Record: record}}})
		}
		f.c.send(id, peer.VerbApply, body, f.p.Deadline, func(_ []byte, err error) {
			if err != nil {
				f.c.stats.Missed.Add(1)
			}
			f.vote(i, err)
		})
	}
}

// local runs when the local group is durable, or was not.
func (f *fanout) local(_ *replica.Minted, err error) {
	if err == nil {
		f.vote(f.self, nil)
		return
	}
	e := f.c.localError(err)
	if f.minted != nil {
		// It was decided and may be on its way to others.
		e.Outcome, e.again = Unknown, false
	}
	if !e.again || f.forwarded {
		f.fail(e)
	} else if f.close() {
		f.refused = e
		f.route(f.self + 1)
	}
}

// denseDelta is a planted bug: the new version alone, with a context that
// claims the rest.
func denseDelta(keyHash uint64, m *replica.Minted) []byte {
	rec, err := crdt.DecodeRecord(keyHash, m.Record)
	if err != nil {
		return m.Record
	}
	v := *rec.Find(m.Dot)
	others := crdt.Without(rec, []crdt.Dot{m.Dot})
	v.Past = v.Past.Join(others.Context().Seen)
	if !v.Past.Covers(v.Dot) {
		return crdt.AppendRecord(nil, keyHash, crdt.Record{Versions: []crdt.Version{v}})
	}
	return m.Record
}

func (f *fanout) vote(i int, err error) {
	f.mu.Lock()
	var v quorum.Verdict
	if err == nil {
		v = f.tally.Ack(i)
	} else {
		v = f.tally.Fail(i)
	}
	if f.closed || v == quorum.Pending {
		f.mu.Unlock()
		return
	}
	f.closed = true
	f.timer.Stop()
	var who []topology.NodeID
	for j, o := range f.k.owners {
		if f.tally.Acked(j) {
			who = append(who, topology.NodeID(o))
		}
	}
	yes := f.tally.Yes()
	f.mu.Unlock()

	if v == quorum.Lost {
		outcome := Unknown
		if planted.Bug(planted.SayNotApplied) {
			outcome = NotApplied
		}
		f.done(PutResult{}, f.c.unavailable(&f.k, f.p.Level, f.need, yes, outcome))
		return
	}
	a := Achieved{Level: f.p.Level, Needed: f.need, Replicas: who, Coordinator: f.c.cfg.Self}
	for _, o := range f.k.owners {
		a.Degraded = a.Degraded || !f.c.alive(o)
	}
	f.done(PutResult{
		Version:  f.minted.Dot,
		Stamp:    f.minted.Stamp,
		Context:  f.c.token(&f.k, f.minted.Context),
		Achieved: a,
	}, nil)
}

// expire ends the wait. The write may still be decided or acknowledged.
func (f *fanout) expire() {
	f.mu.Lock()
	yes := f.tally.Yes()
	f.mu.Unlock()
	e := f.c.unavailable(&f.k, f.p.Level, f.need, yes, Unknown)
	e.Code = CodeDeadline
	f.fail(e)
}

func (f *fanout) fail(e *Error) {
	if f.close() {
		f.done(PutResult{}, e)
	}
}

// close ends the wait; it reports whether the caller is the one to answer.
func (f *fanout) close() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return false
	}
	f.closed = true
	f.timer.Stop()
	return true
}
