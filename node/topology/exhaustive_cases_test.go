package topology

import (
	"fmt"
	"testing"
	"time"
)

type smallCase struct {
	name   string
	owners []string
	again  bool // the first copy is taken back once
	moves  []Move
}

var smallCases = []smallCase{
	{"replace a slot of 3", []string{"n1", "n2", "n3"}, false, []Move{{From: "n1", To: "n4"}}},
	{"replace a slot of 3, second try", []string{"n1", "n2", "n3"}, true, []Move{{From: "n1", To: "n4"}}},
	{"replace a slot of 2", []string{"n1", "n2"}, false, []Move{{Slot: 1, From: "n2", To: "n3"}}},
	{"replace the only one", []string{"n1"}, true, []Move{{From: "n1", To: "n2"}}},
	{"replace and put back", []string{"n1", "n2", "n3"}, false, []Move{{From: "n1", To: "n4"}, {From: "n4", To: "n1"}}},
	{"replace two slots of 3", []string{"n1", "n2", "n3"}, false, []Move{{From: "n1", To: "n4"}, {Slot: 1, From: "n2", To: "n5"}}},
	{"add 1 to 2", []string{"n1"}, true, []Move{{Slot: 1, To: "n2"}}},
	{"add 2 to 3", []string{"n1", "n2"}, true, []Move{{Slot: 2, To: "n3"}}},
	{"add 1 to 2 to 3", []string{"n1"}, false, []Move{{Slot: 1, To: "n2"}, {Slot: 2, To: "n3"}}},
	{"add 3 to 4", []string{"n1", "n2", "n3"}, false, []Move{{Slot: 3, To: "n4"}}},
	{"remove 4 to 3", []string{"n1", "n2", "n3", "n4"}, false, []Move{{From: "n1"}}},
	{"remove 3 to 2", []string{"n1", "n2", "n3"}, false, []Move{{From: "n1"}}},
	{"remove 3 to 2 to 1", []string{"n1", "n2", "n3"}, false, []Move{{From: "n1"}, {Slot: 1, From: "n2"}}},
	{"remove 2 to 1", []string{"n1", "n2"}, false, []Move{{Slot: 1, From: "n2"}}},
}

// A write of one slot and a read of all of them agree on no slot when their
// number changes between the two: the one thing that is not promised.
func (c smallCase) promised(lv levels) bool {
	return lv.name != readAll.name || c.moves[0].From != "" && c.moves[0].To != ""
}

func TestEveryState(t *testing.T) {
	total, begun := 0, time.Now()
	for _, c := range smallCases {
		if raceDetector && len(c.moves) > 1 {
			continue // one goroutine, and ten times slower
		}
		for _, lv := range []levels{quorums, writeAll, readAll} {
			r := newRegion(c, lv, correct)
			// What one node alone acknowledged dies with it.
			r.mayDie = lv.name != readAll.name
			n, way := r.explore()
			total += n
			t.Logf("%-32s %-18s %8d states, missed: %v", c.name, lv.name, n, way != nil)
			switch {
			case way != nil && c.promised(lv):
				t.Errorf("%s, %s: a read misses an acknowledged write:%s", c.name, lv.name, story(way))
			case way == nil && !c.promised(lv) && len(c.owners) > 1:
				t.Errorf("%s, %s: holds, and is said not to", c.name, lv.name)
			}
		}
	}
	t.Logf("%d states in %v", total, time.Since(begun).Round(time.Millisecond))
}

// The search finds what it should find: every rule, when it is left out, gives
// a history in which a read misses an acknowledged write.
func TestEveryRuleIsNeeded(t *testing.T) {
	if raceDetector {
		t.Skip("one goroutine, and ten times slower")
	}
	for f, name := range map[fault]string{
		pendingUncounted: "a slot in transition counts by its old owner",
		pendingAlone:     "a slot in transition counts by its new owner",
		noFence:          "epochs are ignored",
		noSync:           "switched before the copy is complete",
		syncOnce:         "a number of slots has changed before the copy is complete once more",
		noMajority:       "a stage is left before most know of it",
		syncEarly:        "copied from a source that does not know of the move",
		oneSource:        "one source in place of a dead owner",
		keepAnswers:      "a read goes on by a newer epoch with the answers that it has",
		noEach:           "finished before the old owner knows of the switch",
	} {
		caught := ""
		states := 0
		for _, c := range smallCases {
			for _, lv := range []levels{quorums, writeAll, readAll} {
				if !c.promised(lv) || caught != "" {
					continue
				}
				r := newRegion(c, lv, f)
				r.mayDie = lv.name != readAll.name
				n, way := r.explore()
				states += n
				if way != nil {
					caught = fmt.Sprintf("%s, %s, after %d steps", c.name, lv.name, len(way)-1)
				}
			}
		}
		if caught == "" {
			t.Errorf("%s: not caught in %d states", name, states)
		}
		t.Logf("%-52s %8d states: %s", name, states, caught)
	}
}
