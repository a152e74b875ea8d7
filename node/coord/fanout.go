package coord

import (
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/internal/planted"
	"github.com/atolldb/atoll/node/liveness"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/quorum"
	"github.com/atolldb/atoll/node/replica"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/wire"
)

// mint decides the version here; this node serves slot i.
func (w *write) mint(i int) {
	if serialOnly(w.want) {
		w.decide()
		return
	}
	if w.p.Retry && w.inquiredAt != w.k.top.Epoch {
		w.inquire(i)
		return
	}
	f := &fanout{write: w, slot: i, began: time.Now()}
	f.first.open(f, &w.k, w.need)
	f.round = &f.first
	m := replica.Mint{
		Key: w.k.full, KeyHash: w.k.hash, Epoch: w.k.top.Epoch,
		ID:          w.p.RequestID,
		Ballot:      w.p.Attempt,
		Context:     w.ctx,
		Needs:       w.k.firm(),
		Soft:        w.k.soft(),
		Above:       w.k.above(),
		Overwrite:   w.p.Overwrite || w.p.Condition.Kind != crdt.Always || w.k.bucket.Kind == crdt.LWW,
		Condition:   w.p.Condition,
		Dead:        w.p.Delete,
		Value:       w.p.Value,
		TTL:         int64(w.p.TTL / time.Millisecond),
		Blind:       w.blind(),
		MaxSiblings: w.k.bucket.maxSiblings(),
		Expires:     w.p.Deadline,
		Decided:     f.decided,
		Done:        f.local,
	}
	if w.want.far() {
		f.far = w.farther()
	}
	// A stalled disk here must not keep the client beyond its deadline.
	f.mu.Lock()
	f.timer = time.AfterFunc(max(w.p.Deadline.Sub(f.began), 1), f.expire)
	f.mu.Unlock()
	w.c.Replica.Mint(m)
}

// fanout is a minted write on its way to all who take it, which overlaps the
// local sync.
type fanout struct {
	*write
	slot int // that this node served when it minted
	// began is when the write was given to this node's replica.
	began time.Time
	// everywhere: this node applies the record, as the others do, since it has not
	// minted it.
	everywhere bool

	mu     sync.Mutex
	minted *replica.Minted
	closed bool
	timer  *time.Timer
	// waits ends when others stand in for those who are silent.
	waits *time.Timer
	// round is the one that counts; the first one is allocated with the fanout.
	round *round
	first round
	turns int
	// body is the Apply that all rounds send.
	body []byte
	// far is nil for a write that stays in the region.
	far *farWrite
}

// round is a minted write sent, and counted, by one topology.
type round struct {
	*fanout
	k     key
	tally quorum.Slots
	// everybody: Extra counts, as one slot more.
	everybody bool
	// cover is nil unless others may stand in.
	cover *cover
}

func (r *round) open(f *fanout, k *key, need int) {
	r.fanout, r.k = f, *k
	slots := len(k.row.Slots)
	var moving uint64
	for i, s := range k.row.Slots {
		if s.Moving() {
			moving |= 1 << i
		}
	}
	if planted.Bug(planted.HalfSlot) {
		moving = 0
	}
	if r.everybody = f.want.everybody() && k.row.Extra != ""; r.everybody {
		slots, need = slots+1, need+1
	}
	r.tally = quorum.NewSlots(need, slots, moving)
	if f.p.Sloppy {
		r.cover = newCover(k, r.everybody)
	}
}

// decided runs on the committer's goroutine, before the sync.
func (f *fanout) decided(m *replica.Minted) {
	f.minted = m
	if planted.Bug(planted.AckBeforeSync) {
		f.first.vote(f.slot, false, nil)
	}
	record := m.Record
	if planted.Bug(planted.DenseDelta) {
		record = denseDelta(f.k.hash, m)
	}
	f.body = wire.AppendApply(make([]byte, 0, len(record)+len(f.k.full)+16),
		wire.Apply{Entries: []wire.Entry{f.entry(record)}})
	f.first.spread()
}

// spread sends the record to all who take it by the round's topology. This node
// votes for the first round when its own group is durable; see local.
func (r *round) spread() {
	if r.cover != nil {
		r.mu.Lock()
		if !r.closed && r.round == r {
			r.waits = time.AfterFunc(r.c.cfg.StandInAfter, r.late)
		}
		r.mu.Unlock()
	}
	for i, s := range r.k.row.Slots {
		r.give(i, false, s.Owner)
		if s.Moving() {
			r.give(i, true, s.Next)
		}
	}
	if r.k.row.Extra != "" {
		r.give(len(r.k.row.Slots), false, r.k.row.Extra)
	}
}

// give has one node apply the record and vote.
func (r *round) give(i int, second bool, id topology.NodeID) {
	c := r.c
	if id == c.cfg.Self {
		if r != &r.first || r.everywhere {
			entries := []wire.Entry{r.entry(r.minted.Record)}
			c.Replica.ApplyAt(r.k.top.Epoch, entries, func(_ int, err error) { r.answer(i, second, id, 0, err) })
		}
		return
	}
	if !c.Alive(id) {
		c.stats.Missed.Add(1)
		r.vote(i, second, peer.ErrNotSent)
		return
	}
	r.sendTo(i, second, id, 0)
}

// sendTo sends to a node, for the n-th time after the first.
func (r *round) sendTo(i int, second bool, id topology.NodeID, n int) {
	r.c.send(id, r.k.top.Epoch, peer.VerbApply, r.body, r.p.Deadline, func(_ []byte, err error) {
		r.answer(i, second, id, n, err)
	})
}

// answer takes what a node said to its n-th further try. One that is behind is
// asked again after a while; if this node is, a new round begins.
func (r *round) answer(i int, second bool, id topology.NodeID, n int, err error) {
	if err == nil || !stale(err) {
		if err != nil {
			r.c.stats.Missed.Add(1)
		}
		r.vote(i, second, err)
		return
	}
	r.c.learn(id, r.k.top.Epoch, func(newer bool) {
		if newer && r.renew() {
			return
		}
		if d, ok := pause(n, r.p.Deadline); ok && id != r.c.cfg.Self && r.waiting() {
			time.AfterFunc(d, func() { r.sendTo(i, second, id, n+1) })
			return
		}
		r.c.stats.Missed.Add(1)
		r.vote(i, second, err)
	})
}

// waiting reports whether this round still counts.
func (r *round) waiting() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.closed && r.round == r
}

// renew begins a round by the topology that holds now; it reports false if the
// write may not begin another one. A round that counts no more is nobody's
// business.
func (r *round) renew() bool {
	f := r.fanout
	next := &round{}
	k := r.k
	k.resolve(f.c.Topology())
	need, err := k.need(f.want)
	if err != nil {
		return false
	}
	next.open(f, &k, need)
	f.mu.Lock()
	switch {
	case f.closed || f.round != r:
		f.mu.Unlock()
		return true
	case f.turns == maxTurns:
		f.mu.Unlock()
		return false
	}
	f.turns++
	f.round = next
	if f.waits != nil {
		f.waits.Stop()
	}
	f.mu.Unlock()
	next.spread()
	return true
}

// local runs when the local group is durable, or was not.
func (f *fanout) local(_ *replica.Minted, err error) {
	if err == nil {
		f.c.Took(f.c.cfg.Self, liveness.Writes, time.Since(f.began))
		f.first.vote(f.slot, f.second(), nil)
		f.abroad()
		return
	}
	if no := (*replica.ConditionError)(nil); errors.As(err, &no) {
		f.fail(f.c.conditionFailed(&f.k, f.p.Condition, no.Record, Achieved{Needed: 1, Coordinator: f.c.cfg.Self}))
		return
	}
	e := f.c.localError(err)
	if f.minted != nil {
		// It was decided and may be on its way to others.
		e.Outcome, e.again = Unknown, false
		f.fail(e)
		return
	}
	if e.again && f.close() {
		f.refusedBy(e)
		if stale(err) {
			f.elsewhere(f.slot, e)
			return
		}
		if f.forwarded {
			f.done(PutResult{}, e)
			return
		}
		f.route(f.at + 1)
		return
	}
	f.fail(e)
}

// second reports whether this node is the second one of the slot for which it
// minted.
func (f *fanout) second() bool { return f.first.k.row.Slots[f.slot].Owner != f.c.cfg.Self }

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

// vote counts what a node of slot i finally said.
func (r *round) vote(i int, second bool, err error) {
	if i == len(r.k.row.Slots) && !r.everybody {
		return // Extra
	}
	r.mu.Lock()
	var v quorum.Verdict
	switch {
	case r.cover != nil:
		v = r.answered(i, second, err)
	case err == nil:
		v = r.tally.Ack(i, second)
	default:
		v = r.tally.Fail(i, second)
	}
	r.conclude(v)
}

// conclude answers if there is a verdict and nobody has answered yet. It is
// called with the lock held, and gives it back.
func (r *round) conclude(v quorum.Verdict) {
	f := r.fanout
	if f.closed || f.round != r || v == quorum.Pending {
		f.mu.Unlock()
		return
	}
	f.shut()
	a := r.achieved()
	yes := r.tally.Yes()
	slots := len(r.k.row.Slots)
	share := wire.Share{Yes: uint32(r.owned()), Needed: uint32(min(r.tally.Need(), slots)), Owners: uint32(slots)}
	f.mu.Unlock()

	if v == quorum.Lost {
		outcome := Unknown
		if planted.Bug(planted.SayNotApplied) {
			outcome = NotApplied
		}
		f.end(PutResult{}, share, f.c.unavailable(&r.k, f.want, r.tally.Need(), yes, outcome))
		return
	}
	if a.ManySiblings = f.minted.Versions >= r.k.bucket.warnSiblings(); a.ManySiblings {
		f.c.stats.ManySiblingWrites.Add(1)
	}
	res := PutResult{
		Version:  f.minted.Dot,
		Event:    f.minted.Dot,
		Stamp:    f.minted.Stamp,
		Replayed: f.minted.Replayed, MaybeDuplicate: f.doubtful && !f.minted.Replayed,
		Achieved: a,
	}
	res.Context, res.ContextOmitted = f.c.handOut(&r.k, f.minted.Context)
	f.end(res, share, nil)
}

// abroad sends a record that is durable to other regions, if it goes there.
func (f *fanout) abroad() {
	if f.far != nil {
		f.far.begin(f.entry(f.minted.Record), f.p.Deadline)
	}
}

// end gives the answer, or, for a write that goes to other regions, what they
// have to be waited for with.
func (f *fanout) end(res PutResult, share wire.Share, err *Error) {
	switch {
	case f.far == nil:
		f.done(res, err)
	case err != nil:
		f.far.cancel()
		f.done(PutResult{}, err)
	default:
		f.abroad()
		f.far.home(res, share)
	}
}

// owned is how many slots have the write themselves. Called with the lock held.
func (r *round) owned() (n int) {
	has := func(i int, second bool) bool {
		if r.cover != nil {
			return r.cover.seat(i, second).own
		}
		return r.tally.Acked(i, second)
	}
	for i, s := range r.k.row.Slots {
		if has(i, false) && (!s.Moving() || has(i, true)) {
			n++
		}
	}
	return n
}

// achieved says who has the write. Called with the lock held.
func (r *round) achieved() Achieved {
	a := Achieved{
		Level: r.want.level, Needed: r.tally.Need(), Coordinator: r.c.cfg.Self,
		Replicas: make([]topology.NodeID, 0, len(r.k.row.Slots)+1),
	}
	note := func(i int, second bool, id topology.NodeID) {
		has := r.tally.Acked(i, second)
		if r.cover != nil {
			has = r.cover.seat(i, second).own
		}
		if has {
			a.Replicas = append(a.Replicas, id)
		}
		a.Degraded = a.Degraded || !r.c.alive(id)
	}
	a.Reached = r.k.reached(r.owned())
	if r.cover != nil && len(r.cover.hinted) > 0 {
		a.Hinted, a.Degraded = slices.Clone(r.cover.hinted), true
	}
	for i, s := range r.k.row.Slots {
		note(i, false, s.Owner)
		if s.Moving() {
			note(i, true, s.Next)
		}
	}
	if r.everybody {
		note(len(r.k.row.Slots), false, r.k.row.Extra)
	}
	return a
}

// expire ends the wait. The write may still be decided or acknowledged.
func (f *fanout) expire() {
	f.mu.Lock()
	r := f.round
	yes := r.tally.Yes()
	f.mu.Unlock()
	e := f.c.unavailable(&r.k, f.want, r.tally.Need(), yes, Unknown)
	e.Code = CodeDeadline
	f.fail(e)
}

func (f *fanout) fail(e *Error) {
	if f.close() {
		f.end(PutResult{}, wire.Share{}, e)
	}
}

// close ends the wait; it reports whether the caller is the one to answer.
func (f *fanout) close() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return false
	}
	f.shut()
	return true
}

func (f *fanout) shut() {
	f.closed = true
	f.timer.Stop()
	if f.waits != nil {
		f.waits.Stop()
	}
}
