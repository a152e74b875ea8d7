package collect

import (
	"errors"
	"testing"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/node/topology"
)

// An owner does its duty in order, whatever it is asked.
func TestDutyInOrder(t *testing.T) {
	o := grave(1)[0]
	for pass := Settle; pass <= Complete; pass++ {
		if _, err := o.duty.Answer(Ask{Round: 1, Pass: pass, Floor: 10}); !errors.Is(err, ErrOtherRound) {
			t.Errorf("%v before a promise: %v", pass, err)
		}
	}
	promise := Ask{Round: 1, Pass: Promise, Floor: 10}
	for range 2 { // again, as after a lost answer
		if a, err := o.duty.Answer(promise); err != nil || a.Clock.Max(o.actor) != 3 || a.As != (Incarnation{o.actor, o.boot}) {
			t.Fatalf("promise: %+v, %v", a, err)
		}
	}
	for _, pass := range []Pass{Raise, Complete} {
		if _, err := o.duty.Answer(Ask{Round: 1, Pass: pass, Floor: 10}); !errors.Is(err, ErrOtherRound) {
			t.Errorf("%v before the list: %v", pass, err)
		}
	}
	if _, err := o.duty.Answer(Ask{Round: 1, Pass: Promise, Floor: 11}); !errors.Is(err, ErrOtherRound) {
		t.Errorf("another floor in the same round: %v", err)
	}
	if _, err := o.duty.Answer(Ask{Round: 1, Pass: List, Floor: 11}); !errors.Is(err, ErrOtherRound) {
		t.Errorf("another floor in the same round: %v", err)
	}
	if _, err := o.duty.Answer(Ask{Round: 1, Pass: 9, Floor: 10}); err == nil {
		t.Error("an unknown pass")
	}
	for range 2 {
		if a, err := o.duty.Answer(Ask{Round: 1, Pass: List, Floor: 10}); err != nil || a.Count != 1 || a.Digest == 0 {
			t.Fatalf("list: %+v, %v", a, err)
		}
	}
	if _, err := o.duty.Answer(Ask{Round: 2, Pass: Promise, Floor: 12}); err != nil {
		t.Fatal(err)
	}
	for pass := Settle; pass <= Confirm; pass++ {
		if _, err := o.duty.Answer(Ask{Round: 1, Pass: pass, Floor: 10}); !errors.Is(err, ErrOtherRound) {
			t.Errorf("%v of a round that was overtaken: %v", pass, err)
		}
	}
	if o.floors != (Floors{Promised: 12}) || len(o.records) != 2 {
		t.Errorf("%+v, %v", o.floors, o.records)
	}
}

// The one who asks does not rely on the owner to know who it was.
func TestAnotherIncarnation(t *testing.T) {
	for pass := Settle; pass <= Complete; pass++ {
		r := NewRound(1, 3, 10, []topology.NodeID{"a"})
		as := Incarnation{Actor: 5, Boot: 1}
		for r.Pass() < pass {
			r.Answered("a", Answer{Round: 1, Pass: r.Pass(), As: as, Settled: true, Clock: &crdt.Clock{}})
		}
		for _, other := range []Incarnation{{Actor: 5, Boot: 2}, {Actor: 6, Boot: 1}} {
			x := *r
			x.through = map[topology.NodeID]bool{}
			x.Answered("a", Answer{Round: 1, Pass: pass, As: other, Settled: true})
			if done := pass == Complete; x.Done() != done || x.Off().None() != done {
				t.Errorf("%v as %v: done %v, off %q", pass, other, x.Done(), x.Off())
			}
		}
	}
}
