package replica

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/cas"
	"github.com/atolldb/atoll/node/home"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/storage"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/wire"
)

// An owner is an acceptor of the consensus on its keys (package cas). The state
// is kept beside the record, in the same groups, and what was decided is joined
// into the record, as an Apply is. A conditional write has no dot in the
// partition's sequence; so the node that commits it first mints one, as the
// event that clock, index and outbox carry, in the same group. Then the others
// get the event's dot with the commit.

// SerialStep is a step of a key's consensus, to be taken here.
type SerialStep struct {
	Key     []byte // full key
	KeyHash uint64
	// Epoch of the topology by which this node was chosen; 0 is not fenced.
	Epoch topology.Epoch
	// Home is the epoch of the bucket's home for which the region decides, 0 when
	// it decides for itself. A Commit is not fenced: it was decided.
	Home    home.Epoch
	Message cas.Message
	// Mint: a Commit of what was decided here, by this node's own proposer, so an
	// event is minted if the record changes by it. The Message's Proposal then says
	// which version of which request it is.
	Mint bool
	// Expires is when nobody waits for the step any more, zero for never. A
	// Commit never expires.
	Expires time.Time
	// Decided is called when the answer exists and before it is durable here;
	// Done when it is durable, or with an error. Both run on the committer's
	// goroutine and must not block. Decided may be nil.
	Decided func(SerialAnswer)
	Done    func(SerialAnswer, error)
}

// SerialAnswer is what came of a step.
type SerialAnswer struct {
	cas.Answer
	// Event by which a Commit with Mint delivers the write, zero for none, and the
	// encoding of the whole record after it. It is minted unless it is known that
	// another node, which has finished the same write, has minted one.
	Event  crdt.Dot
	Record []byte
}

// Serial queues a step. It returns at once. It is refused with ErrStale when
// the epoch is too old for the partition, with ErrNotOwner or ErrBehind when
// this node is no acceptor in it, with an error that wraps storage.ErrCorrupt
// when the record or the state is unreadable, with ErrNoActor when an event is to
// be minted and cannot be, and with a home.Fenced when this node knows that the
// home has moved.
func (r *Replica) Serial(s SerialStep) {
	if err := r.note(r.view.Load().standing(r.Partition(s.KeyHash)).accepts(s.Epoch)); err != nil {
		s.Done(SerialAnswer{}, err)
		return
	}
	r.submit(&serialOp{r: r, SerialStep: s})
}

// accepts returns an error unless who knows epoch may have this node accept
// proposals in a partition. A Pending node may: its answer counts only together
// with that of the owner from whom it takes over.
func (s standing) accepts(epoch topology.Epoch) error {
	if err := s.takes(epoch); err != nil {
		return err
	}
	if s.mark != 0 && s.role != topology.Pending {
		return ErrBehind
	}
	return nil
}

// takesFor returns an error unless this node takes part in what its region is
// asked for as the home of the key's bucket, in that epoch. It is asked on the
// committer's goroutine before a step: so once a node knows of a later home, and
// has committed whatever it had begun before, nothing is accepted for the one
// before any more.
func (r *Replica) takesFor(asked home.Epoch, fullKey []byte) error {
	if asked == 0 || r.cfg.Home == nil {
		return nil
	}
	bucket, _, _ := bytes.Cut(fullKey, []byte{0})
	if err := r.cfg.Home(string(bucket)).Takes(string(r.cfg.Topology.Region), asked); err != nil {
		r.stats.SerialFenced.Add(1)
		return err
	}
	return nil
}

type serialOp struct {
	r *Replica
	SerialStep
	answer SerialAnswer
	effect effect
	// minted: the answer's event is new.
	minted bool
	// cleared is the ballot that is pending until this is durable, 0 for none.
	cleared cas.Ballot
	// request that is carried out by what was committed, and how; nil for none.
	request crdt.RequestID
	by      *trace
}

func (o *serialOp) Size() int {
	n := 2*len(o.Key) + 160
	if !o.Message.Proposal.ID.IsZero() {
		n += requestRoom
	}
	for i := range o.Message.Proposal.Record.Versions {
		v := &o.Message.Proposal.Record.Versions[i]
		n += len(v.Value) + len(v.Meta) + 64
	}
	return n
}

// Patient: what is committed has been accepted durably, and is not lost.
func (o *serialOp) Patient() bool { return o.Message.Verb == cas.Commit }

func (o *serialOp) Decide(tx storage.Txn) error {
	m := &o.Message
	if m.Verb != cas.Commit && !o.Expires.IsZero() && time.Now().After(o.Expires) {
		return ErrExpired
	}
	p := o.r.Partition(o.KeyHash)
	if err := o.r.note(o.r.decidedStanding(p).accepts(o.Epoch)); err != nil {
		return err
	}
	if err := o.r.takesFor(o.Home, o.Key); m.Verb != cas.Commit && err != nil {
		return err
	}
	part := o.r.held[p]
	if o.Mint && o.r.minter == 0 {
		return ErrNoActor
	}
	if o.r.damage.isReplaced(o.Key) {
		return errReplaced
	}
	stored, err := getRecord(tx, o.KeyHash, o.Key)
	if err != nil {
		if errors.Is(err, storage.ErrCorrupt) {
			o.r.unreadable(o.KeyHash, o.Key)
		}
		return err
	}
	was, err := o.r.loadState(tx, o.KeyHash, o.Key)
	if err != nil {
		if errors.Is(err, storage.ErrCorrupt) {
			o.r.unreadableState(p, o.Key)
		}
		return err
	}
	if m.Highest().TooFar(o.r.hlc.Now()) {
		return fmt.Errorf("%w, or the proposer's is: its ballot is too far ahead", ErrClockSkew)
	}
	if !m.Proposal.ID.IsZero() && m.Verb != cas.Commit {
		known, err := o.r.window.find(tx, o.KeyHash, m.Proposal.ID)
		switch {
		case err != nil:
			return err
		case m.Verb == cas.Prepare:
			o.answer.Unsure = !sure(m.Proposal.ID, part.memory, time.Now())
		case known.ballot == Forbid && m.Proposal.Dot.N == uint64(m.Proposal.Ballot):
			return ErrForbidden // what was proposed before is finished all the same
		}
		m.Noted = known.carried()
		o.answer.Carried = m.Noted
	}
	local := shown(stored, part.decided.floors)
	is, rec := was.Learned(local), local
	o.effect = effect{part: part}
	if m.Decided != 0 {
		is, rec = o.commit(tx, is, local)
	}
	verdict := cas.OK
	switch m.Verb {
	case cas.Prepare:
		is, verdict = is.Prepare(m.Ballot, o.r.serial.mins[p])
	case cas.Accept:
		is, verdict = is.Accept(m, rec, o.r.serial.mins[p])
	case cas.Commit:
		if is.Committed < m.Decided && !(o.Mint && m.Decided < o.r.serial.mins[p]) {
			verdict = cas.Missed
		}
	}
	carried, unsure := o.answer.Carried, o.answer.Unsure
	o.answer.Answer = is.Show(verdict, o.r.serial.mins[p], rec)
	if m.Verb == cas.Prepare {
		o.answer.Carried, o.answer.Unsure = carried, unsure
	}
	if !is.Pending() {
		o.cleared = o.r.serial.noted(o.Key)
	}
	return o.write(tx, was, is, stored, rec)
}

// commit joins what was decided.
func (o *serialOp) commit(tx storage.Txn, is cas.State, local crdt.Record) (cas.State, crdt.Record) {
	m := &o.Message
	is, took, verdict := is.Commit(m.Decided)
	if verdict == cas.Missed && o.Mint && m.Decided < o.r.serial.mins[o.effect.part.id] {
		verdict = cas.OK // it was committed by another way, and the state is spent since
	}
	rec := local
	if took != nil {
		rec = o.joined(local, took)
	}
	if verdict != cas.OK {
		return is, rec // without the record its events are not delivered either
	}
	part := o.effect.part
	for _, d := range m.Events {
		if !part.decided.clock.Contains(d) && !contains(o.effect.dots, d) {
			o.effect.dots = append(o.effect.dots, d)
		}
	}
	if o.Mint {
		o.deliver(tx, took, !rec.SameDots(local))
	}
	o.carries(took)
	return is, rec
}

// deliver gives what was decided an event. A write has one also if the record came here
// by another way before, and only one as far as this node knows; a no-op has one if it
// brings what was not committed here.
func (o *serialOp) deliver(tx storage.Txn, took *cas.Proposal, changed bool) {
	switch {
	case took == nil && o.Message.Proposal.NoOp():
		return // what was committed since rests on it
	case took == nil:
		o.answer.Event = o.knownEvent(tx)
	case took.NoOp() && !changed:
		return
	}
	if o.answer.Event.IsZero() {
		minter := o.r.minter
		o.answer.Event = crdt.Dot{Actor: minter, N: o.effect.part.highest(minter) + 1}
		o.effect.dots, o.minted = append(o.effect.dots, o.answer.Event), true
	}
}

// knownEvent is the one by which somebody else has delivered what is committed here,
// zero if this node knows of none.
func (o *serialOp) knownEvent(tx storage.Txn) crdt.Dot {
	p := &o.Message.Proposal
	if p.ID.IsZero() || p.Dot.IsZero() {
		return crdt.Dot{}
	}
	t, err := o.r.window.find(tx, o.KeyHash, p.ID)
	// What has carried out the request may be another version, of another region.
	other := t.dot.Actor.Region() != p.Dot.Actor.Region() || !t.version.IsZero() && t.version != p.Dot
	if err != nil || t.dot.IsZero() || other || !o.effect.part.decided.clock.Contains(t.dot) {
		return crdt.Dot{} // an event too many harms nobody, and one too few does
	}
	return t.dot
}

// carries notes which request a commit carries out, by which events.
func (o *serialOp) carries(took *cas.Proposal) {
	what := took
	if what == nil && o.Mint {
		what = &o.Message.Proposal // it has been joined by another way before
	}
	if what == nil || what.ID.IsZero() || what.Dot.IsZero() {
		return
	}
	events := o.Message.Events
	if !o.answer.Event.IsZero() {
		events = []crdt.Dot{o.answer.Event}
	}
	t := trace{version: what.Dot}
	if v := what.Record.Find(what.Dot); v != nil {
		t.stamp = v.Stamp
	}
	for _, d := range events {
		t.dot = d
		o.effect.ids = append(o.effect.ids, crdt.EventID{Dot: d, ID: what.ID})
	}
	o.request, o.by = what.ID, &t
}

// joined is the record with what was decided in it. The rest of the proposal's
// record travelled with it, maybe for long: of that, versions which may have
// been deleted and collected since are left out. Where they live they are
// delivered by other ways.
func (o *serialOp) joined(local crdt.Record, took *cas.Proposal) crdt.Record {
	in, f := took.Record, o.effect.part.decided.floors
	if lateRule(f) {
		var late []crdt.Dot
		for _, d := range crdt.Late(in, local, f.Raised) {
			if d != took.Dot {
				late = append(late, d)
			}
		}
		in = crdt.Without(in, late)
	}
	for i := range in.Versions {
		// Plain versions that its proposer had seen and this node had not.
		if d := in.Versions[i].Dot; !d.Actor.IsBallot() && d.Actor != o.r.minter && !o.effect.part.decided.clock.Contains(d) {
			o.effect.dots = append(o.effect.dots, d)
		}
	}
	return shown(crdt.Join(local, in), f)
}

// write stores what has changed.
func (o *serialOp) write(tx storage.Txn, was, is cas.State, stored, rec crdt.Record) error {
	changed := !rec.SameDots(stored)
	if changed || o.answer.Event != (crdt.Dot{}) {
		o.answer.Record = crdt.AppendRecord(nil, o.KeyHash, rec)
	}
	if err := o.r.checkRoom(o.Size() + len(o.answer.Record) + 64*len(o.effect.dots)); err != nil {
		return err
	}
	if m := &o.Message; m.Verb == cas.Accept && o.answer.Verdict == cas.OK && m.Proposal.NoOp() && !m.Proposal.ID.IsZero() && m.Noted.IsZero() {
		o.r.window.note(o.KeyHash, m.Proposal.ID, trace{ballot: Forbid})
	}
	if err := o.r.keepRequest(tx, o.KeyHash, was, is, rec, o.request, o.by); err != nil {
		return err
	}
	if !is.Same(was) {
		if err := o.r.putState(tx, o.KeyHash, o.Key, was, is); err != nil {
			return err
		}
	}
	if changed {
		o.effect.bucket = bucketOf(o.Key)
		o.effect.delta = o.r.digest(o.KeyHash, stored) ^ o.r.digest(o.KeyHash, rec)
		if err := o.store(tx, rec); err != nil {
			return err
		}
	}
	if !changed && len(o.effect.dots) == 0 {
		return nil
	}
	return o.r.settle(tx, &o.effect, o.Key)
}

func (o *serialOp) store(tx storage.Txn, rec crdt.Record) error {
	if len(rec.Versions) > 0 {
		return putRecord(tx, o.KeyHash, o.Key, o.answer.Record)
	}
	if err := tx.Delete(recordKey(nil, o.KeyHash, o.Key)); err != nil {
		return fmt.Errorf("delete a dead record: %w", err)
	}
	return nil
}

func (o *serialOp) Decided() {
	if o.SerialStep.Decided != nil {
		o.SerialStep.Decided(o.answer)
	}
}

func (o *serialOp) Done(err error) {
	if err != nil {
		o.SerialStep.Done(SerialAnswer{}, err)
		return
	}
	if len(o.effect.dots) > 0 || o.effect.delta != 0 {
		o.r.harden(&o.effect)
	}
	if o.cleared != 0 {
		o.r.serial.ended(o.Key, o.cleared)
	}
	if o.minted {
		o.r.outbox.add(o.effect.part.id, crdt.EventID{Dot: o.answer.Event, ID: o.request}, o.Key, o.answer.Record)
	}
	o.r.stats.Serial.Add(1)
	if o.answer.Verdict != cas.OK {
		o.r.stats.SerialRefused.Add(1)
	}
	o.SerialStep.Done(o.answer, nil)
}

// handleSerial serves a step that a peer's proposer asks for.
func (r *Replica) handleSerial(req peer.Request, reply peer.Done) {
	m, err := wire.DecodeSerial(req.Body)
	if err != nil {
		reply(nil, Refuse(err))
		return
	}
	hash := hashring.KeyHash(m.Key)
	r.Serial(SerialStep{
		Key: m.Key, KeyHash: hash, Epoch: req.Epoch, Home: m.Home, Message: m.Message,
		Expires: time.Now().Add(req.Timeout),
		Done: func(a SerialAnswer, err error) {
			if err != nil {
				reply(nil, Refuse(err))
				return
			}
			shows := a.Verdict != cas.OK || m.Message.Verb == cas.Prepare
			reply(wire.AppendSerialAnswer(nil, hash, &a.Answer, shows), nil)
		},
	})
}
