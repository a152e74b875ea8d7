package topology

import (
	"strconv"

	"github.com/atolldb/atoll/hashring"
)

// MoveID names a move for ever within a region, from 1.
type MoveID uint64

// TaskID names a task for ever within a region, from 1.
type TaskID uint64

// Stage of a move.
type Stage uint8

// The stages of a move. The numbers are disk format. After Switched the table
// has the new owner and the move is gone; the old owner then deletes what it
// holds, on its own.
const (
	Planned  Stage = 0 // nothing has changed yet
	Copying  Stage = 1 // writes go to both, reads to the old owner
	Switched Stage = 2 // writes go to both, reads to the new owner
)

func (s Stage) String() string {
	switch s {
	case Planned:
		return "planned"
	case Copying:
		return "copying"
	case Switched:
		return "switched"
	}
	return "stage " + strconv.Itoa(int(s))
}

// Move hands one slot of a partition from one node to another.
type Move struct {
	ID        MoveID
	Task      TaskID
	Partition hashring.Partition
	// Slot is the place of From in the partition's row of the table; without
	// From, the place behind them that To takes.
	Slot int
	// From is empty for a slot that is new, To for one that goes away.
	From, To NodeID
	Stage    Stage
	// Began is the epoch at which the stage began.
	Began Epoch
}

// Kind of a task.
type Kind uint8

// The kinds of tasks. The numbers are disk format.
const (
	KindRebalance Kind = 0 // weights, racks, replicas
	KindJoin      Kind = 1
	KindDrain     Kind = 2
	KindReplace   Kind = 3 // another node takes a dead one's place
)

func (k Kind) String() string {
	switch k {
	case KindRebalance:
		return "rebalance"
	case KindJoin:
		return "join"
	case KindDrain:
		return "drain"
	case KindReplace:
		return "replace"
	}
	return "kind " + strconv.Itoa(int(k))
}

// Task is a committed plan: the moves that serve one decision of an operator.
type Task struct {
	ID   TaskID
	Kind Kind
	// Nodes that the decision was about.
	Nodes []NodeID
	// Moves and Bytes that the plan had when it was committed; the bytes are
	// an estimate.
	Moves int
	Bytes uint64
	// Begun and Ended in Unix milliseconds; Ended is 0 while it runs.
	Begun, Ended int64
	// Paused: no move of it changes its stage, and nothing is copied.
	Paused bool
	// Aborted: its moves that were not switched were taken back.
	Aborted bool
	// AcceptLoss: a copy may be made from fewer sources than safety asks for
	// (an operator's decision; see transition.go).
	AcceptLoss bool
}

// MaxDone is how many tasks that have ended a topology remembers.
const MaxDone = 16

// Slot is one of a partition's places for a copy.
type Slot struct {
	// Owner of the slot, and Next, the node that takes it over; Next is empty
	// for a stable slot.
	Owner, Next NodeID
	Stage       Stage
}

// Serves is the node that answers reads for the slot and may mint.
func (s Slot) Serves() NodeID {
	if s.Next != "" && s.Stage == Switched {
		return s.Next
	}
	return s.Owner
}

// Moving reports whether two nodes must take a write for the slot to count.
func (s Slot) Moving() bool { return s.Next != "" }

// Other is the node of a moving slot that does not serve, "" of a stable one.
func (s Slot) Other() NodeID {
	switch {
	case s.Next == "":
		return ""
	case s.Stage == Switched:
		return s.Owner
	}
	return s.Next
}

// Row is who takes part in the operations of one partition.
type Row struct {
	// Slots count: R and W are numbers of slots, N is their length. A slot in
	// transition counts towards W only when both its nodes acknowledged.
	Slots []Slot
	// Extra is a node that gets every write and whose answer does not count:
	// the owner-to-be of a slot that is being added, or the last owner of one
	// that goes away. Empty for none.
	Extra NodeID
}

// Role of a node in a partition.
type Role uint8

// The roles.
const (
	// None: the node has nothing to do with the partition. It may still hold
	// data of it, which it gives to whoever asks before it deletes it.
	None Role = iota
	// Pending: it takes writes, and answers no reads and mints nothing, because
	// it does not have everything yet.
	Pending
	// Serving: it takes writes, answers reads and mints.
	Serving
	// Parting: it takes writes; reads go to its successor, as does minting.
	Parting
)

// Mints reports whether a node of that role mints, or did before the partition's last
// change: only it can have begun what others do not know of.
func (r Role) Mints() bool { return r == Serving || r == Parting }

// Row of p. Its slices are shared.
func (t *Topology) Row(p hashring.Partition) Row { return t.allRows()[p] }

func (t *Topology) allRows() []Row {
	if rows := t.rows.Load(); rows != nil {
		return *rows
	}
	rows := make([]Row, t.Table.Partitions())
	for p, owners := range t.Table.All() {
		slots := make([]Slot, len(owners), len(owners)+1)
		for i, o := range owners {
			slots[i] = Slot{Owner: NodeID(o)}
		}
		rows[p] = Row{Slots: slots}
	}
	for _, m := range t.Moves {
		if m.Stage != Planned && int(m.Partition) < len(rows) {
			rows[m.Partition].move(m)
		}
	}
	t.rows.Store(&rows)
	return rows
}

// move puts a move that is under way into the row.
func (r *Row) move(m Move) {
	switch {
	case m.From == "" && m.Stage == Switched:
		r.Slots = append(r.Slots, Slot{Owner: m.To})
	case m.From == "":
		r.Extra = m.To
	case m.Slot >= len(r.Slots):
		// Validate refuses such a topology.
	case m.To == "" && m.Stage == Switched:
		r.Extra = m.From
		r.Slots = append(r.Slots[:m.Slot:m.Slot], r.Slots[m.Slot+1:]...)
	case m.To != "":
		r.Slots[m.Slot].Next, r.Slots[m.Slot].Stage = m.To, m.Stage
	}
}

// Role of node id in p.
func (t *Topology) Role(p hashring.Partition, id NodeID) Role {
	row := t.Row(p)
	for _, s := range row.Slots {
		switch {
		case s.Serves() == id:
			return Serving
		case s.Other() == id && s.Stage == Switched:
			return Parting
		case s.Other() == id:
			return Pending
		}
	}
	if id != "" && row.Extra == id {
		for _, o := range t.Owners(p) {
			if o == string(id) {
				return Parting
			}
		}
		return Pending
	}
	return None
}

// Takers returns every node that takes writes of p: those of all slots, and
// Extra.
func (t *Topology) Takers(p hashring.Partition) []NodeID {
	row := t.Row(p)
	out := make([]NodeID, 0, len(row.Slots)+1)
	for _, s := range row.Slots {
		out = append(out, s.Owner)
		if s.Next != "" {
			out = append(out, s.Next)
		}
	}
	if row.Extra != "" {
		out = append(out, row.Extra)
	}
	return out
}
