package quorum_test

import (
	"math/bits"
	"testing"

	"pgregory.net/rapid"

	"github.com/atolldb/atoll/node/quorum"
)

// answer is what one node of a slot said.
type answer struct {
	slot   int
	second bool
	ok     bool
}

// slotsTwin judges a history the dumb way: of each node the first answer
// counts, unless its slot has failed before; a slot has acknowledged when all
// its nodes have, and failed when one of them has.
func slotsTwin(need, slots int, moving uint64, history []answer) (v quorum.Verdict, yes int) {
	type node struct {
		slot   int
		second bool
	}
	first := map[node]bool{}
	for _, a := range history {
		n := node{a.slot, a.second}
		if _, ok := first[n]; !ok {
			first[n] = a.ok
		}
	}
	no := 0
	for i := range slots {
		a, answeredA := first[node{i, false}]
		b, answeredB := first[node{i, true}]
		if moving&(1<<i) == 0 {
			b, answeredB = a, answeredA
		}
		switch {
		case a && b:
			yes++
		case answeredA && !a, answeredB && !b:
			no++
		}
	}
	switch {
	case yes >= need:
		return quorum.Met, yes
	case slots-no < need:
		return quorum.Lost, yes
	}
	return quorum.Pending, yes
}

func TestSlots(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		slots := rapid.IntRange(1, 8).Draw(t, "slots")
		need := rapid.IntRange(1, slots).Draw(t, "need")
		moving := rapid.Uint64Range(0, 1<<slots-1).Draw(t, "moving")
		s := quorum.NewSlots(need, slots, moving)
		var history []answer
		met := false
		for range rapid.IntRange(0, 4*slots).Draw(t, "answers") {
			a := answer{slot: rapid.IntRange(0, slots-1).Draw(t, "slot"), ok: rapid.Bool().Draw(t, "ok")}
			a.second = moving&(1<<a.slot) != 0 && rapid.Bool().Draw(t, "second")
			history = append(history, a)
			var v quorum.Verdict
			if a.ok {
				v = s.Ack(a.slot, a.second)
			} else {
				v = s.Fail(a.slot, a.second)
			}
			want, yes := slotsTwin(need, slots, moving, history)
			if v != want || s.Verdict() != want || s.Yes() != yes {
				t.Fatalf("%d of %d slots, moving %b, %+v: %v with %d, want %v with %d", need, slots, moving, history, v, s.Yes(), want, yes)
			}
			if met && v != quorum.Met {
				t.Fatal("no longer met")
			}
			met = v == quorum.Met
		}
		if s.Need() != need {
			t.Fatalf("needs %d", s.Need())
		}
	})
}

// A move must not let a write be met that a read misses: of all sets of nodes
// that meet a write while one slot moves, each has a node in common with each
// set of servers that meets a read, whether reads ask the old owner or the new
// one, if and only if r + w > n.
func TestSlotsIntersectOnBothSidesOfAMove(t *testing.T) {
	for n := 1; n <= 4; n++ {
		for w := 1; w <= n; w++ {
			for r := 1; r <= n; r++ {
				// Node i is the owner of slot i, node n the next owner of slot 0.
				for _, server := range []int{0, n} { // of slot 0
					disjoint := false
					for set := range uint(1) << (n + 1) {
						s := quorum.NewSlots(w, n, 1)
						for i := range n {
							if set&(1<<i) != 0 {
								s.Ack(i, false)
							}
						}
						if set&(1<<n) != 0 {
							s.Ack(0, true)
						}
						if s.Verdict() != quorum.Met {
							continue
						}
						for servers := range uint(1) << n {
							asked := servers &^ 1
							if servers&1 != 0 {
								asked |= 1 << server
							}
							if bits.OnesCount(servers) == r && asked&set == 0 {
								disjoint = true
							}
						}
					}
					if disjoint != (r+w <= n) {
						t.Errorf("n=%d w=%d r=%d, node %d serves: a read can miss a write: %t", n, w, r, server, disjoint)
					}
				}
			}
		}
	}
}
