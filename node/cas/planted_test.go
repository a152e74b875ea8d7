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
		name  string
		plain bool
		bugs  bugs
	}{
		{"what a decision has passed over is ignored", false, bugs{proposer: NoLastCommit}},
		{"a no-op before FAILED", false, bugs{proposer: NoFence}},
		{"the ballot names the version", true, bugs{nodeDots: true}},
		{"what is accepted is not yet the record", false, bugs{joinAccepted: true}},
		{"a promise before a write", false, bugs{readThenWrite: true}},
		{"who forgot its promises waits them out", false, bugs{forgetful: true}},
		{"acceptors compare what is assumed", true, bugs{assume: true}},
		{"who lost its memory does not count for a retry", false, bugs{proposer: NoMemory}},
		{"a request is noted when its proposal is replaced", false, bugs{noNotes: true}},
		{"what is covered need not have been decided", false, bugs{noDoubts: true}},
		{"acceptors refuse what was carried out", false, bugs{noKnown: true}},
	} {
		caught := ""
		n := 0
		for caught == "" && n < most {
			m := newModel(modelOptions{nodes: 3, plain: c.plain, bugs: c.bugs}, *flagSeed+uint64(n))
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
