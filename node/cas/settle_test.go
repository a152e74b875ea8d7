package cas

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/atolldb/atoll/crdt"
)

// Proposers get so far as chance has it: their messages reach some acceptors, and
// others later or never. Then one settles the key, until no acceptor holds anything
// undecided. What was accepted by a majority is there, and of all that is still on its
// way nothing is accepted any more: so nothing is decided later.
func TestSettle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const slots = 3
		row := Row{Slots: slots}
		type sent struct {
			to int
			m  Message
		}
		var states [slots]State
		var records [slots]crdt.Record
		var late []sent
		now := int64(1000)
		take := func(to int, m *Message) Answer {
			if m.Decided != 0 {
				is, took, _ := states[to].Commit(m.Decided)
				if states[to] = is; took != nil {
					records[to] = crdt.Join(records[to], took.Record)
				}
			}
			v := OK
			switch m.Verb {
			case Prepare:
				states[to], v = states[to].Prepare(m.Ballot, 0)
			case Accept:
				states[to], v = states[to].Accept(m, records[to], 0)
			}
			return states[to].Show(v, 0, records[to])
		}
		run := func(p *Proposer, s Step, reach func(what string, to int) (arrives, later bool)) *Outcome {
			for {
				if c := s.Chosen; c != nil {
					for to := range slots {
						if arrives, _ := reach("commit", to); arrives {
							take(to, &Message{Verb: Commit, Decided: c.Ballot})
						}
					}
				}
				switch {
				case s.Outcome != nil:
					return s.Outcome
				case s.Again:
					now++
					s = p.Retry(row, now)
					continue
				case s.Send == nil:
					return p.Expire().Outcome
				}
				m, turn := *s.Send, s.Turn
				s = Step{}
				for to := range slots {
					var next Step
					switch arrives, later := reach(fmt.Sprint("message ", m.Verb), to); {
					case arrives:
						next = p.Answer(turn, to, false, take(to, &m), now)
					case later:
						late = append(late, sent{to, m})
						next = p.Fail(turn, to, false, false, now)
					default:
						next = p.Fail(turn, to, false, true, now)
					}
					if next.Send != nil || next.Chosen != nil || next.Again || next.Outcome != nil {
						s = next
					}
				}
			}
		}
		proposals := map[Ballot]Proposal{}
		for i := range rapid.IntRange(1, 5).Draw(t, "operations") {
			p := NewProposer(crdt.BallotActor(1, 1), uint16(i+1))
			now += 2
			run(p, p.Begin(&Op{Write: func(cur crdt.Record, dot crdt.Dot) (crdt.Version, crdt.VV) {
				return crdt.Version{Dot: dot, Value: []byte{byte(i)}}, cur.Context().Seen
			}}, row, now), func(what string, to int) (bool, bool) {
				switch rapid.IntRange(0, 4).Draw(t, what) {
				case 0:
					return false, true
				case 1:
					return false, false
				}
				return true, false
			})
			for to := range states {
				if a := states[to].Accepted; a.Ballot != 0 {
					proposals[a.Ballot] = a
				}
			}
		}
		accepted := map[Ballot]int{}
		for to := range states {
			accepted[states[to].Accepted.Ballot]++
		}
		p := NewProposer(crdt.BallotActor(1, 0), 99)
		now += 10
		out := run(p, p.Begin(&Op{Settle: true}, row, now), func(string, int) (bool, bool) { return true, false })
		if out == nil || out.Result != Done {
			t.Fatalf("not settled: %+v", out)
		}
		for b, n := range accepted {
			if what := proposals[b]; n > slots/2 && b != 0 && !what.NoOp() && !out.Record.Covers(what.Dot) {
				t.Fatalf("%v was decided, and is not there: %+v", what.Dot, out.Record)
			}
		}
		for _, l := range late {
			take(l.to, &l.m)
		}
		for to := range states {
			if states[to].Pending() {
				t.Fatalf("acceptor %d holds %+v", to, states[to].Accepted)
			}
		}
	})
}
