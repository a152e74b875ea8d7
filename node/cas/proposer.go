package cas

import (
	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/node/quorum"
)

// Op is one operation of a client on the key. Its functions are pure.
type Op struct {
	// Actor names the version that it writes; zero for the Proposer's own. It is
	// of the same region.
	Actor crdt.Actor
	// ID of the request that it carries out, zero for none. Retry: an earlier
	// attempt may have been decided, or may yet be; see S7.
	ID    crdt.RequestID
	Retry bool
	// Holds judges the condition by the record; nil for none.
	Holds func(cur crdt.Record) bool
	// Write makes the version with that dot and says what its past is; nil for
	// a read. It is called again for each proposal of the operation.
	Write func(cur crdt.Record, dot crdt.Dot) (crdt.Version, crdt.VV)
	// Settle, of a read: it is answered only behind a decided no-op, so that what any
	// acceptor holds is finished or passed over, also where nobody was asked.
	Settle bool
}

// Row is how the slots of the key's partition vote.
type Row struct {
	Slots int
	// Moving has one bit for each slot in transition, which needs both its
	// nodes.
	Moving uint64
}

func (r Row) tally() quorum.Slots { return quorum.NewSlots(r.Slots/2+1, r.Slots, r.Moving) }

// Result says how an operation ended.
type Result uint8

// The results.
const (
	// Done: a write was decided and is its Outcome's Proposal, or a read is
	// answered by Record.
	Done Result = 1
	// Failed: the condition does not hold for Record, and nothing was or will
	// be written.
	Failed Result = 2
	// Refused: too few acceptors took part, or too many others proposed;
	// nothing was or will be written.
	Refused Result = 3
	// Unknown: nobody can tell now whether the write was, or will be, decided.
	Unknown Result = 4
)

// Outcome of an operation.
type Outcome struct {
	Result Result
	Record crdt.Record
	// Version is the dot of a write that is Done.
	Version crdt.Dot
	// Carried, of a write that is Done, says that an earlier attempt did it: then
	// Version is that one's, zero if it is not known any more.
	Carried *Carried
	// Contended: others outbid the operation to the end.
	Contended bool
}

// Step is what is to be done next.
type Step struct {
	// Send goes to all acceptors, the proposer's own first: only when that has
	// decided to accept is it sent to the others. Nil for nothing. The answers
	// carry Turn back.
	Send *Message
	Turn uint64
	// Chosen was decided just now: commit it here, and tell the others with a
	// later message or by itself. The commit comes before the next message
	// here.
	Chosen *Proposal
	// Again: call Retry after a pause.
	Again bool
	// Outcome, once: the operation has ended.
	Outcome *Outcome
}

// maxAttempts is how often an operation begins anew before it gives up.
const maxAttempts = 12

type phase uint8

const (
	idle phase = iota
	preparing
	accepting
	waiting // for Retry
)

// intent is what an Accept is for.
type intent uint8

const (
	toWrite  intent = iota
	toFinish        // what somebody else, or an earlier attempt, proposed
	toFail          // a no-op before FAILED
	toRead          // a no-op before a read's answer
)

// Proposer runs the operations of one key at one node, one at a time, and
// remembers the promise that came with the last decision. It is not safe for
// concurrent use.
type Proposer struct {
	actor  crdt.Actor
	id     uint16
	faults Faults

	// highest ballot that it has used or heard of.
	highest Ballot
	// promised is a ballot that a majority promised with what was decided last,
	// 0 for none; base is the record then.
	promised Ballot
	base     crdt.Record

	turn     uint64
	op       *Op
	row      Row
	phase    phase
	attempts int
	tally    quorum.Slots
	finals   quorum.Slots // of refusals for good
	answers  []Answer
	// again: another attempt may do better; outbid: others were in the way.
	again, outbid bool
	ballot        Ballot
	proposal      Proposal
	intent        intent
	// rests is the record that the proposal of this turn rests on.
	rests crdt.Record
	// mine are the dots that this operation has proposed, less those that
	// nobody has accepted: somebody else may find and finish them. kept is the
	// record that its lost proposals rested on, and resolved the highest ballot
	// of those: at or below it nothing counts any more but what kept holds.
	mine     []crdt.Dot
	kept     crdt.Record
	resolved Ballot
}

// NewProposer returns one that names versions by that ballot actor where an Op
// names no other, and its ballots by id, which no other proposer of the region has at the same time.
func NewProposer(actor crdt.Actor, id uint16) *Proposer {
	return &Proposer{actor: actor, id: id}
}

// Faults are rules left out on purpose, so that checkers can be checked.
type Faults uint8

// The faults.
const (
	// NoLastCommit takes up what a decision has passed over.
	NoLastCommit Faults = 1 << iota
	// NoFence answers although something is undecided.
	NoFence
	// NoMemory believes who may have forgotten that a request was carried out.
	NoMemory
)

// Break leaves rules out. Nothing but tests calls it.
func (p *Proposer) Break(f Faults) { p.faults = f }

// Busy reports whether an operation is under way.
func (p *Proposer) Busy() bool { return p.op != nil }

// Forget gives up what is remembered of earlier operations: for a proposer that
// was idle for longer than the record may be trusted to be remembered, or whose
// row has changed.
func (p *Proposer) Forget() { p.promised, p.base = 0, crdt.Record{} }

// Begin starts an operation; there must be none under way.
func (p *Proposer) Begin(op *Op, row Row, nowMs int64) Step {
	p.op, p.row = op, row
	p.attempts, p.mine, p.kept, p.resolved = 1, nil, crdt.Record{}, 0
	if b := p.promised; b != 0 && !op.Retry {
		return p.judge(p.base, b, true, false, nowMs)
	}
	return p.prepare(nowMs)
}

// Retry goes on after a Step that said Again, perhaps by another row.
func (p *Proposer) Retry(row Row, nowMs int64) Step {
	if p.phase != waiting {
		return Step{}
	}
	p.row = row
	return p.prepare(nowMs)
}

func (p *Proposer) prepare(nowMs int64) Step {
	p.Forget()
	p.ballot = p.next(nowMs)
	p.open(preparing)
	return Step{Send: &Message{Verb: Prepare, Ballot: p.ballot, Proposal: Proposal{ID: p.op.ID}}, Turn: p.turn}
}

func (p *Proposer) next(nowMs int64) Ballot {
	p.highest = p.highest.Next(nowMs, p.id)
	return p.highest
}

func (p *Proposer) open(ph phase) {
	p.turn++
	p.phase, p.tally, p.finals = ph, p.row.tally(), p.row.tally()
	p.answers, p.outbid = p.answers[:0], false
	p.again = false
}

// Answer takes what a node of a slot said to the message of that turn; second
// says that it is the slot's second node.
func (p *Proposer) Answer(turn uint64, slot int, second bool, a Answer, nowMs int64) Step {
	if turn != p.turn || p.phase != preparing && p.phase != accepting {
		return Step{}
	}
	p.sees(&a, nowMs)
	if a.Verdict != OK {
		p.again, p.outbid = true, true
		// A moving slot cannot accept once one of its nodes will not.
		p.finals.Ack(slot, false)
		p.finals.Ack(slot, true)
		return p.after(p.tally.Fail(slot, second), nowMs)
	}
	if p.phase == preparing {
		if p.doubts(&a) {
			// A majority has to know; another one may.
			p.again = true
			return p.after(p.tally.Fail(slot, second), nowMs)
		}
		p.answers = append(p.answers, a)
	}
	return p.after(p.tally.Ack(slot, second), nowMs)
}

// sees goes above what an acceptor has promised, but where no acceptor would follow:
// one that has promised what is far in the future, when its clock was wrong, takes
// no part until then, and the others decide.
func (p *Proposer) sees(a *Answer, nowMs int64) {
	for _, b := range []Ballot{a.Promised, a.Committed} {
		if !b.TooFar(nowMs) {
			p.highest = max(p.highest, b)
		}
	}
}

// Fail says that a node of a slot will not answer the message of that turn;
// refused, that it cannot have done, and will never do, what the message asks.
func (p *Proposer) Fail(turn uint64, slot int, second, refused bool, nowMs int64) Step {
	if turn != p.turn || p.phase != preparing && p.phase != accepting {
		return Step{}
	}
	p.again = true
	if refused {
		p.finals.Ack(slot, false)
		p.finals.Ack(slot, true)
	}
	return p.after(p.tally.Fail(slot, second), nowMs)
}

// Unsent says that the Accept of that turn went to nobody, since the proposer's own
// acceptor has refused it, with a, or nil for another reason.
func (p *Proposer) Unsent(turn uint64, a *Answer, nowMs int64) Step {
	if turn != p.turn || p.phase != accepting {
		return Step{}
	}
	p.again = true
	if a != nil {
		p.sees(a, nowMs)
		p.outbid = true
	}
	for i := range p.row.Slots {
		p.finals.Ack(i, false)
		p.finals.Ack(i, true)
	}
	return p.lost()
}

func (p *Proposer) after(v quorum.Verdict, nowMs int64) Step {
	switch {
	case v == quorum.Pending:
		return Step{}
	case v == quorum.Met && p.phase == preparing:
		return p.promisedAll(nowMs)
	case v == quorum.Met:
		return p.chosen(nowMs)
	}
	return p.lost()
}

// lost ends an attempt that a majority will not take.
func (p *Proposer) lost() Step {
	if p.phase == accepting && p.intent != toFinish && p.never() {
		// All below it is decided or passed over, but what it rested on may have
		// been overwritten by it where it was accepted.
		p.kept, p.resolved = crdt.Join(p.kept, p.rests), p.proposal.Ballot
		if p.intent == toWrite && p.row.Moving == 0 && p.finals.Yes() == p.row.Slots {
			p.mine = p.mine[:len(p.mine)-1] // nobody has it
		}
	}
	if p.again && p.attempts < maxAttempts {
		p.attempts++
		p.phase = waiting
		return Step{Again: true}
	}
	return p.end(Outcome{Result: p.unfinished(), Contended: p.outbid})
}

// never reports whether so many slots have refused for good that the proposal
// of this turn will never be decided.
func (p *Proposer) never() bool { return p.finals.Yes() > p.row.Slots-p.tally.Need() }

// Expire ends the operation because nobody waits any longer.
func (p *Proposer) Expire() Step {
	if p.op == nil {
		return Step{}
	}
	p.Forget()
	return p.end(Outcome{Result: p.unfinished()})
}

func (p *Proposer) unfinished() Result {
	if len(p.mine) > 0 {
		return Unknown
	}
	return Refused
}

func (p *Proposer) end(o Outcome) Step {
	p.turn++
	p.again = false
	p.op, p.phase, p.mine, p.kept = nil, idle, nil, crdt.Record{}
	p.proposal, p.rests = Proposal{}, crdt.Record{}
	return Step{Outcome: &o}
}

// promisedAll goes on from the answers of a majority that promised the ballot.
func (p *Proposer) promisedAll(nowMs int64) Step {
	cur, top := p.kept, Proposal{}
	var carried *Carried
	committed, agreed := Ballot(0), true
	for i := range p.answers {
		a := &p.answers[i]
		cur = crdt.Join(cur, a.Record)
		committed = max(committed, a.Committed)
		agreed = agreed && a.Accepted.Ballot == 0 && a.Record.SameDots(p.answers[0].Record)
		if a.Accepted.Ballot > top.Ballot {
			top = a.Accepted
		}
		if !a.Carried.IsZero() && !a.Carried.Doubt && !a.Carried.Ended && (carried == nil || carried.Version.IsZero()) {
			carried = &a.Carried
		}
	}
	if carried != nil {
		return p.replay(cur, *carried)
	}
	// What an earlier attempt has proposed may be where nobody was asked.
	agreed = agreed && len(p.kept.Versions) == 0 && len(p.mine) == 0 && (!p.op.Retry || p.faults&NoFence != 0)
	committed = max(committed, p.resolved, Ballot(cur.MaxBallot(p.actor.Region())))
	if committed >= p.ballot { // by a proposer of which no acceptor here knew
		p.highest = max(p.highest, committed)
		p.again, p.outbid = true, true
		return p.lost()
	}
	if p.faults&NoLastCommit != 0 && top.Ballot != 0 {
		committed = top.Ballot - 1
	}
	if d, fate := p.earlier(cur, top, committed); fate == Decided {
		return p.replay(cur, Carried{Version: d})
	} else if fate == Doubtful {
		return p.end(Outcome{Result: Unknown, Record: cur})
	}
	switch {
	case !top.NoOp() && p.isOwn(top.ID) && fateOf(cur, top.Dot) == Decided:
		return p.replay(cur, Carried{Version: top.Dot})
	case !top.NoOp() && p.isOwn(top.ID) && fateOf(cur, top.Dot) == Doubtful:
		return p.end(Outcome{Result: Unknown, Record: cur})
	case top.Ballot <= committed, !top.NoOp() && cur.Covers(top.Dot):
	case top.NoOp():
		// It may have been decided, and then what it carries may be here alone.
		cur = crdt.Join(cur, top.Record)
	default:
		finish := Proposal{Ballot: p.ballot, Dot: top.Dot, ID: top.ID, Record: crdt.Join(cur, top.Record)}
		return p.propose(finish, crdt.Record{}, toFinish, false, nowMs)
	}
	return p.judge(cur, p.ballot, false, agreed, nowMs)
}

// earlier looks for another attempt of the operation's request among what was
// accepted below top, and tells its fate. What top rests on was decided, also where
// the acceptors that answered have not heard of that.
func (p *Proposer) earlier(cur crdt.Record, top Proposal, committed Ballot) (crdt.Dot, Fate) {
	if top.Ballot > committed {
		cur = crdt.Join(cur, top.Record)
	}
	for i := range p.answers {
		a := &p.answers[i].Accepted
		if a.NoOp() || a.Dot == top.Dot || !p.isOwn(a.ID) {
			continue
		}
		if f := fateOf(cur, a.Dot); f != Open {
			return a.Dot, f
		}
	}
	return crdt.Dot{}, Open
}

// doubts reports whether an acceptor cannot tell if another attempt of the
// operation's request was decided.
func (p *Proposer) doubts(a *Answer) bool {
	if c := &a.Carried; !c.IsZero() {
		return c.Ended || c.Doubt && !contains(p.mine, c.Version)
	}
	return p.op.Retry && a.Unsure && p.faults&NoMemory == 0
}

// isOwn reports whether id is that of the operation's request.
func (p *Proposer) isOwn(id crdt.RequestID) bool { return !id.IsZero() && id == p.op.ID }

// replay ends a write that an earlier attempt has done.
func (p *Proposer) replay(cur crdt.Record, by Carried) Step {
	p.Forget()
	return p.end(Outcome{Result: Done, Record: cur, Version: by.Version, Carried: &by})
}

// judge goes on with the operation itself, unless an earlier proposal of it was
// decided after all, by the record and with a ballot that
// a majority has promised. agreed says that nothing is undecided and that the
// majority's records are the same.
func (p *Proposer) judge(cur crdt.Record, b Ballot, unprepared, agreed bool, nowMs int64) Step {
	for _, d := range p.mine {
		switch {
		case cur.Find(d) != nil:
			return p.end(Outcome{Result: Done, Record: cur, Version: d})
		case cur.Covers(d):
			return p.end(Outcome{Result: Unknown, Record: cur})
		}
	}
	holds := p.op.Holds == nil || p.op.Holds(cur)
	if p.op.Write != nil && holds {
		dot := crdt.Dot{Actor: p.actor, N: uint64(b)}
		if p.op.Actor != 0 {
			dot.Actor = p.op.Actor
		}
		v, past := p.op.Write(cur, dot)
		v.Dot = dot
		return p.propose(Proposal{Ballot: b, Dot: dot, ID: p.op.ID, Record: crdt.Write(cur, past, v)}, cur, toWrite, unprepared, nowMs)
	}
	if unprepared && p.op.Write != nil && !p.op.ID.IsZero() {
		// Perhaps it does not hold since the request was carried out before.
		return p.prepare(nowMs)
	}
	if agreed && !p.op.Settle || p.faults&NoFence != 0 {
		p.promised, p.base = b, cur // for the next operation
		return p.answer(cur)
	}
	why := toRead
	if p.op.Write != nil {
		why = toFail
	}
	fence := Proposal{Ballot: b, Record: cur}
	if p.op.Retry && why == toFail {
		fence.ID = p.op.ID // of the earlier attempts one may still be on its way
	}
	return p.propose(fence, cur, why, unprepared, nowMs)
}

// answer ends a read, or a write whose condition does not hold.
func (p *Proposer) answer(cur crdt.Record) Step {
	r := Done
	if p.op.Write != nil {
		r = Failed
	}
	return p.end(Outcome{Result: r, Record: cur})
}

// propose asks to accept what rests on that record. What was promised is used
// up, whatever comes of it.
func (p *Proposer) propose(what Proposal, rests crdt.Record, why intent, unprepared bool, nowMs int64) Step {
	m := &Message{Verb: Accept, Proposal: what, Unprepared: unprepared}
	if unprepared {
		m.Exactly = &rests
	}
	p.Forget()
	p.highest = max(p.highest, what.Ballot)
	m.Next = p.next(nowMs)
	if why == toWrite {
		p.mine = append(p.mine, what.Dot)
	}
	p.proposal, p.rests, p.intent, p.ballot = what, rests, why, m.Next
	p.open(accepting)
	return Step{Send: m, Turn: p.turn}
}

// chosen goes on after a majority has accepted, and so promised the next
// ballot.
func (p *Proposer) chosen(nowMs int64) Step {
	what := p.proposal
	p.promised, p.base = p.ballot, what.Record
	var s Step
	switch {
	case p.intent == toRead, p.intent == toFail:
		s = p.answer(what.Record)
	case p.intent == toFinish && !contains(p.mine, what.Dot) && p.isOwn(what.ID):
		s = p.end(Outcome{Result: Done, Record: what.Record, Version: what.Dot, Carried: &Carried{Version: what.Dot}})
	case p.intent == toWrite, contains(p.mine, what.Dot):
		s = p.end(Outcome{Result: Done, Record: what.Record, Version: what.Dot})
	default:
		// Somebody else's is finished; now for the operation itself.
		p.kept, p.resolved = crdt.Join(p.kept, what.Record), what.Ballot
		s = p.judge(p.base, p.promised, true, false, nowMs)
	}
	s.Chosen = &what
	return s
}

func contains(dots []crdt.Dot, d crdt.Dot) bool {
	for _, x := range dots {
		if x == d {
			return true
		}
	}
	return false
}
