package cas

import (
	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
)

// Verb of a Message.
type Verb uint8

// The verbs. The numbers are wire format.
const (
	// Prepare asks for the promise of a ballot, and for what the acceptor has.
	Prepare Verb = 1
	// Accept asks to accept a proposal, and to promise the proposer's next
	// ballot.
	Accept Verb = 2
	// Commit tells that a ballot was decided.
	Commit Verb = 3
)

// Message is what a proposer sends to the acceptors of a key.
type Message struct {
	Verb Verb
	// Ballot of a Prepare. A Commit has none of its own; see Decided.
	Ballot Ballot
	// Proposal of an Accept. That of a Prepare has nothing but the ID of the request
	// of which the proposer asks whether it was carried out.
	Proposal Proposal
	// Noted is what this acceptor knows of the proposal's request. It does not
	// travel.
	Noted Carried
	// Next is the ballot that the acceptor of an Accept promises with it.
	Next Ballot
	// Unprepared: the proposer remembers the record that the proposal rests on
	// from its last decision, so the acceptor has to compare it with its own.
	Unprepared bool
	// Exactly is the record that the proposer's own acceptor must hold, if
	// Unprepared. It does not travel.
	Exactly *crdt.Record
	// Decided is a ballot that was decided, 0 for none: it is to be committed
	// before anything else, if it is what the acceptor accepted last. Events are
	// the dots of the write events that it is, by which it is delivered.
	Decided Ballot
	Events  []crdt.Dot
}

// Highest of the ballots that the message asks to promise or to accept.
func (m *Message) Highest() Ballot { return max(m.Ballot, m.Proposal.Ballot, m.Next) }

// Verdict of an acceptor.
type Verdict uint8

// The verdicts. The numbers are wire format.
const (
	// OK: promised, accepted or committed.
	OK Verdict = 1
	// Outbid: a higher ballot was promised; for good.
	Outbid Verdict = 2
	// Changed: the record is not what the proposal rests on; also for good,
	// because the acceptor promises to accept nothing of this ballot any more.
	Changed Verdict = 3
	// Missed: the acceptor does not hold the decided proposal, so it cannot
	// commit it: send it the record.
	Missed Verdict = 4
)

// Answer of an acceptor: its verdict, and what it holds. An OK to an Accept or a
// Commit shows nothing but the verdict.
type Answer struct {
	Verdict   Verdict
	Promised  Ballot
	Committed Ballot
	Accepted  Proposal
	Record    crdt.Record
	// Carried is the write that carried out the request of a Prepare, if the acceptor
	// knows of one. Unsure: it may have forgotten one.
	Carried Carried
	Unsure  bool
}

// Carried says which write carried out a request: its version, zero if that is not
// known any more, and its event, zero if that is not.
type Carried struct {
	Version, Event crdt.Dot
	Stamp          hlc.Stamp
	// Doubt: nobody here knows whether that version was decided.
	Doubt bool
	// Ended: a retry found that it cannot be carried out, or somebody asked what
	// became of it; so it never will be.
	Ended bool
}

// IsZero reports whether there is none.
func (c Carried) IsZero() bool { return c.Version.IsZero() && c.Event.IsZero() && !c.Ended }

// Prepare promises b if that is above what was promised, and above min, below
// which this acceptor may have forgotten promises.
func (s State) Prepare(b, min Ballot) (State, Verdict) {
	if b <= s.Promised || b <= s.Committed || b < min {
		return s, Outbid
	}
	s.Promised = b
	return s, OK
}

// Accept accepts m's proposal, where record is the key's at this acceptor. A
// proposal that it holds already is accepted again, but not below min: then it
// was taken over from others (Merge), against a promise that was forgotten.
func (s State) Accept(m *Message, record crdt.Record, min Ballot) (State, Verdict) {
	b := m.Proposal.Ballot
	switch {
	case b < min:
		return s, Outbid
	case b == s.Accepted.Ballot:
		return s, OK
	case b < s.Promised || b <= s.Committed:
		return s, Outbid
	}
	if m.repeats() || m.Unprepared && (!restsOn(m, record) || s.holdsAnother(&m.Proposal)) {
		s.Promised = b.after()
		return s, Changed
	}
	s.Promised = max(b, m.Next)
	s.Accepted = m.Proposal
	return s, OK
}

// repeats reports whether the proposal's request was carried out by another one, or
// may have been as far as its proposer has not asked.
func (m *Message) repeats() bool {
	n := &m.Noted
	if n.Ended { // what was proposed before that is finished all the same
		return m.Proposal.Dot.N == uint64(m.Proposal.Ballot)
	}
	return !n.IsZero() && n.Version != m.Proposal.Dot && (!n.Doubt || m.Unprepared)
}

// holdsAnother reports whether another attempt of the proposal's request is
// undecided here. Who has prepared has seen it, or it never will be decided.
func (s State) holdsAnother(p *Proposal) bool {
	return !p.ID.IsZero() && s.Accepted.ID == p.ID && s.Accepted.Dot != p.Dot
}

// restsOn reports whether the proposal covers all that this acceptor holds: then
// its proposer has seen it. At the proposer's own acceptor the record must be
// the very one, for what was collected meanwhile shows nowhere else.
func restsOn(m *Message, record crdt.Record) bool {
	if m.Exactly != nil && !m.Exactly.SameDots(record) {
		return false
	}
	for i := range record.Versions {
		if !m.Proposal.Record.Covers(record.Versions[i].Dot) {
			return false
		}
	}
	return true
}

// Commit ends the proposal of ballot b if it is the one that was accepted, and
// returns it to be joined into the record; Missed if this acceptor lacks it. A
// ballot that is committed already is OK and has nothing to be joined.
func (s State) Commit(b Ballot) (State, *Proposal, Verdict) {
	switch {
	case b <= s.Committed:
		return s, nil, OK
	case s.Accepted.Ballot != b:
		return s, nil, Missed
	}
	p := s.Accepted
	s.Committed = b
	return s.settled(), &p, OK
}

// Show is the answer of an acceptor with this state, minimum and record.
func (s State) Show(v Verdict, min Ballot, record crdt.Record) Answer {
	return Answer{Verdict: v, Promised: max(s.Promised, min), Committed: s.Committed, Accepted: s.Accepted, Record: record}
}
