package topology

import (
	"fmt"
	"slices"
)

// Refused says why a change of the topology makes no sense. Nothing was
// changed.
type Refused struct {
	// Field of the request that is refused, what it would have to be, and what
	// it is.
	Field, Limit, Seen string
	Detail             string
}

func (r *Refused) Error() string { return r.Detail }

// runs finds a task that has not ended.
func (d *draft) runs(id TaskID) (*Task, error) {
	task := d.Task(id)
	no := &Refused{Field: "task", Limit: "a task that runs", Seen: fmt.Sprint(uint64(id))}
	switch {
	case task == nil:
		no.Detail = fmt.Sprintf("there is no task %d", id)
	case task.Ended != 0:
		no.Detail = fmt.Sprintf("task %d has ended", id)
	default:
		return task, nil
	}
	return nil, no
}

// Abort takes back the moves of a task that were not switched: what was copied
// for them is left to be deleted. Those that were switched go on to their end,
// and with the last of them the task ends. Members that were to leave stay.
// Weights, racks and the number of replicas that the task was about remain
// changed; a Rebalance carries on with them later.
//
// It needs no guard: until the switch every acknowledged write is where it
// would be without the move, and every read went there.
func (t *Topology) Abort(id TaskID, now int64) (*Topology, error) {
	d := t.draft()
	task, err := d.runs(id)
	if err != nil {
		return nil, fmt.Errorf("abort task: %w", err)
	}
	task.Aborted, task.Paused = true, false
	for _, m := range t.Moves {
		if m.Task != id || m.Stage == Switched {
			continue
		}
		d.drop(m.ID)
		if m.Stage == Copying {
			d.touch(m.Partition)
		}
		d.place(m.Partition)
	}
	for _, n := range task.Nodes {
		if m := d.Member(n); m != nil && m.State == Draining {
			m.State = Up
		}
	}
	d.settle(Facts{Now: now})
	return d.Topology, nil
}

// Pause stops a task's copies, and its moves stay in their stages until Resume.
// It returns t when the task is paused already.
func (t *Topology) Pause(id TaskID) (*Topology, error) { return t.pause(id, true) }

// Resume undoes Pause.
func (t *Topology) Resume(id TaskID) (*Topology, error) { return t.pause(id, false) }

func (t *Topology) pause(id TaskID, paused bool) (*Topology, error) {
	d := t.draft()
	task, err := d.runs(id)
	if err != nil {
		return nil, err
	}
	if task.Paused == paused {
		return t, nil
	}
	task.Paused = paused
	return d.Topology, nil
}

// SetPace changes the pace of all moves; what is 0 stays as it is. It returns t
// when that changes nothing.
func (t *Topology) SetPace(p Pace) (*Topology, error) {
	if p.Concurrent < 0 {
		return nil, &Refused{Field: "concurrent", Limit: "1 or more", Seen: fmt.Sprint(p.Concurrent), Detail: "a pace below zero"}
	}
	d := t.draft()
	if p.BytesPerSecond != 0 {
		d.Pace.BytesPerSecond = p.BytesPerSecond
	}
	if p.Concurrent != 0 {
		d.Pace.Concurrent = p.Concurrent
	}
	if d.Pace == t.Pace {
		return t, nil
	}
	return d.Topology, nil
}

// MovesOf returns the moves of a task that are not over.
func (t *Topology) MovesOf(id TaskID) []Move {
	return slices.DeleteFunc(slices.Clone(t.Moves), func(m Move) bool { return m.Task != id })
}
