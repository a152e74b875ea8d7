package model

import (
	"fmt"
	"slices"
	"testing"

	"github.com/atolldb/atoll/crdt"
)

// story is a history told step by step. Messages stay under way until the
// story says what becomes of them.
type story struct {
	*world
	wrong []string // expectations that failed
}

// history tells a story under the rules, where every expectation and every
// invariant must hold, and then, if breaks is set, with that bug planted, where
// something must go wrong: so the story is one that needs the rule.
func history(t *testing.T, breaks Bugs, tell func(s *story)) {
	t.Helper()
	play := func(b Bugs) *story {
		m := New(Options{Bugs: b, Trace: true})
		m.pcg.Seed(1, 1)
		m.w.reset(&m.opt)
		m.w.profile = profile{keys: Keys, unsticky: 0}
		s := &story{world: &m.w}
		tell(s)
		if s.violation == nil {
			s.end()
		}
		if s.violation != nil {
			s.wrong = append(s.wrong, s.violation.String())
		}
		return s
	}
	if s := play(Bugs{}); len(s.wrong) > 0 {
		for _, line := range s.trace {
			t.Log(line)
		}
		t.Errorf("went wrong: %q", s.wrong)
	}
	if breaks != (Bugs{}) {
		s := play(breaks)
		if len(s.wrong) == 0 {
			t.Errorf("nothing goes wrong with %+v planted", breaks)
		}
		t.Logf("with the rule broken: %q", s.wrong)
	}
}

func (s *story) expect(ok bool, format string, args ...any) {
	if !ok {
		s.wrong = append(s.wrong, fmt.Sprintf(format, args...))
	}
}

// blind is what a writer knows who has read nothing.
func blind() knowledge { return knowledge{} }

// at is what a reader of owner r's record knows.
func (s *story) at(r int) knowledge {
	k := s.know(s.owners[r].disk.records[0])
	if s.opt.Bugs.NoStampInContext {
		k.ctx.Stamp = 0
	}
	return k
}

// put and del write key 0 at owner r and return the event.
func (s *story) put(r int, base knowledge) int { return s.write(r, write{base: base}) }
func (s *story) del(r int, base knowledge) int { return s.write(r, write{base: base, dead: true}) }

func (s *story) write(r int, q write) int {
	s.now += 10
	s.mint(r/(Owners/2), &s.owners[r], q)
	return len(s.events) - 1
}

// take removes the messages of event e to owner r from those under way.
func (s *story) take(e, r int) (out []message) {
	s.mail = slices.DeleteFunc(s.mail, func(m message) bool {
		mine := m.named == bit(e) && int(m.to) == r
		if mine {
			out = append(out, m)
		}
		return mine
	})
	return out
}

// reach delivers event e to owners; sleep keeps a copy for very much later;
// lose loses what is under way of e.
func (s *story) reach(e int, owners ...int) {
	for _, r := range owners {
		for _, m := range s.take(e, r) {
			s.deliver(m)
		}
	}
}

func (s *story) everywhere(e int) { s.reach(e, 0, 1, 2, 3, 4, 5) }

func (s *story) sleep(e, r int) {
	for _, m := range s.mail {
		if m.named == bit(e) && int(m.to) == r {
			s.slept = append(s.slept, m)
		}
	}
}

func (s *story) lose(e int) {
	for r := range Owners {
		s.take(e, r)
	}
}

func (s *story) wakeAll() {
	for len(s.slept) > 0 {
		s.wake(0)
	}
}

// live are the events that a read at owner r shows.
func (s *story) live(r int) (out []int) {
	v := crdt.Read(s.owners[r].disk.records[0], crdt.MV, s.now)
	for i := range v.Live {
		out = append(out, eventOf(&v.Live[i]))
	}
	slices.Sort(out)
	return out
}

func (s *story) shows(r int, events ...int) {
	got := s.live(r)
	s.expect(slices.Equal(got, events), "r%d shows %v, not %v", r, got, events)
	s.checkRead(s.owners[r].disk.records[0])
}

func (s *story) allShow(events ...int) {
	for r := range Owners {
		s.shows(r, events...)
	}
}

// collect runs a collection round and reports whether it was completed.
func (s *story) collect() bool {
	s.now += 1000
	return s.runRound()
}

// rot makes owner r silently lose its record.
func (s *story) rot(r int) { s.brokenDisk(r, crdt.Record{}) }

// brokenDisk makes owner r silently have rec.
func (s *story) brokenDisk(r int, rec crdt.Record) {
	o := &s.owners[r]
	o.disk.records[0] = rec
	o.disk.log = append(o.disk.log, batch{rec: rec})
	o.rotten[0] = true
	s.stats.SilentFaults++
}

// beginRound brings a round to where floors are raised.
func (s *story) beginRound() {
	s.now += 1000
	for s.round.phase != raising {
		before := s.stats.RoundsOff
		s.stepRound()
		if s.stats.RoundsOff > before {
			s.expect(false, "the round is off")
			return
		}
	}
}

// raise lets these owners raise their floor.
func (s *story) raise(owners ...int) {
	for _, r := range owners {
		s.askRound(&s.owners[r])
		s.round.done |= 1 << r
	}
}
