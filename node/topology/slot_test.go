package topology

import (
	"slices"
	"testing"

	"github.com/atolldb/atoll/hashring"
)

func staged(m Move) *Topology {
	return &Topology{
		Region: "a", RegionID: 1, Epoch: 2,
		Table: hashring.MakeTable([][]string{{"n1", "n2", "n3"}, {"n2", "n3", "n1"}}),
		Moves: []Move{m},
	}
}

// Who counts, who serves and who is only written to, at every stage.
func TestRow(t *testing.T) {
	type want struct {
		slots  int // that count
		serves map[NodeID]bool
		role   Role // of the node that comes or goes
		takers int
	}
	three := map[NodeID]bool{"n1": true, "n2": true, "n3": true}
	four := map[NodeID]bool{"n1": true, "n2": true, "n3": true, "n4": true}
	for name, c := range map[string]struct {
		move Move
		who  NodeID
		want want
	}{
		"planned":          {Move{Slot: 2, From: "n3", To: "n4", Stage: Planned}, "n4", want{3, three, None, 3}},
		"copying, to":      {Move{Slot: 2, From: "n3", To: "n4", Stage: Copying}, "n4", want{3, three, Pending, 4}},
		"copying, from":    {Move{Slot: 2, From: "n3", To: "n4", Stage: Copying}, "n3", want{3, three, Serving, 4}},
		"switched, to":     {Move{Slot: 2, From: "n3", To: "n4", Stage: Switched}, "n4", want{3, map[NodeID]bool{"n1": true, "n2": true, "n4": true}, Serving, 4}},
		"switched, from":   {Move{Slot: 2, From: "n3", To: "n4", Stage: Switched}, "n3", want{3, map[NodeID]bool{"n1": true, "n2": true, "n4": true}, Parting, 4}},
		"added, copying":   {Move{Slot: 3, To: "n4", Stage: Copying}, "n4", want{3, three, Pending, 4}},
		"added, switched":  {Move{Slot: 3, To: "n4", Stage: Switched}, "n4", want{4, four, Serving, 4}},
		"removed, copying": {Move{Slot: 0, From: "n1", Stage: Copying}, "n1", want{3, three, Serving, 3}},
		"removed, over":    {Move{Slot: 0, From: "n1", Stage: Switched}, "n1", want{2, map[NodeID]bool{"n2": true, "n3": true}, Parting, 3}},
	} {
		top := staged(c.move)
		row := top.Row(0)
		if len(row.Slots) != c.want.slots {
			t.Errorf("%s: %d slots count, want %d", name, len(row.Slots), c.want.slots)
		}
		for _, s := range row.Slots {
			if !c.want.serves[s.Serves()] {
				t.Errorf("%s: %s serves", name, s.Serves())
			}
		}
		if r := top.Role(0, c.who); r != c.want.role {
			t.Errorf("%s: role of %s is %d, want %d", name, c.who, r, c.want.role)
		}
		if n := len(top.Takers(0)); n != c.want.takers {
			t.Errorf("%s: %d take writes, want %d", name, n, c.want.takers)
		}
		if other := top.Row(1); len(other.Slots) != 3 || other.Extra != "" {
			t.Errorf("%s: a move of partition 0 changed partition 1: %+v", name, other)
		}
	}
}

func TestPresent(t *testing.T) {
	x := &Topology{Members: []Member{{ID: "c", State: Draining}, {ID: "b", State: Left}, {ID: "a"}, {ID: "d", State: Joining}}}
	if got := x.Present(); !slices.Equal(got, []NodeID{"a", "c", "d"}) {
		t.Errorf("present: %v", got)
	}
}
