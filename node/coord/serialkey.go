package coord

import (
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/internal/planted"
	"github.com/atolldb/atoll/node/cas"
	"github.com/atolldb/atoll/node/home"
	"github.com/atolldb/atoll/node/liveness"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/replica"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/wire"
)

// Operations at the serial levels are proposed by one of the key's servers, the
// first live one where all see the same, and queue there: so proposers do not
// outbid each other, and the second of two operations goes by the promise that
// came with the first. What a proposer remembers is kept for some keys; without
// it an operation begins with a Prepare.

const (
	serialShards = 32
	// maxSerialQueue bounds the operations that wait for one key; beyond it they
	// are refused.
	maxSerialQueue = 256
	// maxSerialKeys bounds the keys of a shard whose proposers are remembered.
	maxSerialKeys = 512
	// rememberFor is how long what a proposer remembers of a record is gone by.
	rememberFor = 10 * time.Second
	// tellAfter is how long a commit waits for an operation that takes it along.
	tellAfter = 4 * time.Millisecond
	// firstBackoff is about how long an operation that was outbid waits, and
	// twice as long each time, up to maxBackoff.
	firstBackoff = 4 * time.Millisecond
	maxBackoff   = 150 * time.Millisecond
)

// serials are the keys with operations at serial levels.
type serials [serialShards]struct {
	sync.Mutex
	m map[string]*serialKey
}

// serialRun is one operation on its way.
type serialRun struct {
	op cas.Op
	// home is the epoch for which it is decided, 0 for the region itself; fenced
	// says that somebody knows that to be over.
	home   home.Epoch
	fenced error
	// ended: an acceptor has said that the request is; carried: that it was, or may
	// have been, carried out.
	ended   bool
	carried bool
	// full are the acceptors that have no room on their disks.
	full []topology.NodeID
	// barred: this node cannot decide it, since its clock is off, or was; see
	// serialclock.go.
	barred   bool
	deadline time.Time
	done     func(serialResult)
	timer    *time.Timer
	sk       *serialKey
	attempts int
}

// serialResult is what came of a run. Err is set if it did not come to a result
// of its own.
type serialResult struct {
	cas.Outcome
	Event    crdt.Dot
	Achieved Achieved
	Err      *Error
	// fenced is why an operation that was not decided could not be; ended: its
	// request will not be carried out any more; carried: it may have been before; full
	// are acceptors that have no room on their disks.
	fenced  error
	ended   bool
	carried bool
	full    []topology.NodeID
}

// serialKey is a key at its proposer. The lock is over all of it.
type serialKey struct {
	c *Coordinator

	mu    sync.Mutex
	k     key
	prop  *cas.Proposer
	actor crdt.Actor // that the proposer bids for
	queue []*serialRun
	run   *serialRun
	used  time.Time
	gone  bool // no longer in the shard
	// todo is what is to be done outside of the lock, in order, by whoever is
	// acting.
	todo   []func()
	acting bool
	round  *serialRound // the last that was accepted, or is to be
}

// serialRound is one proposal on its way to the acceptors.
type serialRound struct {
	k      key
	ballot cas.Ballot
	oks    []topology.NodeID
	failed []topology.NodeID // do not have it, so they need the record
	// chosen, and committed here: then event and record are known.
	committed, told bool
	event           crdt.Dot
	id              crdt.RequestID
	record          []byte
}

// serial queues an operation on k, of which this node is a server, for the home of
// that epoch.
func (c *Coordinator) serial(k key, op cas.Op, epoch home.Epoch, deadline time.Time, done func(serialResult)) {
	r := &serialRun{op: op, home: epoch, deadline: deadline, done: done}
	for {
		shard := &c.serials[k.hash%serialShards]
		shard.Lock()
		sk := shard.m[string(k.full)]
		if sk == nil {
			sk = &serialKey{c: c, k: k, used: time.Now()}
			if shard.m == nil {
				shard.m = map[string]*serialKey{}
			}
			if len(shard.m) >= maxSerialKeys {
				for name, old := range shard.m {
					if old.retire() {
						delete(shard.m, name)
						break
					}
				}
			}
			shard.m[string(k.full)] = sk
		}
		shard.Unlock()
		if sk.add(r) {
			return
		}
	}
}

// retire reports whether nothing goes on at a key, which is then forgotten.
func (sk *serialKey) retire() bool {
	sk.mu.Lock()
	defer sk.mu.Unlock()
	if sk.run != nil || len(sk.queue) > 0 || sk.acting || sk.untold() {
		return false
	}
	sk.gone = true
	return true
}

func (sk *serialKey) untold() bool { return sk.round != nil && sk.round.committed && !sk.round.told }

// add reports false if the key was forgotten meanwhile.
func (sk *serialKey) add(r *serialRun) bool {
	sk.mu.Lock()
	if sk.gone {
		sk.mu.Unlock()
		return false
	}
	r.sk = sk
	if len(sk.queue) >= maxSerialQueue {
		sk.mu.Unlock()
		r.done(serialResult{Err: &Error{Code: CodeOverloaded, Detail: "too many operations at a serial level wait for the key", RetryAfterMs: 50}})
		return true
	}
	r.timer = time.AfterFunc(max(time.Until(r.deadline), 1), r.expire)
	sk.queue = append(sk.queue, r)
	sk.next()
	sk.mu.Unlock()
	sk.act()
	return true
}

// next begins the first operation that waits. Called with the lock held.
func (sk *serialKey) next() {
	if sk.run != nil || len(sk.queue) == 0 {
		return
	}
	sk.run = sk.queue[0]
	sk.queue = sk.queue[1:]
	sk.k.resolve(sk.c.Topology())
	actor := sk.c.Replica.Actor()
	if sk.prop == nil || actor != sk.actor {
		sk.actor = actor
		sk.prop = cas.NewProposer(ballotActor(&sk.k, 0), uint16(actor.Seq()))
		sk.prop.Break(plantedFaults())
	}
	now := time.Now()
	if now.Sub(sk.used) > rememberFor || sk.round != nil && sk.round.k.top != sk.k.top {
		sk.prop.Forget()
	}
	sk.used = now
	if actor == 0 || sk.k.place(sk.c.cfg.Self) < 0 {
		e := &Error{Code: CodeUnavailable, Detail: "this node cannot propose for the key now", RetryAfterMs: 100, again: true}
		sk.ends(serialResult{Err: e})
		return
	}
	if sk.c.Replica.Skewed() {
		sk.run.barred = true
		sk.ends(serialResult{Outcome: cas.Outcome{Result: cas.Refused}})
		return
	}
	if err := sk.c.decides(&sk.k, sk.run.home); err != nil {
		sk.run.fenced = err
		sk.ends(serialResult{Outcome: cas.Outcome{Result: cas.Refused}})
		return
	}
	sk.step(sk.prop.Begin(&sk.run.op, sk.row(), sk.c.HLC.Now()))
}

func plantedFaults() (f cas.Faults) {
	if planted.Bug(planted.LastCommit) {
		f |= cas.NoLastCommit
	}
	if planted.Bug(planted.SkipFence) {
		f |= cas.NoFence
	}
	return f
}

func (sk *serialKey) row() cas.Row {
	row := cas.Row{Slots: len(sk.k.row.Slots)}
	for i, s := range sk.k.row.Slots {
		if s.Moving() {
			row.Moving |= 1 << i
		}
	}
	return row
}

// ends answers the operation that runs, outside of the lock, and begins the
// next one. Called with the lock held.
func (sk *serialKey) ends(res serialResult) {
	r := sk.run
	sk.run = nil
	r.timer.Stop()
	sk.tooLate(r, &res)
	res.fenced, res.ended, res.carried, res.full = r.fenced, r.ended, r.carried, r.full
	if r.barred && res.Err == nil && res.Result == cas.Refused && !r.ended && !r.carried && r.fenced == nil {
		res.Err = sk.c.localError(replica.ErrClockSkew)
	}
	sk.todo = append(sk.todo, func() { r.done(res) })
	sk.next()
}

// tooLate takes back a result that may not be the last word any more: where the home
// has a lease that ran out meanwhile, or has moved, another region may have decided
// before this was. A write may have been decided all the same.
func (sk *serialKey) tooLate(r *serialRun, res *serialResult) {
	if r.home == 0 || res.Err != nil || res.Result != cas.Done && res.Result != cas.Failed {
		return
	}
	h := sk.c.homeOf(&sk.k)
	if h.Epoch == r.home && !h.Lapsed {
		return
	}
	r.fenced = &home.Fenced{Asked: r.home, Known: h}
	if r.op.Write != nil && res.Result == cas.Done {
		res.Outcome = cas.Outcome{Result: cas.Unknown}
		return
	}
	res.Outcome = cas.Outcome{Result: cas.Refused}
}

// expire ends an operation at its deadline.
func (r *serialRun) expire() {
	sk := r.sk
	sk.mu.Lock()
	for i, q := range sk.queue {
		if q == r {
			sk.queue = append(sk.queue[:i:i], sk.queue[i+1:]...)
			sk.mu.Unlock()
			r.done(serialResult{Err: &Error{Code: CodeDeadline, Detail: "the deadline passed before the operation's turn came"}})
			return
		}
	}
	if sk.run == r {
		sk.step(sk.prop.Expire())
	}
	sk.mu.Unlock()
	sk.act()
}

// step queues what the proposer says. Called with the lock held.
func (sk *serialKey) step(s cas.Step) {
	if s.Send != nil || s.Chosen != nil || s.Again || s.Outcome != nil {
		sk.todo = append(sk.todo, func() { sk.take(s) })
	}
}

// act does what is to be done, one goroutine at a time.
func (sk *serialKey) act() {
	sk.mu.Lock()
	if sk.acting {
		sk.mu.Unlock()
		return
	}
	sk.acting = true
	for len(sk.todo) > 0 {
		do := sk.todo[0]
		sk.todo = sk.todo[1:]
		sk.mu.Unlock()
		do()
		sk.mu.Lock()
	}
	sk.acting = false
	sk.mu.Unlock()
}

// feed gives the proposer something, and acts on what it says.
func (sk *serialKey) feed(f func(p *cas.Proposer) cas.Step) {
	sk.mu.Lock()
	sk.step(f(sk.prop))
	sk.mu.Unlock()
	sk.act()
}

func (sk *serialKey) take(s cas.Step) {
	if s.Chosen != nil {
		sk.commit(s.Chosen, s.Outcome)
	} else if s.Outcome != nil {
		sk.mu.Lock()
		out := *s.Outcome
		if out.Result == cas.Done && !out.Version.IsZero() && out.Carried == nil {
			// Somebody else has committed it, by an event that is not known here: a
			// session could not be told what it wrote.
			out.Result = cas.Unknown
		}
		if sk.run != nil {
			sk.ends(serialResult{Outcome: out, Achieved: sk.achieved(nil)})
		}
		sk.mu.Unlock()
	}
	switch {
	case s.Again:
		sk.again()
	case s.Send == nil:
	case outOfReach(s.Send.Highest(), sk.c.HLC.Now()):
		sk.bar(s.Send.Verb, s.Turn)
	case s.Send.Verb == cas.Prepare:
		sk.prepare(s.Send, s.Turn)
	default:
		sk.accept(s.Send, s.Turn)
	}
}

// again retries after a pause.
func (sk *serialKey) again() {
	sk.mu.Lock()
	r := sk.run
	if r == nil {
		sk.mu.Unlock()
		return
	}
	if r.fenced != nil || r.barred { // it stays so
		sk.step(sk.prop.Expire())
		sk.mu.Unlock()
		return
	}
	r.attempts++
	d := min(firstBackoff<<min(r.attempts, 8), maxBackoff)
	d = d/2 + rand.N(d)
	sk.mu.Unlock()
	time.AfterFunc(d, func() {
		sk.mu.Lock()
		if sk.run != r {
			sk.mu.Unlock()
			return
		}
		sk.k.resolve(sk.c.Topology())
		var s cas.Step
		if err := sk.c.decides(&sk.k, r.home); err != nil {
			r.fenced = err
			s = sk.prop.Expire()
		} else if sk.c.Replica.Skewed() {
			r.barred = true
			s = sk.prop.Expire()
		} else if sk.k.place(sk.c.cfg.Self) < 0 || sk.c.Replica.Actor() != sk.actor {
			s = sk.prop.Expire() // somebody else proposes from here on
		} else {
			s = sk.prop.Retry(sk.row(), sk.c.HLC.Now())
		}
		sk.step(s)
		sk.mu.Unlock()
		sk.act()
	})
}

// each visits the acceptors other than this node.
func (sk *serialKey) each(k *key, f func(slot int, second bool, id topology.NodeID)) (self int, second bool) {
	self = -1
	visit := func(slot int, sec bool, id topology.NodeID) {
		if id == sk.c.cfg.Self {
			self, second = slot, sec
			return
		}
		f(slot, sec, id)
	}
	for i, s := range k.row.Slots {
		visit(i, false, s.Owner)
		if s.Moving() {
			visit(i, true, s.Next)
		}
	}
	return self, second
}

// now is by what the operation that runs goes.
func (sk *serialKey) now() (k key, epoch home.Epoch, deadline time.Time) {
	sk.mu.Lock()
	defer sk.mu.Unlock()
	deadline = time.Now().Add(time.Second)
	if sk.run == nil {
		return sk.k, 0, deadline
	}
	if sk.run.deadline.Before(deadline) {
		deadline = sk.run.deadline
	}
	return sk.k, sk.run.home, deadline
}

// ask sends a message to an acceptor.
func (sk *serialKey) ask(k *key, epoch home.Epoch, id topology.NodeID, m *cas.Message, deadline time.Time, then func(cas.Answer, error)) {
	c := sk.c
	if !c.Alive(id) {
		then(cas.Answer{}, peer.ErrNotSent)
		return
	}
	body := wire.AppendSerial(nil, &wire.Serial{Key: k.full, Home: epoch, Message: *m})
	began := time.Now()
	c.send(id, k.top.Epoch, peer.VerbSerial, body, deadline, func(b []byte, err error) {
		var a cas.Answer
		if err == nil {
			c.took(id, liveness.Writes, began, nil)
			a, err = wire.DecodeSerialAnswer(k.hash, b)
		}
		then(a, err)
	})
}

// hears notes why an acceptor will not have the operation that runs, and whether it
// knows of its request.
func (sk *serialKey) hears(id topology.NodeID, a cas.Answer, err error) {
	sk.mu.Lock()
	defer sk.mu.Unlock()
	switch {
	case sk.run == nil:
	case isFenced(err):
		sk.run.fenced = err
	case isFull(err):
		if !slices.Contains(sk.run.full, id) {
			sk.run.full = append(sk.run.full, id)
		}
	case err == nil && a.Carried.Ended, errors.Is(err, replica.ErrForbidden):
		sk.run.ended = true
	case err == nil && !a.Carried.IsZero():
		sk.run.carried = true
	}
}

// answered gives an acceptor's answer to the proposer.
func (sk *serialKey) answered(k *key, turn uint64, slot int, second bool, id topology.NodeID, a cas.Answer, err error) {
	now := sk.c.HLC.Now()
	sk.hears(id, a, err)
	if err == nil && id == sk.c.cfg.Self {
		sk.ownPromise(&a, now)
	}
	if err == nil {
		sk.feed(func(p *cas.Proposer) cas.Step { return p.Answer(turn, slot, second, a, now) })
		return
	}
	// A peer that refuses may still take a copy of the message that comes later.
	refused := errors.Is(err, peer.ErrNotSent) || id == sk.c.cfg.Self && noEffect(err)
	fail := func() {
		sk.feed(func(p *cas.Proposer) cas.Step { return p.Fail(turn, slot, second, refused, now) })
	}
	if stale(err) {
		sk.c.learn(id, k.top.Epoch, func(bool) { fail() })
		return
	}
	fail()
}

func (sk *serialKey) prepare(m *cas.Message, turn uint64) {
	k, epoch, deadline := sk.now()
	self, second := sk.each(&k, func(slot int, second bool, id topology.NodeID) {
		sk.ask(&k, epoch, id, m, deadline, func(a cas.Answer, err error) { sk.answered(&k, turn, slot, second, id, a, err) })
	})
	sk.c.Replica.Serial(replica.SerialStep{
		Key: k.full, KeyHash: k.hash, Epoch: k.top.Epoch, Home: epoch, Message: *m, Expires: deadline,
		Done: func(a replica.SerialAnswer, err error) {
			sk.answered(&k, turn, self, second, sk.c.cfg.Self, a.Answer, localRefusal(err))
		},
	})
}

// accept has this node accept first: what it refuses nobody else sees.
func (sk *serialKey) accept(m *cas.Message, turn uint64) {
	k, epoch, deadline := sk.now()
	round := &serialRound{k: k, ballot: m.Proposal.Ballot}
	sk.mu.Lock()
	before := sk.round
	sk.round = round
	sk.mu.Unlock()
	self, selfSecond := sk.each(&k, func(int, bool, topology.NodeID) {})
	sent := false
	sk.c.Replica.Serial(replica.SerialStep{
		Key: k.full, KeyHash: k.hash, Epoch: k.top.Epoch, Home: epoch, Message: *m, Expires: deadline,
		Decided: func(a replica.SerialAnswer) {
			if a.Verdict != cas.OK {
				return
			}
			sent = true
			if sk.ride(before, m) {
				sk.makeUp(before)
			}
			sk.each(&k, func(slot int, second bool, id topology.NodeID) {
				sk.ask(&k, epoch, id, m, deadline, func(a cas.Answer, err error) {
					sk.voted(round, before, id, a, err)
					sk.answered(&k, turn, slot, second, id, a, err)
				})
			})
		},
		Done: func(a replica.SerialAnswer, err error) {
			if sent {
				sk.answered(&k, turn, self, selfSecond, sk.c.cfg.Self, a.Answer, localRefusal(err))
				return
			}
			now := sk.c.HLC.Now()
			sk.hears(sk.c.cfg.Self, a.Answer, err)
			refused := &a.Answer
			if err != nil {
				refused = nil
			} else {
				sk.ownPromise(refused, now)
			}
			sk.feed(func(p *cas.Proposer) cas.Step { return p.Unsent(turn, refused, now) })
		},
	})
}

// ride has m tell of the round before, if nobody has yet.
func (sk *serialKey) ride(before *serialRound, m *cas.Message) bool {
	sk.mu.Lock()
	defer sk.mu.Unlock()
	if before == nil || !before.committed || before.told {
		return false
	}
	before.told = true
	m.Decided = before.ballot
	if !before.event.IsZero() {
		m.Events = []crdt.Dot{before.event}
	}
	return true
}

// localRefusal makes what this node's own replica says look like what a peer's
// would.
func localRefusal(err error) error {
	if err == nil || stale(err) {
		return err
	}
	return replica.Refuse(err)
}
