package hashring

import (
	"fmt"
	"slices"
)

// Move hands one slot of a partition from one owner to another.
type Move struct {
	Partition Partition
	// Slot is the place of From in the current owners; without From, the
	// place that To takes behind them.
	Slot int
	// From is empty for a slot that had no owner, To for one that goes away.
	// A move with a To copies the partition's data once.
	From, To string
}

func (m Move) String() string {
	from, to := m.From, m.To
	if from == "" {
		from = "nobody"
	}
	if to == "" {
		to = "nobody"
	}
	return fmt.Sprintf("partition %d slot %d: %s -> %s", m.Partition, m.Slot, from, to)
}

// Diff names the moves that lead from the owners of old to those of new, by
// partition and slot. Owners in another order are not moves. A table without
// partitions stands for one without owners.
//
// Where several owners of a partition change, Plan pairs them within racks;
// Diff, which knows no racks, pairs them in the order of slots.
func Diff(old, new Table) []Move {
	var moves []Move
	anywhere := func(string) (int32, bool) { return 0, false }
	for p := range max(old.Partitions(), new.Partitions()) {
		var a, b []string
		if p < old.Partitions() {
			a = old.rows[p]
		}
		if p < new.Partitions() {
			b = new.rows[p]
		}
		moves = appendMoves(moves, Partition(p), a, b, anywhere)
	}
	return moves
}

// appendMoves adds the moves of one partition. Leavers are replaced from their
// own rack first; what then remains leaves and enters different racks, so that
// no order of the moves crowds one.
func appendMoves(moves []Move, p Partition, old, new []string, rackOf func(string) (int32, bool)) []Move {
	var join []string
	for _, id := range new {
		if !slices.Contains(old, id) {
			join = append(join, id)
		}
	}
	start := len(moves)
	for s, id := range old {
		if !slices.Contains(new, id) {
			moves = append(moves, Move{Partition: p, Slot: s, From: id})
		}
	}
	if len(join) == 0 {
		return moves
	}
	left := moves[start:]
	for i := range left {
		rack, ok := rackOf(left[i].From)
		if !ok {
			continue
		}
		for j, id := range join {
			if r, known := rackOf(id); known && r == rack {
				left[i].To = id
				join = slices.Delete(join, j, j+1)
				break
			}
		}
	}
	for i := range left {
		if left[i].To == "" && len(join) > 0 {
			left[i].To, join = join[0], join[1:]
		}
	}
	for i, id := range join {
		moves = append(moves, Move{Partition: p, Slot: len(old) + i, To: id})
	}
	return moves
}

// Apply returns t with the moves carried out: To takes the place of From. It
// refuses a move that does not fit the table. Slots that lose their owner for
// good close up, so that the slots of later moves of that partition count from
// t as it was given.
func Apply(t Table, moves []Move) (Table, error) {
	rows := make([][]string, len(t.rows))
	copy(rows, t.rows)
	touched := make(map[Partition]bool)
	for _, m := range moves {
		if int(m.Partition) >= len(rows) {
			return Table{}, fmt.Errorf("apply move (%s): the table has %d partitions", m, len(rows))
		}
		row := rows[m.Partition]
		if !touched[m.Partition] {
			row = slices.Clone(row)
			touched[m.Partition] = true
		}
		if m.Slot < 0 || m.Slot >= len(t.rows[m.Partition])+MaxReplicas {
			return Table{}, fmt.Errorf("apply move (%s): there is no such slot", m)
		}
		for len(row) <= m.Slot {
			row = append(row, "")
		}
		if row[m.Slot] != m.From {
			return Table{}, fmt.Errorf("apply move (%s): the slot belongs to %q", m, row[m.Slot])
		}
		if m.To != "" && slices.Contains(row, m.To) {
			return Table{}, fmt.Errorf("apply move (%s): %s owns the partition already", m, m.To)
		}
		row[m.Slot] = m.To
		rows[m.Partition] = row
	}
	for p := range touched {
		rows[p] = slices.DeleteFunc(rows[p], func(id string) bool { return id == "" })
	}
	return Table{rows: rows}, nil
}

// Copies is the number of moves that copy data.
func Copies(moves []Move) int {
	n := 0
	for _, m := range moves {
		if m.To != "" {
			n++
		}
	}
	return n
}

// MovedShare is the part of the next table's copies that moves have to bring,
// 0..1.
func MovedShare(next Table, moves []Move) float64 {
	total := next.Copies()
	if total == 0 {
		return 0
	}
	return float64(Copies(moves)) / float64(total)
}

// Traffic estimates what moves carry, in bytes.
type Traffic struct {
	Total   uint64
	In, Out map[string]uint64 // by node; a slot without an owner before counts as In only
}

// EstimateTraffic adds up moves, given the bytes that one copy of a partition
// takes.
func EstimateTraffic(moves []Move, bytes func(Partition) uint64) Traffic {
	t := Traffic{In: make(map[string]uint64), Out: make(map[string]uint64)}
	for _, m := range moves {
		if m.To == "" {
			continue
		}
		n := bytes(m.Partition)
		t.Total += n
		t.In[m.To] += n
		if m.From != "" {
			t.Out[m.From] += n
		}
	}
	return t
}
