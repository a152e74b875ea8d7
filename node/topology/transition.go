package topology

import (
	"fmt"
	"slices"

	"github.com/atolldb/atoll/hashring"
)

// Step is one change of one move, for logs and counters.
type Step struct {
	Move Move // as it was
	What StepKind
}

// StepKind says what happened to a move.
type StepKind uint8

// The kinds of steps.
const (
	Started  StepKind = iota // Planned -> Copying
	Retired                  // Copying -> Planned, because To is dead
	Switch                   // Copying -> Switched
	Finished                 // the table has it
)

func (k StepKind) String() string {
	return [...]string{"started", "put back", "switched", "finished"}[k]
}

// Advance returns the next topology, in which every move whose guard holds has
// gone on by one stage, and what has changed; nil when nothing has. Many moves
// advance in one epoch. t is not changed.
//
// A copy whose receiver is dead is taken back to planned: while it is under
// way its slot counts only with both nodes, so that the partition would live
// with one owner less for nothing.
func (t *Topology) Advance(f Facts) (*Topology, []Step) {
	d := t.draft()
	var steps []Step
	for _, m := range t.Moves {
		if task := t.Task(m.Task); task != nil && task.Paused || m.Stage == Planned {
			continue
		}
		met := len(t.Guard(m).Lacks(f, f.Synced[m.ID])) == 0
		switch {
		case m.Stage == Switched && met:
			d.finish(m)
			steps = append(steps, Step{m, Finished})
		case m.Stage == Copying && met:
			d.stage(m, Switched)
			steps = append(steps, Step{m, Switch})
		case m.Stage == Copying && f.Dead[m.To]:
			d.stage(m, Planned)
			steps = append(steps, Step{m, Retired})
		}
	}
	steps = append(steps, d.start(f)...)
	ended := d.settle(f)
	if len(steps) == 0 && !ended {
		return nil, nil
	}
	return d.Topology, steps
}

// draft is a topology that is being made from another.
type draft struct {
	*Topology
	table [][]string // its rows, once one has changed
}

// draft returns a copy with the next epoch.
func (t *Topology) draft() *draft {
	next := t.Clone()
	next.Epoch++
	return &draft{Topology: next}
}

// touch notes that who takes part in p has changed.
func (d *draft) touch(p hashring.Partition) {
	if n := d.Table.Partitions(); len(d.Since) != n {
		since := make([]Epoch, n)
		for i := range since {
			since[i] = d.SinceOf(hashring.Partition(i))
		}
		d.Since = since
	}
	d.Since[p] = d.Epoch
}

func (d *draft) find(id MoveID) int {
	return slices.IndexFunc(d.Moves, func(m Move) bool { return m.ID == id })
}

// stage brings m to a stage.
func (d *draft) stage(m Move, s Stage) {
	i := d.find(m.ID)
	d.Moves[i].Stage, d.Moves[i].Began = s, d.Epoch
	d.place(m.Partition)
	d.touch(m.Partition)
	if to := d.Member(m.To); s == Switched && to != nil && to.State == Joining {
		to.State = Up
	}
}

// finish puts the outcome of m into the table: To takes the place of From, and
// with it the primary's part if From had that.
func (d *draft) finish(m Move) {
	row := slices.Clone(d.Owners(m.Partition))
	switch {
	case m.From == "":
		row = append(row, string(m.To))
	case m.To == "":
		row = slices.Delete(row, m.Slot, m.Slot+1)
	default:
		row[m.Slot] = string(m.To)
	}
	d.setRow(m.Partition, row)
	d.drop(m.ID)
	d.place(m.Partition)
	d.touch(m.Partition)
}

// setRow changes a row of the table.
func (d *draft) setRow(p hashring.Partition, row []string) {
	if d.table == nil {
		d.table = make([][]string, 0, d.Table.Partitions())
		for _, owners := range d.Table.All() {
			d.table = append(d.table, owners)
		}
		d.Table = hashring.MakeTable(d.table)
	}
	d.table[p] = row
}

// drop removes a move.
func (d *draft) drop(id MoveID) {
	i := d.find(id)
	d.Moves = slices.Delete(d.Moves, i, i+1)
}

// place makes the slots of p's moves fit its row. Of those that add a slot, the
// one that is under way is next.
func (d *draft) place(p hashring.Partition) {
	row := d.Owners(p)
	fresh := len(row)
	for _, underWay := range []bool{true, false} {
		for i := range d.Moves {
			m := &d.Moves[i]
			switch {
			case m.Partition != p || (m.Stage != Planned) != underWay:
			case m.From != "":
				m.Slot = slices.Index(row, string(m.From))
			default:
				m.Slot = fresh
				fresh++
			}
		}
	}
}

// settle ends the tasks that have no moves left, lets members go that own
// nothing and keep nothing for others, and, when the last move is gone, spreads
// the primaries. It reports whether anything has changed.
func (d *draft) settle(f Facts) bool {
	running := map[TaskID]bool{}
	busy := map[NodeID]bool{}
	for _, m := range d.Moves {
		running[m.Task], busy[m.From], busy[m.To] = true, true, true
	}
	for _, task := range d.Tasks {
		for _, id := range d.leaving(task) {
			if d.stays(id, f, d.Epoch-1) != "" { // by what the draft is made of
				running[task.ID], busy[id] = true, true
			}
		}
	}
	changed := false
	for i := range d.Tasks {
		task := &d.Tasks[i]
		if task.Ended != 0 || running[task.ID] {
			continue
		}
		task.Ended, task.Paused, changed = max(f.Now, 1), false, true
		if task.Aborted || task.Kind != KindJoin && task.Kind != KindReplace {
			continue // another weight or rack brings nobody in
		}
		for _, id := range task.Nodes {
			if m := d.Member(id); m != nil && m.State == Joining {
				m.State = Up
			}
		}
	}
	if !changed {
		return false
	}
	holds := d.Table.Holdings()
	for i := range d.Members {
		if m := &d.Members[i]; m.State == Draining && !busy[m.ID] && holds[string(m.ID)].Owned == 0 {
			m.State = Left
		}
	}
	d.forget()
	if len(d.Moves) == 0 {
		d.spread()
	}
	return true
}

// leaving are the members that a task which runs takes out.
func (t *Topology) leaving(task Task) []NodeID {
	if task.Ended != 0 || task.Aborted {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(task.Nodes), func(id NodeID) bool {
		m := t.Member(id)
		return m == nil || m.State != Draining
	})
}

// Leaving are the members that leave, and whose word is waited for (Facts.Keeps).
func (t *Topology) Leaving() []NodeID {
	var out []NodeID
	for _, task := range t.Tasks {
		out = append(out, t.leaving(task)...)
	}
	return out
}

// Stays says what those wait for that a task takes out and that own nothing any more:
// a hint counts as an acknowledgement, and nobody hears a node that has left. The
// hints of one that is dead are lost with it, whatever is waited for.
func (t *Topology) Stays(task Task, f Facts) []string {
	var out []string
	for _, id := range t.leaving(task) {
		if why := t.stays(id, f, t.Epoch); why != "" {
			out = append(out, why)
		}
	}
	return out
}

func (t *Topology) stays(id NodeID, f Facts, since Epoch) string {
	k, told := f.Keeps[id]
	switch {
	case f.Dead[id]:
		return ""
	case !told || k.At < since:
		return fmt.Sprintf("%s to say whether it keeps hints", id)
	case len(k.For) > 0:
		return fmt.Sprintf("%s to hand over the hints that it keeps for %s", id, join(k.For))
	}
	return ""
}

// forget drops the oldest of the tasks that have ended.
func (d *draft) forget() {
	ended := 0
	for i := len(d.Tasks) - 1; i >= 0; i-- {
		if d.Tasks[i].Ended == 0 {
			continue
		}
		if ended++; ended > MaxDone {
			d.Tasks = slices.Delete(d.Tasks, i, i+1)
		}
	}
}

// spread orders the owners of each partition as the planner does, so that the
// primaries are even. Who owns what does not change, so that nobody has to
// know it. A table that is not what the planner wants, as after an abort, is
// left as it is.
func (d *draft) spread() {
	plan, err := hashring.Plan(d.Table, d.ring(), d.Rules)
	if err != nil || len(plan.Moves) > 0 {
		return
	}
	for p, row := range plan.Next.All() {
		if !slices.Equal(row, d.Owners(p)) {
			d.setRow(p, row)
		}
	}
}

// Task returns the task of that id, nil for none.
func (t *Topology) Task(id TaskID) *Task {
	for i := range t.Tasks {
		if t.Tasks[i].ID == id {
			return &t.Tasks[i]
		}
	}
	return nil
}
