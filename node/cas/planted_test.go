package cas

import (
	"fmt"
	"strings"
	"testing"
)

// TestPlanted leaves out one rule at a time: a model that finds nothing then
// proves nothing.
func TestPlanted(t *testing.T) {
	const most = 60_000
	var table strings.Builder
	fmt.Fprintf(&table, "%-44s %9s  %s\n", "RULE LEFT OUT", "HISTORIES", "CAUGHT AS")
	for _, c := range []struct {
		name   string
		plain  bool
		bugs   bugs
		rounds int
	}{
		{"what a decision has passed over is ignored", false, bugs{proposer: NoLastCommit}, 0},
		{"a no-op before FAILED", false, bugs{proposer: NoFence}, 0},
		{"the ballot names the version", true, bugs{nodeDots: true}, 0},
		{"what is accepted is not yet the record", false, bugs{joinAccepted: true}, 0},
		{"a promise before a write", false, bugs{readThenWrite: true}, 0},
		{"who forgot its promises waits them out", false, bugs{forgetful: true}, 0},
		{"acceptors compare what is assumed", true, bugs{assume: true}, 0},
		{"who lost its memory does not count for a retry", false, bugs{proposer: NoMemory}, 0},
		{"a request is noted when its proposal is replaced", false, bugs{noNotes: true}, 0},
		{"what is covered need not have been decided", false, bugs{noDoubts: true}, 0},
		{"acceptors refuse what was carried out", false, bugs{noKnown: true}, 0},
		{"promises outlive the states that made them", false, bugs{spendPromises: true}, 300},
	} {
		caught := ""
		n := 0
		for caught == "" && n < most {
			m := newModel(modelOptions{nodes: 3, plain: c.plain, bugs: c.bugs, rounds: c.rounds}, *flagSeed+uint64(n))
			n++
			if err := m.run(modelSteps); err != nil {
				caught = err.Error()
			}
		}
		if caught == "" {
			t.Errorf("%s: not caught in %d histories", c.name, n)
		}
		fmt.Fprintf(&table, "%-44s %9d  %s\n", c.name, n, caught)
	}
	t.Log("\n" + table.String())
}
