package coord

import (
	"slices"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/session"
)

// What is lost for good is in no region, now or later: who waits for it is told,
// as who reads in such a session is. The owners here know, since whoever finds a
// loss tells all owners of all regions; the others' word is not waited for.

// lostPart is what of a session's partition is lost.
type lostPart struct {
	part *session.Part
	lost *crdt.Clock
}

// lossPause is how long an Await that knows of one loss looks for more, so that
// one answer tells of all: every partition is looked at again.
const lossPause = 2 * maxCoverPause

// loses takes that some of a partition is lost.
func (f *farAwait) loses(part *session.Part, lost *crdt.Clock) {
	f.mu.Lock()
	if f.answered {
		f.mu.Unlock()
		return
	}
	p := &f.todo[0]
	p.open--
	f.lost = append(f.lost, lostPart{part, lost})
	if p.next == len(f.parts) && p.open == 0 {
		f.late = true
		f.settle(f.tally.Verdict())
		return
	}
	if len(f.lost) == 1 {
		f.timer.Reset(min(lossPause, max(time.Until(f.deadline), 1)))
	}
	f.mu.Unlock()
	f.step(0)
}

// sessionLost says what of all partitions is lost, with the token with which the
// session goes on without that. Called with the lock held.
func (f *farAwait) sessionLost() *Error {
	e, token := &Error{Code: CodeSessionLost}, f.token
	for _, l := range f.lost {
		// The same dot of another partition is another write.
		of := f.c.lostOf(l.lost)
		e.Missing += of.Missing
		e.MissingFrom = append(e.MissingFrom, of.MissingFrom...)
		token = f.c.without(token, l)
	}
	slices.Sort(e.MissingFrom)
	e.MissingFrom = slices.Compact(e.MissingFrom)
	e.Session = token
	f.c.stats.SessionLost.Add(1)
	e.sayLost()
	return e
}

// without is a token without what is lost of a partition; what it knows of others
// stays as it is, however long it is.
func (c *Coordinator) without(token []byte, l lostPart) []byte {
	pieces, err := session.Split(token)
	t, err2 := session.Open(*c.keys.Load(), token, l.part.Place)
	if err != nil || err2 != nil {
		return token // it was good when it came; a key that is gone makes it bad later
	}
	pieces = slices.DeleteFunc(pieces, func(p session.Piece) bool { return p.Place == l.part.Place })
	all := session.Part{Place: l.part.Place}
	if t.Part() != nil {
		all.Join(t.Part())
	}
	all.Join(&session.Part{Place: l.part.Place, Told: *l.lost.Clone()})
	if p, ok := all.Seal(*c.keys.Load()); ok {
		pieces = append(pieces, p)
	}
	return session.Compose(pieces)
}
