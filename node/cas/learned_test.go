package cas

import (
	"testing"

	"github.com/atolldb/atoll/crdt"
)

// acceptors of a key, who hear what a test has them hear.
type acceptors []struct {
	state  State
	record crdt.Record
}

// ask has some acceptors hear what the proposer sends, and gives it their answers as far as
// it is to hear them; it returns the last step.
func (as acceptors) ask(p *Proposer, s Step, hear, answer []int) Step {
	m, turn, last := s.Send, s.Turn, Step{}
	answers := map[int]Answer{}
	for _, i := range hear {
		a, v := &as[i], OK
		switch m.Verb {
		case Prepare:
			a.state, v = a.state.Prepare(m.Ballot, 0)
		case Accept:
			a.state, v = a.state.Accept(m, a.record, 0)
		}
		answers[i] = a.state.Show(v, 0, a.record)
	}
	for _, i := range answer {
		if got := p.Answer(turn, i, false, answers[i], p.highest.Millis()); got.Send != nil || got.Outcome != nil || got.Chosen != nil {
			last = got
		}
	}
	return last
}

// commit has an acceptor hear that a ballot was decided.
func (as acceptors) commit(i int, b Ballot) {
	is, took, _ := as[i].state.Commit(b)
	as[i].state = is
	if took != nil {
		as[i].record = crdt.Join(as[i].record, took.Record)
	}
}

// learn has an acceptor get a record by another way.
func (as acceptors) learn(i int, r crdt.Record) {
	as[i].record = crdt.Join(as[i].record, r)
	as[i].state = as[i].state.Learned(as[i].record)
}

// A write is proposed, and finished by somebody else at a higher ballot than that which
// names it; between the two another one was proposed that did not see it. An
// acceptor that gets the decided record by another way than the decision must still
// know that what was accepted before that ballot is passed over. (It did not: a write that
// nobody had decided was finished beside the decided one.)
func TestRecordBeforeTheDecision(t *testing.T) {
	actor := crdt.BallotActor(1, 0)
	as := make(acceptors, 3)
	write := func(value byte) *Op {
		return &Op{Write: func(cur crdt.Record, d crdt.Dot) (crdt.Version, crdt.VV) {
			return crdt.Version{Dot: d, Value: []byte{value}}, cur.Context().Seen
		}}
	}
	row, all := Row{Slots: 3}, []int{0, 1, 2}

	first := NewProposer(actor, 1)
	s := as.ask(first, first.Begin(write(1), row, 10), all, []int{0, 1})
	one := s.Send.Proposal.Dot
	as.ask(first, s, []int{1}, nil)

	second := NewProposer(actor, 2)
	s = as.ask(second, second.Begin(write(2), row, 20), []int{0, 2}, []int{0, 2})
	two := s.Send.Proposal.Dot
	as.ask(second, s, []int{0}, nil)

	third := NewProposer(actor, 3)
	s = as.ask(third, third.Begin(&Op{}, row, 30), []int{1, 2}, []int{1, 2})
	if s.Send == nil || s.Send.Proposal.Dot != one {
		t.Fatalf("it was not found: %+v", s)
	}
	s = as.ask(third, s, []int{1, 2}, []int{1, 2})
	if s.Chosen == nil || s.Chosen.Dot != one {
		t.Fatalf("it was not finished: %+v", s)
	}
	as.commit(2, s.Chosen.Ballot)
	as.learn(1, as[2].record)
	if as[1].state.Pending() || as[1].state.Committed < s.Chosen.Ballot {
		t.Errorf("who has the record knows of %v, where %v was decided", as[1].state.Committed, s.Chosen.Ballot)
	}

	fourth := NewProposer(actor, 4)
	s = as.ask(fourth, fourth.Begin(&Op{}, row, 40), []int{0, 1}, []int{0, 1})
	if s.Send == nil || s.Send.Verb != Accept {
		t.Fatalf("%+v", s)
	}
	got := s.Send.Proposal
	if got.Record.Find(one) == nil || got.Record.Find(two) != nil {
		t.Errorf("after %v was decided, %v is to be: %+v", one, got.Dot, got.Record)
	}
}
