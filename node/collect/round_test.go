package collect

import (
	"errors"
	"strings"
	"testing"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/node/topology"
)

// grave makes owners that all hold key a dead at stamp 2, and b alive.
func grave(n int) []*owner {
	owners := newOwners(n)
	owners[0].write("a", 1, false)
	owners[0].write("b", 1, false)
	owners[0].write("a", 2, true)
	for _, o := range owners[1:] {
		o.sync(owners[0])
	}
	return owners
}

func TestRoundCollects(t *testing.T) {
	owners := grave(5)
	r := NewRound(1, 3, 10, ids(owners))
	asked := 0
	for !r.Ended() {
		to, ask := r.Asks()
		asked += len(to)
		for _, o := range owners {
			a, err := o.duty.Answer(ask)
			if err != nil {
				t.Fatal(err)
			}
			r.Answered(o.id, a)
		}
	}
	if !r.Done() || r.Collected() != 1 || asked != 6*5 {
		t.Errorf("done %v (%s), %d records, %d questions", r.Done(), r.Off(), r.Collected(), asked)
	}
	for _, o := range owners {
		if _, ok := o.records["a"]; ok || len(o.records) != 1 {
			t.Errorf("%s has %v", o.id, o.records)
		}
		if o.floors != (Floors{Promised: 10, Raised: 10, Completed: 10}) {
			t.Errorf("%s: %+v", o.id, o.floors)
		}
	}
	// The next one begins where that ended, and finds nothing.
	r = NewRound(2, 3, 20, ids(owners))
	run(r, owners)
	if !r.Done() || r.Collected() != 0 {
		t.Errorf("the second round: %v %s, %d records", r.Done(), r.Off(), r.Collected())
	}
}

// What ends a round, and at which pass.
func TestRoundEnds(t *testing.T) {
	for _, c := range []struct {
		name string
		at   Pass // before this one is asked
		do   func(owners []*owner)
		off  string // in the reason; "" if the round must not end
	}{
		{"an owner passed the floor", Promise, func(o []*owner) { o[2].floors = Floors{Promised: 10, Raised: 10} }, "not above"},
		{"an owner completed the floor", Promise, func(o []*owner) { o[2].floors = Floors{Promised: 9, Raised: 9, Completed: 12} }, "o2: the floor is completed there"},
		{"an owner lacks a write", Settle, func(o []*owner) { o[0].floors.Promised = 0; o[2].clock = crdt.Clock{} }, "stuck"},
		{"a hint waits", Settle, func(o []*owner) { o[1].waiting = 10 }, "stuck"},
		{"a later hint waits", Settle, func(o []*owner) { o[1].waiting = 11 }, ""},
		{"gaps of one who is no more", Promise, func(o []*owner) { o[1].clock.Add(crdt.Dot{Actor: 99, N: 7}); o[0].sync(o[1]); o[2].sync(o[1]) }, ""},
		{"gaps of one who is up", Promise, func(o []*owner) { o[1].clock.Add(crdt.Dot{Actor: 1, N: 70}); o[0].sync(o[1]); o[2].sync(o[1]) }, "stuck"},
		{"a tombstone was lost before the list", List, func(o []*owner) { delete(o[2].records, "a") }, "lists something else"},
		{"a tombstone was lost after the list", Raise, func(o []*owner) { delete(o[2].records, "a") }, ErrLostListed.Error()},
		{"a listed key was written again", Raise, func(o []*owner) { o[2].write("a", 11, false) }, ""},
		{"a restart before the settling", Settle, func(o []*owner) { o[1].restart(0) }, ErrOtherRound.Error()},
		{"a restart before the list", List, func(o []*owner) { o[1].restart(0) }, ErrOtherRound.Error()},
		{"a restart before the raise", Raise, func(o []*owner) { o[1].restart(0) }, ErrOtherRound.Error()},
		{"a restart before confirming", Confirm, func(o []*owner) { o[1].restart(0) }, ErrOtherRound.Error()},
		{"a restart before completing", Complete, func(o []*owner) { o[1].restart(0) }, ""},
		{"another actor before the list", List, func(o []*owner) { o[1].actor = 77 }, ErrOtherRound.Error()},
		{"another actor before confirming", Confirm, func(o []*owner) { o[1].actor = 77 }, ErrOtherRound.Error()},
		{"another actor before completing", Complete, func(o []*owner) { o[1].actor = 77 }, ""},
		{"a disk that fails", List, func(o []*owner) { o[1].failing = errors.New("bad disk") }, "bad disk"},
	} {
		t.Run(c.name, func(t *testing.T) {
			owners := grave(3)
			r := NewRound(1, 3, 10, ids(owners))
			for range 20 {
				to, ask := r.Asks()
				if ask.Pass == c.at && c.do != nil {
					c.do(owners)
					c.do = nil
				}
				for _, id := range to {
					for _, o := range owners {
						if o.id != id {
							continue
						}
						if a, err := o.duty.Answer(ask); err != nil {
							r.Stop(Cause{Detail: err.Error()})
						} else {
							r.Answered(id, a)
						}
					}
				}
			}
			switch {
			case c.off == "" && !r.Done():
				t.Errorf("off: %s", r.Off())
			case c.off == "stuck" && (r.Ended() || r.Pass() != Settle):
				t.Errorf("done %v, off %q, at %v", r.Done(), r.Off(), r.Pass())
			case c.off != "" && c.off != "stuck" && !strings.Contains(r.Off().String(), c.off):
				t.Errorf("off %q, want %q", r.Off(), c.off)
			}
			if !r.Done() {
				for _, o := range owners {
					if o.floors.Completed == 10 {
						t.Errorf("%s has completed the floor of a round that ended", o.id)
					}
				}
			}
		})
	}
}

// Answers of another round, another pass, a stranger or a second time change
// nothing.
func TestRoundIgnores(t *testing.T) {
	r := NewRound(7, 3, 10, []topology.NodeID{"a", "b"})
	had := func(n uint64) *crdt.Clock {
		c := &crdt.Clock{}
		c.AddSpan(crdt.Dots{Actor: 1, Span: crdt.Span{Lo: 1, Hi: n}})
		return c
	}
	r.Answered("a", Answer{Round: 6, Pass: Promise, Clock: had(1)})
	r.Answered("a", Answer{Round: 7, Pass: Settle, Settled: true})
	r.Answered("c", Answer{Round: 7, Pass: Promise, Clock: had(9)})
	if to, ask := r.Asks(); len(to) != 2 || ask.Pass != Promise {
		t.Errorf("asks %v for %v", to, ask.Pass)
	}
	r.Answered("a", Answer{Round: 7, Pass: Promise, Clock: had(2), Completed: 3})
	r.Answered("a", Answer{Round: 7, Pass: Promise, Clock: had(8), Completed: 9})
	r.Answered("b", Answer{Round: 7, Pass: Promise, Clock: had(4), Completed: 5})
	to, ask := r.Asks()
	if len(to) != 2 || ask.Pass != Settle || ask.From != 5 || ask.Had.Max(1) != 4 || ask.Floor != 10 || ask.Round != 7 {
		t.Errorf("asks %v: %+v", to, ask)
	}
	r.Answered("a", Answer{Round: 7, Pass: Settle})
	if to, _ := r.Asks(); len(to) != 2 {
		t.Error("an owner that has not settled is not asked again")
	}
	r.Answered("a", Answer{Round: 7, Pass: Settle, Settled: true})
	if to, _ := r.Asks(); len(to) != 1 || to[0] != "b" {
		t.Errorf("asks %v", to)
	}
	r.Stop(Cause{Detail: "no more"})
	if to, _ := r.Asks(); len(to) != 0 || r.Off().Detail != "no more" {
		t.Error("asks after its end")
	}
}

// A round that is being completed cannot be stopped: all have raised the floor.
func TestStopWhileCompleting(t *testing.T) {
	owners := grave(2)
	r := NewRound(1, 3, 10, ids(owners))
	for r.Pass() != Complete {
		_, ask := r.Asks()
		for _, o := range owners {
			a, err := o.duty.Answer(ask)
			if err != nil {
				t.Fatal(err)
			}
			r.Answered(o.id, a)
		}
	}
	r.Stop(Cause{Detail: "the topology has changed"})
	if run(r, owners); !r.Done() {
		t.Errorf("off: %s", r.Off())
	}
}

// A round that was broken off while floors were raised is overtaken by the next
// one; an owner that never heard that a floor was completed learns it then.
func TestNextRound(t *testing.T) {
	owners := grave(3)
	r := NewRound(1, 3, 10, ids(owners))
	for r.Pass() != Raise {
		_, ask := r.Asks()
		for _, o := range owners {
			a, err := o.duty.Answer(ask)
			if err != nil {
				t.Fatal(err)
			}
			r.Answered(o.id, a)
		}
	}
	_, ask := r.Asks()
	if _, err := owners[0].duty.Answer(ask); err != nil {
		t.Fatal(err)
	}
	if owners[0].floors.Raised != 10 || owners[1].floors.Raised != 0 {
		t.Fatalf("%+v, %+v", owners[0].floors, owners[1].floors)
	}
	again := NewRound(2, 3, 10, ids(owners))
	if run(again, owners); !strings.Contains(again.Off().String(), ErrPassed.Error()) {
		t.Errorf("the same floor again: %q", again.Off())
	}
	next := NewRound(3, 3, 12, ids(owners))
	if run(next, owners); !next.Done() || next.Collected() != 1 {
		t.Errorf("the next floor: %v %q, %d records", next.Done(), next.Off(), next.Collected())
	}

	// One owner does not hear of the completion, and one brings back from an old
	// disk what was dropped.
	owners[0].write("c", 13, true)
	for _, o := range owners[1:] {
		o.sync(owners[0])
	}
	r = NewRound(4, 3, 20, ids(owners))
	for r.Pass() != Complete {
		_, ask = r.Asks()
		for _, o := range owners {
			a, err := o.duty.Answer(ask)
			if err != nil {
				t.Fatal(err)
			}
			r.Answered(o.id, a)
		}
	}
	_, ask = r.Asks()
	old := owners[1].records["c"]
	for _, o := range owners[:2] {
		if _, err := o.duty.Answer(ask); err != nil {
			t.Fatal(err)
		}
	}
	owners[1].records["c"] = old
	if owners[2].floors.Completed == 20 {
		t.Fatal("heard of it")
	}
	r = NewRound(5, 3, 30, ids(owners))
	if run(r, owners); !r.Done() || r.Collected() != 0 {
		t.Errorf("done %v (%s), %d records", r.Done(), r.Off(), r.Collected())
	}
	for _, o := range owners {
		if o.records["c"].Versions != nil || o.floors.Completed != 30 {
			t.Errorf("%s: %v, %+v", o.id, o.records, o.floors)
		}
	}
}

func TestTooMany(t *testing.T) {
	owners := grave(2)
	owners[1].duty.max = 0
	r := NewRound(1, 3, 10, ids(owners))
	if run(r, owners); !strings.Contains(r.Off().String(), ErrTooMany.Error()) {
		t.Errorf("off %q", r.Off())
	}
}

// An owner that lost a floor that was completed lists nothing before it has
// re-joined.
func TestBehindTheFloor(t *testing.T) {
	owners := grave(2)
	run(NewRound(1, 3, 10, ids(owners)), owners)
	owners[1].floors = Floors{}
	r := NewRound(2, 3, 20, ids(owners))
	if run(r, owners); !strings.Contains(r.Off().String(), ErrBehindFloor.Error()) {
		t.Errorf("off %q, done %v", r.Off(), r.Done())
	}
}
