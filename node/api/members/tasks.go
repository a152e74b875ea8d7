package members

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/atolldb/atoll/node/api"
	"github.com/atolldb/atoll/node/topology"
)

const (
	// storePatience is how long the tasks wait for the store, before they are
	// told by what this node knows.
	storePatience = time.Second
	// sampleBeat is the least time that a rate is taken over.
	sampleBeat = time.Second
	// mostWaits bounds how many reasons are told.
	mostWaits = 5
)

// Tasks implements api.Membership. It answers when the store does not.
func (m *Members) Tasks(ctx context.Context) ([]api.Task, error) {
	t := m.newest(ctx)
	var view View
	if len(t.Moves) > 0 {
		view = m.Look(ctx, t)
	}
	now := m.Now()
	tasks := make([]api.Task, 0, len(t.Tasks))
	for _, task := range t.Tasks {
		tasks = append(tasks, m.tell(t, task, view, now))
	}
	slices.SortFunc(tasks, func(a, b api.Task) int { return cmp.Compare(a.ID, b.ID) })
	m.forget(t)
	return tasks, nil
}

// newest of what is stored and what is in force here.
func (m *Members) newest(ctx context.Context) *topology.Topology {
	ctx, cancel := context.WithTimeout(ctx, storePatience)
	defer cancel()
	t := m.Topology()
	if stored, _, err := m.load(ctx); err == nil && stored.Epoch > t.Epoch {
		return stored
	}
	return t
}

// tell how far a task is.
func (m *Members) tell(t *topology.Topology, task topology.Task, view View, now time.Time) api.Task {
	out := api.Task{Task: task, Left: -1}
	if task.Ended != 0 {
		out.Left = 0
		if !task.Aborted {
			out.Done, out.BytesDone = task.Moves, task.Bytes
		}
		return out
	}
	moves := t.MovesOf(task.ID)
	each := uint64(0)
	if task.Moves > 0 {
		each = task.Bytes / uint64(task.Moves)
	}
	for _, mv := range moves {
		switch mv.Stage {
		case topology.Planned:
			out.Planned++
		case topology.Copying:
			out.Copying++
			out.BytesDone += min(view.Copied[mv.ID], each)
		case topology.Switched:
			out.Switched++
			out.BytesDone += each
		}
	}
	if !task.Aborted { // of one that was, nobody knows how many were taken back
		out.Done = max(task.Moves-len(moves), 0)
		out.BytesDone += uint64(out.Done) * each
	}
	if task.Paused {
		m.rate(task, 0, now) // the pause is no time of slow work
		return out
	}
	out.Rate = m.rate(task, out.BytesDone, now)
	if out.Rate > 0 {
		left := float64(task.Bytes-min(out.BytesDone, task.Bytes)) / float64(out.Rate)
		out.Left = time.Duration(left * float64(time.Second))
		return out
	}
	out.WaitsFor = waits(t, moves, view)
	return out
}

// sample of how far a task was.
type sample struct {
	at   time.Time
	done uint64
	rate uint64
}

// rate of a task, in bytes a second: since the last time it was asked for, or
// since the task began. done 0 begins anew.
func (m *Members) rate(task topology.Task, done uint64, now time.Time) uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	last, ok := m.speed[task.ID]
	switch {
	case !ok && done > 0:
		last = sample{at: time.UnixMilli(task.Begun)}
	case done < last.done || done == 0: // another estimate, or a pause
		m.speed[task.ID] = sample{at: now, done: done}
		return 0
	}
	took := now.Sub(last.at)
	if took < sampleBeat {
		return last.rate
	}
	last.rate = uint64(float64(done-last.done) / took.Seconds())
	last.at, last.done = now, done
	m.speed[task.ID] = last
	return last.rate
}

// forget the samples of tasks that are over.
func (m *Members) forget(t *topology.Topology) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id := range m.speed {
		if task := t.Task(id); task == nil || task.Ended != 0 {
			delete(m.speed, id)
		}
	}
}

// waits says what keeps the moves where they are.
func waits(t *topology.Topology, moves []topology.Move, view View) []string {
	var out []string
	add := func(what string) {
		if len(out) < mostWaits && !slices.Contains(out, what) {
			out = append(out, what)
		}
	}
	for _, mv := range moves {
		if mv.Stage == topology.Planned {
			continue
		}
		for _, lack := range t.Guard(mv).Lacks(view.Facts, view.Facts.Synced[mv.ID]) {
			add(lack)
		}
	}
	if len(out) > 0 {
		return out
	}
	for _, mv := range moves {
		if _, answers := view.Facts.Durable[mv.To]; mv.To != "" && !answers {
			add(string(mv.To) + " to answer")
		}
	}
	return out
}
