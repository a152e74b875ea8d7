package main

import (
	adminv1 "github.com/atolldb/atoll/proto/atoll/admin/v1"
)

// ownerNames of partition p, the primary first: who serves it now.
func ownerNames(t *adminv1.GetTopologyResponse, p int) []string {
	var row []uint32
	n := int(t.Replicas)
	switch {
	case len(t.Rows) > 0 && p < len(t.Rows):
		row = t.Rows[p].Owners
	case len(t.Rows) == 0 && (p+1)*n <= len(t.Owners):
		row = t.Owners[p*n : (p+1)*n]
	}
	var names []string
	for _, i := range row {
		if int(i) < len(t.Members) {
			names = append(names, t.Members[i].Id)
		}
	}
	return names
}

// holdings is what a node owns, and what it gets and gives by moves that are
// planned or under way.
type holdings struct{ owned, primary, gets, gives int }

// holdingsOf each node, and how many copies there are in all.
func holdingsOf(t *adminv1.GetTopologyResponse) (by map[string]holdings, copies int) {
	by = map[string]holdings{}
	for p := range int(t.Partitions) {
		for i, id := range ownerNames(t, p) {
			h := by[id]
			h.owned++
			if i == 0 {
				h.primary++
			}
			by[id] = h
			copies++
		}
	}
	for _, m := range t.Moves {
		// What has switched is the new owner's already.
		if m.Stage == adminv1.MoveStage_MOVE_STAGE_SWITCHED {
			continue
		}
		if m.From != "" {
			h := by[m.From]
			h.gives++
			by[m.From] = h
		}
		if m.To != "" {
			h := by[m.To]
			h.gets++
			by[m.To] = h
		}
	}
	return by, copies
}

// stateText of a member, as 'atoll' says it everywhere.
func stateText(s adminv1.MemberState) string {
	switch s {
	case adminv1.MemberState_MEMBER_STATE_UP:
		return "up"
	case adminv1.MemberState_MEMBER_STATE_JOINING:
		return "joining"
	case adminv1.MemberState_MEMBER_STATE_DRAINING:
		return "draining"
	case adminv1.MemberState_MEMBER_STATE_LEFT:
		return "left"
	}
	return "?"
}

// stageText of a move.
func stageText(s adminv1.MoveStage) string {
	switch s {
	case adminv1.MoveStage_MOVE_STAGE_PLANNED:
		return "planned"
	case adminv1.MoveStage_MOVE_STAGE_COPYING:
		return "copying"
	case adminv1.MoveStage_MOVE_STAGE_SWITCHED:
		return "switched"
	}
	return "?"
}

// stages counts moves.
type stages struct{ planned, copying, switched int }

func stagesOf(moves []*adminv1.Move) (n stages) {
	for _, m := range moves {
		switch m.Stage {
		case adminv1.MoveStage_MOVE_STAGE_COPYING:
			n.copying++
		case adminv1.MoveStage_MOVE_STAGE_SWITCHED:
			n.switched++
		default:
			n.planned++
		}
	}
	return n
}

// nobody stands for no node in a table.
func nobody(id string) string {
	if id == "" {
		return "-"
	}
	return id
}
