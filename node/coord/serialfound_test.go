package coord_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/crdt/session"
	"github.com/atolldb/atoll/node/cas"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/peer/memnet"
	"github.com/atolldb/atoll/node/quorum"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/wire"
)

// delays is how long the others take to answer an owner.
func (r *region) delays(owner *member, others []*member, delay time.Duration) {
	for _, o := range others {
		r.fabric.SetLink(o.id, owner.id, memnet.Faults{MinDelay: delay, MaxDelay: delay})
	}
}

// unfenced has no other node hear of this one's no-ops: that they are not sent is known
// after a while.
func (w *tap) unfenced(after time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answer = func(_ topology.NodeID, req peer.Request) (time.Duration, []byte, error, bool) {
		if req.Verb != peer.VerbSerial {
			return 0, nil, nil, false
		}
		m, err := wire.DecodeSerial(req.Body)
		noOp := err == nil && m.Message.Verb == cas.Accept && m.Message.Proposal.NoOp()
		return after, nil, peer.ErrNotSent, noOp
	}
}

// Who tries a write again may be told that it was done before any owner has stored it:
// that it was decided shows in a later no-op, which rests on it and is not decided
// itself. It is there all the same: a majority has accepted it, durably. Reads at a quorum
// show it, and those of the session, also when the node is gone that knew of the no-op;
// and then it is stored, with an event.
func TestFoundDecided(t *testing.T) {
	for _, gone := range []bool{false, true} {
		t.Run(fmt.Sprint("gone ", gone), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := grown(t, 3)
				const k = "k"
				owners := r.owners("default", k)
				first, second, third := owners[0], owners[1], owners[2]
				events := func(m *member) int { return len(m.replica.Clock(r.partition("default", k)).Actors()) }
				r.delays(first, owners[1:], 100*time.Millisecond)
				p := attempted(serialPut(k, "1", ifAbsent), newID(), false)
				put := first.startPut(t, p)
				time.Sleep(150 * time.Millisecond) // accepted, and its proposer does not know yet
				// Somebody finds it at its proposer and begins to finish it. So when
				// the proposer learns that it is decided, it cannot commit it.
				ballot := cas.At(time.Now().Add(10*time.Millisecond).UnixMilli()) | 5
				found := first.step(t, "default", k, cas.Message{Verb: cas.Prepare, Ballot: ballot}).Accepted
				found.Ballot = ballot
				first.step(t, "default", k, cas.Message{Verb: cas.Accept, Proposal: found})
				if _, err := put.wait(); err == nil || err.Outcome != coord.Unknown {
					t.Fatalf("the write: %v", err)
				}
				// But it knows. A read's no-op rests on it, and comes no further.
				first.wire.unfenced(700 * time.Millisecond)
				read := first.startGet(t, serialGet(k))
				time.Sleep(400 * time.Millisecond)

				// The retry is the second owner's to decide, which hears the first one,
				// and the third one late.
				r.delays(first, owners[1:], time.Millisecond)
				r.delays(second, []*member{third}, time.Second)
				second.wire.answers(peer.VerbForward, first.id, time.Millisecond, peer.ErrNotSent)
				p.Retry, p.Session, p.Deadline = true, session.Begin(), time.Now().Add(patience)
				res := second.mustPut(t, p)
				if !res.Replayed || res.Version != found.Dot || !res.Event.IsZero() {
					t.Errorf("the retry of %v: %+v", found.Dot, res)
				}
				for _, o := range owners {
					if rec := o.held(t, "default", k); len(rec.Versions) > 0 || events(o) > 0 {
						t.Errorf("%s has stored it: the test shows nothing", o.id)
					}
				}

				if gone {
					r.kill(first.id)
				}
				first.wire.clear()
				second.wire.clear()
				r.delays(second, []*member{third}, time.Millisecond)
				for _, o := range owners[1:] {
					for _, g := range []coord.Get{{Level: quorum.LocalQuorum}, {Level: quorum.LocalOne, Session: res.Session}} {
						g.Key = []byte(k)
						if got := live(o.mustGet(t, g).View); fmt.Sprint(got) != "[1]" {
							t.Errorf("%s reads %q at %v", o.id, got, g.Level)
						}
					}
				}
				if _, err := read.wait(); err != nil && !gone {
					t.Errorf("the read: %v", err)
				}
				r.settle()
				for _, o := range owners {
					if rec := o.held(t, "default", k); (rec.Find(found.Dot) == nil || events(o) == 0) && !(gone && o == first) {
						t.Errorf("%s holds %d versions and %d actors' events at the end", o.id, len(rec.Versions), events(o))
					}
				}
				if again := third.mustPut(t, attempted(serialPut(k, "1", ifAbsent), p.RequestID, true)); !again.Replayed || again.Version != res.Version {
					t.Errorf("and once more: %+v", again)
				}
			})
		})
	}
}
