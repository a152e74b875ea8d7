package replica

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/atolldb/atoll/crdt"
)

// However many keys are marked, as many are kept as may be, the last one among them,
// and the same of the same: no order of a map decides.
func TestMarksAreBoundedAndTheSame(t *testing.T) {
	var kept [2][]string
	for i := range kept {
		var h held
		for n := range 4 * maxMarks {
			key := fmt.Sprint("k", n)
			h.mark(key, crdt.Record{})
			if len(h.marks) != min(n+1, maxMarks) || h.marks[key] == nil {
				t.Fatalf("%d keys are marked after %d, the last one %v", len(h.marks), n+1, h.marks[key] != nil)
			}
		}
		kept[i] = slices.Sorted(maps.Keys(h.marks))
		if listed := slices.Sorted(slices.Values(h.marked)); !slices.Equal(kept[i], listed) {
			t.Errorf("%v are marked, %v are listed", kept[i], listed)
		}
	}
	if !slices.Equal(kept[0], kept[1]) {
		t.Errorf("%v and %v", kept[0], kept[1])
	}
}
