package coord

import (
	"fmt"
	"strconv"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/internal/planted"
	"github.com/atolldb/atoll/node/liveness"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/wire"
)

// Put writes, wherever the first live server of the key is.
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
	c.prepared(p, func(w *write, err *Error) {
		if err != nil {
			finish(PutResult{}, err.ofRequest(&p))
			return
		}
		w.done = finish
		if w.k.session != nil {
			w.done = c.afterPut(w.k, finish)
		}
		w.speaksOfRequest()
		c.begin(w)
	})
}

// prepared is prepare, again once after the buckets were refreshed where it says
// that one is not there.
func (c *Coordinator) prepared(p Put, then func(*write, *Error)) {
	w, err := c.prepare(p)
	if !err.unknown() || c.Refresh == nil {
		then(w, err)
		return
	}
	c.Refresh(p.Deadline, func(err error) {
		if err != nil {
			then(nil, unknownBucket(p.Bucket, err))
			return
		}
		then(c.prepare(p))
	})
}

// begin routes a write to the node that mints.
func (c *Coordinator) begin(w *write) {
	p := &w.p
	if w.away != "" {
		w.goHome()
		return
	}
	if p.Delete && len(p.Context) == 0 && p.Condition.Kind == crdt.Always && !serialOnly(w.want) {
		// A delete covers what is there, so it has to look first.
		c.gather(w.k, w.want, p.Deadline, func(rec crdt.Record, _ Achieved, err *Error) {
			if err != nil {
				w.done(PutResult{}, err)
				return
			}
			w.ctx = rec.Context()
			var omitted bool
			if w.p.Context, omitted = c.handOut(&w.k, w.ctx); omitted {
				// Too large to take along: it covers what the node that mints sees.
				w.ctx, w.p.Overwrite = crdt.Context{}, true
			}
			w.route(0)
		})
		return
	}
	w.route(0)
}

// prepare checks everything that can be known before an owner is asked.
func (c *Coordinator) prepare(p Put) (*write, *Error) {
	k, err := c.key(p.Bucket, p.Key, p.System)
	if err != nil {
		return nil, err
	}
	if err = c.uncountedHere(k.top); err != nil {
		return nil, err
	}
	if limit := k.bucket.maxValue(); len(p.Value) > limit {
		return nil, invalidSize("value", limit, len(p.Value))
	}
	if p.TTL < 0 || p.TTL > maxTTL {
		return nil, invalid("ttl", "0.."+maxTTL.String(), p.TTL.String(), "ttl is out of range")
	}
	if p.TTL%time.Millisecond != 0 { // less than one would be for ever
		return nil, invalid("ttl", "whole milliseconds", p.TTL.String(), "ttl is too fine")
	}
	p.Sloppy = p.Sloppy || k.bucket.Sloppy
	if p.TTL == 0 && !p.Delete {
		p.TTL = k.bucket.TTL
	}
	policy := c.writes(&k, p.System)
	chose := chosen(policy, want{level: p.Level, count: p.W, field: "w", regions: p.Regions})
	p.Level, p.W, p.Regions = chose.level, chose.count, chose.regions
	if p.Level.Consensus() {
		if p.W != 0 {
			return nil, invalid("w", "0 at "+p.Level.String(), strconv.Itoa(p.W), "a majority decides")
		}
		p.Sloppy = false // nobody stands in for an acceptor
	}
	w := &write{c: c, k: k, p: p, want: chose}
	if w.need, err = k.need(w.want); err != nil {
		return nil, err
	}
	if err = c.allowed(&k, policy, w.want); err != nil {
		return nil, err
	}
	if w.want.far() || w.want.regions != 0 {
		if w.reach, err = c.reach(&k, w.want); err != nil {
			return nil, err
		}
	}
	if err = unservedPut(&p); err != nil {
		return nil, err
	}
	if err = c.checkRequest(&w.p); err != nil {
		return nil, err
	}
	if err = c.findHome(&w.k, &w.want, &w.away); err != nil {
		return nil, err
	}
	if err = c.current(&k, w.want, w.need); err != nil {
		return nil, err
	}
	if w.ctx, err = c.context(&k, p.Context); err != nil {
		return nil, err
	}
	if err = c.knows(&w.k, p.Session); err != nil {
		return nil, err
	}
	return w, nil
}

// write is one Put under way.
type write struct {
	c    *Coordinator
	k    key
	p    Put
	ctx  crdt.Context
	want want
	need int // slots
	// reach is where it goes, if want leaves the region.
	reach reach
	// away is the region that decides it, if that is another one.
	away topology.Region
	done func(PutResult, *Error)
	// forwarded: this node was asked by the coordinator to mint.
	forwarded bool
	// refused is why the last server that was tried would not mint.
	refused *Error
	// late are the slots whose servers were slow when the write was routed, one
	// bit each, and at is where in the order of slots it has got to.
	late uint64
	at   int
	// behind: some server goes by an older topology than this node.
	behind bool
	// newcomer: some server may not mint a first attempt; see retry.go.
	newcomer bool
	// turns and waits are how often it was routed anew; see stale.go.
	turns, waits int
	// informs is how often it waited for what its session knows, and first, when
	// it is not 0, the slot that had it then, as one bit.
	informs int
	first   uint64
	// Of a retry: the epoch by which all owners were asked last, whether all of
	// them said no, and whether somebody could not; see retry.go.
	inquiredAt        topology.Epoch
	certain, doubtful bool
}

// route finds the node that mints: the first live server of the row, those that
// are slow last, from the i-th in that order on. It goes on to the next only
// after an outcome that is known to have had no effect (K4).
func (w *write) route(i int) {
	c := w.c
	if time.Until(w.p.Deadline) <= 0 {
		w.done(PutResult{}, &Error{Code: CodeDeadline, Detail: "the deadline passed before an owner could take the write"})
		return
	}
	if live := w.live(); live < w.need && !w.coverable(live) {
		w.done(PutResult{}, c.unavailable(&w.k, w.want, w.need, live, NotApplied))
		return
	}
	if w.want.far() {
		if err := w.reach.refuse(c, w.want); err != nil {
			w.done(PutResult{}, err)
			return
		}
	}
	if i == 0 && !serialOnly(w.want) { // those must all go to the same one
		w.late = w.slow()
		if w.first != 0 {
			w.late = ^w.first
		}
	}
	for ; i < len(w.k.row.Slots); i++ {
		w.at = i
		slot := w.slotAt(i)
		id := w.k.server(slot)
		if id == c.cfg.Self {
			w.mint(slot)
			return
		}
		if !w.forwarded && c.Alive(id) {
			w.forward(slot)
			return
		}
	}
	w.unrouted()
}

// slow are the slots whose servers are slow to write, one bit each.
func (w *write) slow() (late uint64) {
	for i := range w.k.row.Slots {
		if w.c.Slow(w.k.server(i), liveness.Writes) {
			late |= 1 << i
		}
	}
	return late
}

// slotAt is the i-th slot in the order in which servers are asked to mint.
func (w *write) slotAt(i int) int {
	if w.late == 0 {
		return i
	}
	for _, late := range []uint64{0, 1} {
		for s := range w.k.row.Slots {
			if w.late>>s&1 != late {
				continue
			}
			if i == 0 {
				return s
			}
			i--
		}
	}
	return i // there are fewer slots
}

// live is how many slots could acknowledge, as far as this node knows.
func (w *write) live() int {
	n := 0
	for _, s := range w.k.row.Slots {
		if w.c.alive(s.Owner) && (!s.Moving() || w.c.alive(s.Next)) {
			n++
		}
	}
	if extra := w.k.row.Extra; extra != "" && w.want.everybody() && !w.c.alive(extra) {
		n--
	}
	return n
}

// refusedBy takes why a server would not mint.
func (w *write) refusedBy(no *Error) {
	w.refused = no
	w.newcomer = w.newcomer || no.newcomer
}

// unrouted ends a write that no server has taken.
func (w *write) unrouted() {
	if w.newcomer && !w.forwarded && !w.p.Retry {
		w.asRetry()
		return
	}
	if w.behind && !w.forwarded {
		if d, ok := pause(w.waits, w.p.Deadline); ok {
			w.waits++
			w.behind = false
			time.AfterFunc(d, w.anew)
			return
		}
	}
	if w.refused != nil && w.refused.Code == CodeSessionBehind && !w.forwarded && w.informs < maxInformed {
		w.uninformed()
		return
	}
	e := &Error{Code: CodeUnavailable, Detail: "no live owner of the key could take the write", RetryAfterMs: 100, stale: w.behind}
	if w.refused != nil {
		e.Code = w.refused.Code
		e.Detail += "; the last one: " + w.refused.Detail
	}
	w.done(PutResult{}, e)
}

// anew routes the write by the topology that holds now. Nothing was minted.
func (w *write) anew() {
	w.k.resolve(w.c.Topology())
	n, err := w.k.need(w.want)
	if err != nil {
		w.done(PutResult{}, err)
		return
	}
	w.need = n
	w.route(0)
}

// elsewhere goes on after slot i's server refused because it, or this node, is
// behind.
func (w *write) elsewhere(i int, refused *Error) {
	w.c.learn(w.k.server(i), w.k.top.Epoch, func(newer bool) {
		if newer && w.turns < maxTurns {
			w.turns++
			w.anew()
			return
		}
		w.behind, w.refused = true, refused
		w.route(w.at + 1)
	})
}

// forward has slot i's server mint and coordinate.
func (w *write) forward(i int) {
	w.c.stats.Forwards.Add(1)
	to, began := w.k.server(i), time.Now()
	w.c.send(to, w.k.top.Epoch, peer.VerbForward, wire.AppendForward(nil, packPut(&w.p)), w.p.Deadline, func(reply []byte, err error) {
		if w.need <= len(w.k.row.Slots)/2+1 {
			// With more it would be the slowest of the others that tells.
			w.c.took(to, liveness.Writes, began, err)
		}
		if err == nil {
			res, failed, bad := unpackReply(reply)
			switch {
			case bad != nil:
				w.done(PutResult{}, &Error{Code: CodeInternal, Outcome: Unknown, Detail: fmt.Sprintf("reply of %s: %v", to, bad)})
			case failed != nil && failed.again:
				w.refusedBy(failed)
				w.route(w.at + 1)
			default:
				if failed != nil && failed.lost != nil {
					failed = w.c.sessionLost(failed.lost)
				}
				if failed != nil {
					failed.certain = true // who minted knows best
				}
				w.done(res, w.c.shown(&w.k, failed))
			}
			return
		}
		switch {
		case stale(err):
			w.elsewhere(i, &Error{Code: CodeUnavailable, Detail: fmt.Sprintf("%s: %v", to, err)})
		case noEffect(err) || planted.Bug(planted.MintTwice):
			w.route(w.at + 1)
		default:
			w.done(PutResult{}, &Error{Code: CodeUnavailable, Outcome: Unknown, Detail: fmt.Sprintf("%s may or may not have taken the write: %v", to, err)})
		}
	})
}
