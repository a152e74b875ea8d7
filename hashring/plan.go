package hashring

import "fmt"

// Proposal is a next table and what it takes to get there.
type Proposal struct {
	Next Table
	// Moves leads from the current table to the owners of Next, at most one
	// per partition at a time and in any order: no step puts more owners into
	// a rack than Next or the current table has there. The order of owners
	// within a partition, and with it the primary, changes without moves.
	Moves []Move
}

// Plan computes the table that members should have, and the moves from the
// current one (the zero Table for a new ring). See the package comment for
// what it promises. The time is in the order of partitions * copies * members:
// some tenths of a second for 4096 partitions and 300 members.
//
// It refuses rules out of bounds, members with duplicate ids or weights out of
// bounds, and a current table of another partition count or with an owner
// twice in one row.
func Plan(current Table, members []Member, rules Rules) (Proposal, error) {
	l, shares, least, err := prepare(current, members, rules)
	if err != nil {
		return Proposal{}, fmt.Errorf("plan ring: %w", err)
	}
	l.fillHoles()
	l.shift()
	if l.unmet() || len(l.slot)-l.kept() > least {
		r := makeResidual(l)
		r.meetTargets()
		r.saveMoves(shares)
	}
	if l.unmet() { // the targets are feasible, so this is a bug
		return Proposal{}, fmt.Errorf("plan ring: shares of %d members cannot be met", l.size())
	}
	l.spread()
	return l.propose(current), nil
}

// prepare checks the input and returns a layout that holds what may stay, with
// the share of each node and the fewest copies that must move: a lower bound,
// reached unless racks forbid it.
func prepare(current Table, members []Member, rules Rules) (*layout, []share, int, error) {
	if err := rules.Validate(); err != nil {
		return nil, nil, 0, err
	}
	r, err := makeRoster(members)
	if err != nil {
		return nil, nil, 0, err
	}
	if err := validateTable(current, rules.Partitions); err != nil {
		return nil, nil, 0, err
	}
	l := makeLayout(r, rules, rackLimit(r, rules))
	held := l.remember(current)
	shares := waterfill(r, l.partitions, l.width, l.limit)
	l.aim(round(r, shares, l.partitions, l.limit, held))
	l.keep(held)
	holes, lack := len(l.slot), 0
	for n, t := range l.target {
		holes -= l.load[n]
		lack += max(0, t-held[n])
	}
	return l, shares, max(holes, lack), nil
}

// unmet reports whether a node is not at its target.
func (l *layout) unmet() bool {
	for n, t := range l.target {
		if l.load[n] != t {
			return true
		}
	}
	return false
}

// propose writes the layout out.
func (l *layout) propose(current Table) Proposal {
	first := make([]int32, l.partitions)
	for p := range first {
		first[p] = none
		if current.Partitions() > 0 && len(current.Owners(Partition(p))) > 0 {
			if n, ok := l.index[current.Owners(Partition(p))[0]]; ok {
				first[p] = n
			}
		}
	}
	chosen := l.choosePrimaries(first)
	rows := make([][]string, l.partitions)
	names := make([]string, len(l.slot))
	var moves []Move
	rackOf := func(id string) (int32, bool) {
		n, ok := l.index[id]
		if !ok {
			return 0, false
		}
		return l.rack[n], true
	}
	for p := range rows {
		row := names[p*l.width : (p+1)*l.width : (p+1)*l.width]
		for s, n := range l.row(p) {
			row[s] = l.ids[n]
		}
		lead := l.slotOf(p, chosen[p])
		row[0], row[lead] = row[lead], row[0]
		rows[p] = row
		var old []string
		if current.Partitions() > 0 {
			old = current.Owners(Partition(p))
		}
		moves = appendMoves(moves, Partition(p), old, row, rackOf)
	}
	return Proposal{Next: MakeTable(rows), Moves: moves}
}
