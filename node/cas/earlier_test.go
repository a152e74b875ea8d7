package cas

import (
	"testing"

	"github.com/atolldb/atoll/crdt"
)

// A retry finds the attempt that was decided also where an acceptor still holds it as
// undecided and what was accepted above it rests on it. (Found by the model: with
// plain writes in between the request was carried out twice.)
func TestEarlierAttemptIsFound(t *testing.T) {
	actor := crdt.BallotActor(1, 0)
	version := func(b Ballot, past crdt.VV) crdt.Version {
		return crdt.Version{Dot: crdt.Dot{Actor: actor, N: uint64(b)}, Value: []byte{1}, Past: past}
	}
	record := func(v ...crdt.Version) crdt.Record { return crdt.Record{Versions: v} }
	id, other := crdt.MakeRequestID(1, [10]byte{1}), crdt.MakeRequestID(1, [10]byte{2})

	before, mine := version(At(1), nil), version(At(2), nil)
	first := Proposal{Ballot: At(2), Dot: mine.Dot, ID: id, Record: record(mine)}
	above := version(At(3), crdt.VV{{Actor: actor, N: mine.Dot.N}})
	beside := version(At(3), nil)
	covers := version(At(4), crdt.VV{{Actor: actor, N: mine.Dot.N + 1}})
	for name, c := range map[string]struct {
		top  Proposal
		want Outcome
	}{
		"a no-op that shows it":      {Proposal{Ballot: At(3), Record: record(mine)}, Outcome{Result: Done, Version: mine.Dot}},
		"a write that follows it":    {Proposal{Ballot: At(3), Dot: above.Dot, ID: other, Record: record(above)}, Outcome{Result: Unknown}},
		"a write beside it":          {Proposal{Ballot: At(3), Dot: beside.Dot, ID: other, Record: record(mine, beside)}, Outcome{Result: Done, Version: mine.Dot}},
		"a write of what covers it":  {Proposal{Ballot: At(5), Dot: covers.Dot, ID: other, Record: record(covers)}, Outcome{Result: Unknown}},
		"a no-op that has passed it": {Proposal{Ballot: At(3), Record: record(before)}, Outcome{}},
	} {
		t.Run(name, func(t *testing.T) {
			p := NewProposer(actor, 9)
			s := p.Begin(&Op{ID: id, Retry: true, Write: func(_ crdt.Record, d crdt.Dot) (crdt.Version, crdt.VV) {
				return crdt.Version{Dot: d, Value: []byte{2}}, nil
			}}, Row{Slots: 3}, 10)
			p.Answer(s.Turn, 0, false, Answer{Verdict: OK, Promised: At(10), Committed: At(1), Accepted: first, Record: record(before)}, 10)
			s = p.Answer(s.Turn, 1, false, Answer{Verdict: OK, Promised: At(10), Committed: At(1), Accepted: c.top, Record: record(before)}, 10)
			switch {
			case c.want.Result == 0:
				if s.Outcome != nil || s.Send == nil || s.Send.Verb != Accept || s.Send.Proposal.ID != id {
					t.Errorf("%+v", s)
				}
			case s.Outcome == nil || s.Outcome.Result != c.want.Result || s.Outcome.Version != c.want.Version || (s.Outcome.Carried != nil) != (c.want.Result == Done):
				t.Errorf("%+v", s)
			}
		})
	}
}
