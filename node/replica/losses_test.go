package replica_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/session"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/replica"
	"github.com/atolldb/atoll/node/wire"
)

// Losses are durable with the clock that has what is void, survive a restart, and
// make the state differ for those who know of none.
func TestLossesAreDurable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := owner(t)
		a := crdt.MakeActor(50, 2)
		part := hashring.Partition(2)
		same := p.Sum(part).Under(wire.Floors{}, replica.LossSum(nil))
		if n := len(p.Differing(wire.Compare{Sums: []wire.Sum{same}})); n != 0 {
			t.Fatal("the test begins wrongly")
		}
		void, needs, losses := &crdt.Clock{}, &crdt.Clock{}, &session.Losses{}
		void.AddSpan(crdt.Dots{Actor: a, Span: crdt.Span{Lo: 1, Hi: 5}})
		losses.Void.Add(crdt.Dot{Actor: a, N: 3})
		losses.Ends = []crdt.Dot{{Actor: a, N: 5}}
		for _, n := range []uint64{2, 3, 7} {
			needs.Add(crdt.Dot{Actor: a, N: n})
		}
		// Who waits is woken.
		woken := time.Time{}
		p.Await(part, needs, 0, time.Now().Add(time.Minute), func(missing *crdt.Clock, err error) {
			if woken = time.Now(); missing != nil || err != nil {
				t.Errorf("%v, %v", missing, err)
			}
		})
		if err := p.Void(part, void, losses); err != nil {
			t.Fatal(err)
		}
		p.settle()
		if woken.IsZero() || p.Waiting() != 0 {
			t.Error("who waits for what is lost goes on waiting")
		}
		for range 2 {
			missing, lost := p.Look(part, needs)
			if missing != nil || lost == nil || lost.Contains(crdt.Dot{Actor: a, N: 2}) || !lost.Contains(crdt.Dot{Actor: a, N: 3}) || !lost.Contains(crdt.Dot{Actor: a, N: 7}) {
				t.Errorf("missing %v, lost %v", missing, lost)
			}
			if !p.Clock(part).Covers(void) || !p.Losses(part).Equal(losses) {
				t.Error("it is not kept")
			}
			if d := p.Differing(wire.Compare{Sums: []wire.Sum{p.Sum(part).Under(wire.Floors{}, 0)}}); len(d) != 1 || !d[0].Losses.Equal(losses) {
				t.Errorf("who knows of no loss sees %+v", d)
			}
			p.crash(false)
			p.start()
		}
		if err := p.MeetLosses(9, losses); err == nil {
			t.Error("losses of a partition that is not held")
		}
	})
}

// A region's cut says what of it is left here, and opening it takes that back,
// whichever comes last.
func TestCutRegion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := owner(t)
		far, near := crdt.MakeActor(50, 2), crdt.MakeActor(51, 3)
		full := []byte("default\x00k")
		part := p.Partition(hashring.KeyHash(full))
		rec := crdt.Record{Versions: []crdt.Version{{Dot: crdt.Dot{Actor: far, N: 1}, Stamp: 1, Value: []byte("v")}}}
		done := make(chan error, 1)
		p.Apply([]wire.Entry{{Key: full, Record: crdt.AppendRecord(nil, hashring.KeyHash(full), rec)}}, func(_ int, err error) { done <- err })
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		needs := &crdt.Clock{}
		for _, d := range []crdt.Dot{{Actor: far, N: 1}, {Actor: far, N: 2}, {Actor: near, N: 1}} {
			needs.Add(d)
		}
		lost := func(want uint64) {
			t.Helper()
			_, lost := p.Look(part, needs)
			if n := (&crdt.Clock{}).CountMissing(crdtClock(lost)); n != want {
				t.Errorf("%d are lost, want %d: %+v", n, want, lost)
			}
		}
		lost(0)
		if err := p.CutRegion(2, 5); err != nil {
			t.Fatal(err)
		}
		lost(1)
		if err := p.OpenRegion(2, 4); err != nil {
			t.Fatal(err)
		}
		lost(1)
		if err := p.OpenRegion(2, 6); err != nil {
			t.Fatal(err)
		}
		lost(0)
		if err := p.CutRegion(2, 5); err != nil {
			t.Fatal(err)
		}
		lost(0)
		if err := p.CutRegion(2, 7); err != nil {
			t.Fatal(err)
		}
		lost(1)
	})
}

// A region that has begun anew gives nothing more of what it wrote before: who waits
// for it is told, and what its new actors write is as good as any.
func TestCloseRegion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := owner(t)
		old, anew, near := crdt.MakeActor(50, 2), crdt.MakeActor(70_000, 2), crdt.MakeActor(51, 3)
		full := []byte("default\x00k")
		part := p.Partition(hashring.KeyHash(full))
		write := func(d crdt.Dot) {
			t.Helper()
			rec := crdt.Record{Versions: []crdt.Version{{Dot: d, Stamp: 1, Value: []byte("v")}}}
			done := make(chan error, 1)
			p.Apply([]wire.Entry{{Key: full, Record: crdt.AppendRecord(nil, hashring.KeyHash(full), rec)}}, func(_ int, err error) { done <- err })
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
		write(crdt.Dot{Actor: old, N: 1})
		write(crdt.Dot{Actor: old, N: 3})
		needs := &crdt.Clock{}
		for n := range uint64(4) {
			needs.Add(crdt.Dot{Actor: old, N: n + 1})
		}
		for _, d := range []crdt.Dot{{Actor: near, N: 1}, {Actor: anew, N: 1}} {
			needs.Add(d)
		}
		state := func(missing, lost uint64) {
			t.Helper()
			m, l := p.Look(part, needs)
			if n := (&crdt.Clock{}).CountMissing(crdtClock(m)); n != missing {
				t.Errorf("%d are missing, want %d: %v", n, missing, m)
			}
			if n := (&crdt.Clock{}).CountMissing(crdtClock(l)); n != lost {
				t.Errorf("%d are lost, want %d: %v", n, lost, l)
			}
		}
		state(4, 0)
		if err := p.CloseRegion(2, 5); err != nil { // it was never cut: nothing is known to be old
			t.Fatal(err)
		}
		state(4, 0)
		if err := p.CutRegion(2, 6); err != nil {
			t.Fatal(err)
		}
		state(1, 3)                       // what is to come of the new actor as well
		write(crdt.Dot{Actor: old, N: 2}) // it was under way when the region was cut
		if err := p.CloseRegion(2, 7); err != nil {
			t.Fatal(err)
		}
		state(2, 1) // 4@old
		write(crdt.Dot{Actor: anew, N: 1})
		state(1, 1)
		p.crash(false)
		p.start()
		state(1, 1)
		if l := p.Losses(part); !l.Ended(old) || l.Ended(anew) {
			t.Errorf("ended: %+v", l.Ends)
		}
	})
}

func crdtClock(c *crdt.Clock) *crdt.Clock {
	if c == nil {
		return &crdt.Clock{}
	}
	return c
}

// A minter whose incarnation others have closed takes another one before it mints.
func TestEndedActorDoesNotMint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := owner(t)
		was := p.Actor()
		full := []byte("default\x00k")
		m := replica.Mint{Key: full, KeyHash: hashring.KeyHash(full), Value: []byte("v")}
		if _, err := p.write(m); err != nil {
			t.Fatal(err)
		}
		if err := p.MeetLosses(p.Partition(m.KeyHash), &session.Losses{Ends: []crdt.Dot{{Actor: was, N: 1}}}); err != nil {
			t.Fatal(err)
		}
		if _, err := p.write(m); !errors.Is(err, replica.ErrAmnesia) {
			t.Fatalf("it mints: %v", err)
		}
		p.settle()
		got, err := p.write(m)
		if err != nil || got.Dot.Actor == was {
			t.Fatalf("%+v, %v", got, err)
		}
		// A write that comes after what is lost is refused.
		needs := &crdt.Clock{}
		needs.Add(crdt.Dot{Actor: was, N: 2})
		m.Needs = needs
		var lost *replica.LostError
		if _, err := p.write(m); !errors.As(err, &lost) || !lost.Lost.Equal(needs) {
			t.Errorf("%v", err)
		}
	})
}
