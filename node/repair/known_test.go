package repair

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/topology"
)

// The common base is what a dumb count of dots says: the dots of an actor up to
// the first that somebody lacks.
func TestCommonBase(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		clocks := make([]*crdt.Clock, rapid.IntRange(0, 4).Draw(t, "clocks"))
		for i := range clocks {
			clocks[i] = &crdt.Clock{}
			for range rapid.IntRange(0, 30).Draw(t, "dots") {
				clocks[i].Add(crdt.Dot{Actor: crdt.Actor(rapid.IntRange(1, 3).Draw(t, "actor")), N: uint64(rapid.IntRange(1, 8).Draw(t, "n"))})
			}
		}
		got := commonBase(clocks)
		for a := crdt.Actor(1); a <= 3; a++ {
			all := len(clocks) > 0
			for n := uint64(1); n <= 9; n++ {
				d := crdt.Dot{Actor: a, N: n}
				for _, c := range clocks {
					all = all && c.Contains(d)
				}
				if got.Contains(d) != all {
					t.Fatalf("%v: %v, want %v", d, got.Contains(d), all)
				}
			}
		}
	})
}

func clockOf(n uint64) *crdt.Clock {
	c := &crdt.Clock{}
	c.AddSpan(crdt.Dots{Actor: 1, Span: crdt.Span{Lo: 1, Hi: n}})
	return c
}

func TestKnown(t *testing.T) {
	var k known
	if _, ok := k.clocks(3, []topology.NodeID{"a"}); ok {
		t.Error("knows an owner that never said anything")
	}
	k.note("a", 3, 10, clockOf(5))
	k.note("b", 3, 11, clockOf(7))
	if !k.upToDate("a", 3, 10) || k.upToDate("a", 3, 12) || k.upToDate("a", 4, 10) || k.upToDate("c", 3, 10) {
		t.Error("up to date with another state than the last one")
	}
	if _, ok := k.clocks(3, []topology.NodeID{"a", "b", "c"}); ok {
		t.Error("one of three owners has not said anything")
	}
	got, ok := k.clocks(3, []topology.NodeID{"a", "b"})
	if !ok || commonBase(got).Base(1) != 5 {
		t.Errorf("%v, %v", got, ok)
	}
	// A wiped owner says less than before.
	k.note("a", 3, 9, clockOf(1))
	if got, _ := k.clocks(3, []topology.NodeID{"a", "b"}); commonBase(got).Base(1) != 1 {
		t.Error("still known to have what was wiped")
	}
	k.forget("a")
	if _, ok := k.clocks(3, []topology.NodeID{"a", "b"}); ok {
		t.Error("not forgotten")
	}
	k.note("a", 3, 10, clockOf(5))
	k.note("a", 4, 10, clockOf(5))
	k.retain(shares{link{id: "a"}: {hashring.Partition(4): true}})
	if k.upToDate("a", 3, 10) || !k.upToDate("a", 4, 10) || k.upToDate("b", 3, 11) {
		t.Error("what is not shared is still known, or what is shared is not")
	}
}
