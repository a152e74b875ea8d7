package topology

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"

	"github.com/atolldb/atoll/hashring"
)

// movesPerTask is above the moves of any task; ids of moves are made from it.
const movesPerTask = 4 * maxMoves

// PlanOptions are what a plan takes besides the change.
type PlanOptions struct {
	// Bytes that one copy of a partition takes; nil for unknown.
	Bytes func(hashring.Partition) uint64
	// AcceptLoss: see Task.
	AcceptLoss bool
	// Now in Unix milliseconds.
	Now int64
}

// Proposal is what a change takes. To commit it is to Swap Next for the
// topology that it was planned on.
type Proposal struct {
	// Next has the task with its moves, all planned. When nothing has to move
	// the task has ended.
	Next  *Topology
	Task  Task
	Moves []Move
	// Target is the table when all moves are done. (The order of owners may
	// come out different, as evenly spread.)
	Target hashring.Table
	// Copies that the moves make, and the least that any balanced table would
	// take if racks forbade nothing.
	Copies, Minimum int
	// Traffic of the copies, estimated.
	Traffic hashring.Traffic
	// Fair is how many partitions each node would own if they could be split.
	Fair map[string]float64
	// Warnings for whoever is to decide.
	Warnings []string
}

// Ratio of the copies to the least: 1 is the best. It is 1 when nothing moves.
func (p Proposal) Ratio() float64 {
	if p.Minimum == 0 {
		return float64(max(p.Copies, 1))
	}
	return float64(p.Copies) / float64(p.Minimum)
}

// Digest tells plans apart.
func (p Proposal) Digest() uint64 {
	h := fnv.New64a()
	var b []byte
	for _, m := range p.Moves {
		b = binary.BigEndian.AppendUint16(b[:0], uint16(m.Partition))
		b = append(b, byte(m.Slot), byte(len(m.From)))
		b = append(append(b, m.From...), m.To...)
		h.Write(append(b, 0))
	}
	return h.Sum64()
}

// PlanChange plans a change of t, which it leaves as it is. Its errors are
// *Refused, or say what the planner refuses.
//
// While a task runs, only a change that leaves its partitions alone can be
// planned: then both run side by side.
func PlanChange(t *Topology, c Change, opt PlanOptions) (Proposal, error) {
	d := t.draft()
	task, err := c.apply(d)
	if err != nil {
		return Proposal{}, fmt.Errorf("plan change: %w", err)
	}
	task.ID, task.Begun, task.AcceptLoss = d.nextTask(), opt.Now, opt.AcceptLoss
	var joining []NodeID
	if task.Kind == KindJoin || task.Kind == KindReplace {
		joining = task.Nodes
	}
	ring := d.ring(joining...)
	settled, err := t.settled()
	if err != nil {
		return Proposal{}, fmt.Errorf("plan change: %w", err)
	}
	plan, err := hashring.Plan(settled, ring, d.Rules)
	if err != nil {
		return Proposal{}, fmt.Errorf("plan change: %w", err)
	}
	if err := t.free(plan.Moves); err != nil {
		return Proposal{}, fmt.Errorf("plan change: %w", err)
	}
	if len(plan.Moves)+len(t.Moves) > maxMoves {
		return Proposal{}, errors.New("plan change: too many moves at a time")
	}
	out := Proposal{Target: plan.Next, Copies: hashring.Copies(plan.Moves)}
	if opt.Bytes == nil {
		opt.Bytes = func(hashring.Partition) uint64 { return 0 }
	}
	out.Traffic = hashring.EstimateTraffic(plan.Moves, opt.Bytes)
	if out.Minimum, err = hashring.MinimumMoves(settled, ring, d.Rules); err != nil {
		return Proposal{}, fmt.Errorf("plan change: %w", err)
	}
	ideal, err := hashring.Optimum(ring, d.Rules)
	if err != nil {
		return Proposal{}, fmt.Errorf("plan change: %w", err)
	}
	out.Fair = ideal.Fair
	for i, m := range ordered(plan.Moves) {
		out.Moves = append(out.Moves, Move{
			ID: MoveID(uint64(task.ID)*movesPerTask + uint64(i)), Task: task.ID, Partition: m.Partition,
			Slot: m.Slot, From: NodeID(m.From), To: NodeID(m.To), Began: d.Epoch,
		})
	}
	task.Moves, task.Bytes = len(out.Moves), out.Traffic.Total
	d.Moves = append(d.Moves, out.Moves...)
	d.Tasks = append(d.Tasks, task)
	d.settle(Facts{Now: opt.Now})
	out.Next, out.Task = d.Topology, *d.Task(task.ID)
	out.warn(t, ideal, task)
	return out, nil
}

// ordered puts, within a partition, what copies before what only goes away, so
// that no partition ever has fewer owners than before and after.
func ordered(moves []hashring.Move) []hashring.Move {
	out := slices.Clone(moves)
	slices.SortStableFunc(out, func(a, b hashring.Move) int {
		if a.Partition != b.Partition {
			return int(a.Partition) - int(b.Partition)
		}
		return rank(a) - rank(b)
	})
	return out
}

func rank(m hashring.Move) int {
	if m.To == "" {
		return 1
	}
	return 0
}

// nextTask returns an id that no task had. The tasks that ended last are
// remembered, so the highest is known.
func (t *Topology) nextTask() TaskID {
	last := TaskID(0)
	for _, task := range t.Tasks {
		last = max(last, task.ID)
	}
	return last + 1
}

// settled is the table when all moves that are planned or under way are done.
func (t *Topology) settled() (hashring.Table, error) {
	moves := make([]hashring.Move, len(t.Moves))
	for i, m := range t.Moves {
		moves[i] = hashring.Move{Partition: m.Partition, Slot: m.Slot, From: string(m.From), To: string(m.To)}
	}
	return hashring.Apply(t.Table, moves)
}

// free refuses moves of partitions that a task still moves.
func (t *Topology) free(moves []hashring.Move) error {
	mine := map[hashring.Partition]bool{}
	for _, m := range moves {
		mine[m.Partition] = true
	}
	clash := map[hashring.Partition]bool{}
	var by TaskID
	for _, m := range t.Moves {
		if mine[m.Partition] {
			clash[m.Partition], by = true, m.Task
		}
	}
	if len(clash) == 0 {
		return nil
	}
	what := ""
	if task := t.Task(by); task != nil {
		what = fmt.Sprintf(" (%s %s)", task.Kind, join(task.Nodes))
	}
	return refuse("task", "no task that moves the same partitions", fmt.Sprint(uint64(by)),
		"task %d%s still moves %d of the partitions: wait for it, or abort it", by, what, len(clash))
}

// warn says what the operator should know.
func (p *Proposal) warn(t *Topology, ideal hashring.Ideal, task Task) {
	if task.AcceptLoss {
		p.Warnings = append(p.Warnings, "copies may be made from fewer owners than an acknowledged write is safe with: writes that only dead nodes hold are lost")
	}
	if ideal.Copies < p.Next.Rules.Replicas {
		p.Warnings = append(p.Warnings, fmt.Sprintf("%d nodes give each partition %d owners, not %d", len(p.Fair), ideal.Copies, p.Next.Rules.Replicas))
	}
	if ideal.RackLimit > 1 && ideal.Copies > 1 {
		p.Warnings = append(p.Warnings, fmt.Sprintf("up to %d owners of a partition share a rack", ideal.RackLimit))
	}
	if p.Minimum > 0 && p.Ratio() > 1.05 {
		p.Warnings = append(p.Warnings, fmt.Sprintf("racks make it copy %d partitions where %d would do", p.Copies, p.Minimum))
	}
	if len(t.Moves) > 0 && len(p.Moves) > 0 {
		p.Warnings = append(p.Warnings, "another task is still running: both share the pace")
	}
}
