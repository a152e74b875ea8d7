package handoff

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/atolldb/atoll/node/topology"
)

// View tells how far the region's tasks are. Any node can.
type View struct {
	cfg    Config
	deps   Deps
	copier *Copier
}

// NewView returns a view. copier is that of this node.
func NewView(cfg Config, deps Deps, copier *Copier) *View {
	return &View{cfg: cfg.filled(), deps: deps, copier: copier}
}

// Task is a task and how far it is.
type Task struct {
	topology.Task
	// Moves at each stage; with those done (or taken back) they are Task.Moves.
	Planned, Copying, Switched, Done int
	// BytesDone of Task.Bytes, an estimate as that is.
	BytesDone uint64
	// Rate in bytes a second, 0 when nothing is copied now.
	Rate uint64
	// Left at this rate; negative when that is not known.
	Left time.Duration
	// WaitsFor says what moves that are under way, or cannot begin, wait for: at
	// most maxWaits reasons.
	WaitsFor []string
	// Received bytes for this task, and the Size of the copies that are complete
	// with their number: Received is above Size by what runs and by what came
	// more than once. They count since the nodes were started that received.
	Received, Size, Copies uint64
	// Silent nodes did not answer: what they received is not counted.
	Silent []topology.NodeID
}

const maxWaits = 8

// Tasks that run, and those that ended last, by id. It asks the region's nodes,
// and counts what those say that answer within a second.
func (v *View) Tasks(ctx context.Context) []Task {
	top := v.deps.Replica.Topology()
	if len(top.Tasks) == 0 {
		return nil
	}
	ctx, stop := context.WithTimeout(ctx, time.Second)
	asks := newAsker(v.cfg, v.deps, v.copier)
	defer asks.all.Wait()
	defer stop()
	nodes := map[topology.NodeID]bool{}
	for _, id := range top.Present() {
		nodes[id] = true
	}
	asks.round(ctx, nil, nodes, time.Second)
	facts, reports := asks.facts(), asks.reports()
	out := make([]Task, len(top.Tasks))
	for i, task := range top.Tasks {
		out[i] = assemble(top, task, facts, reports)
		for id := range nodes {
			if _, ok := facts.Durable[id]; !ok {
				out[i].Silent = append(out[i].Silent, id)
			}
		}
		slices.Sort(out[i].Silent)
	}
	return out
}

// assemble puts one task together.
func assemble(top *topology.Topology, task topology.Task, facts topology.Facts, reports map[topology.NodeID]Report) Task {
	out := Task{Task: task, Left: -1}
	share := map[topology.MoveID]float64{} // of its bytes that came
	for _, r := range reports {
		for _, p := range r.Copies {
			if p.Total > 0 {
				share[p.Move] = max(share[p.Move], min(1, float64(p.Bytes)/float64(p.Total)))
			}
		}
		for _, got := range r.Received {
			if got.Task == task.ID {
				out.Received += got.Bytes
				out.Size += got.Size
				out.Copies += got.Copies
				out.Rate += got.Rate
			}
		}
	}
	moves := top.MovesOf(task.ID)
	done := float64(task.Moves - len(moves))
	for _, m := range moves {
		switch m.Stage {
		case topology.Planned:
			out.Planned++
		case topology.Copying:
			out.Copying++
			done += share[m.ID]
		case topology.Switched:
			out.Switched++
			done++
		}
	}
	out.Done = task.Moves - len(moves)
	if task.Moves > 0 {
		out.BytesDone = uint64(float64(task.Bytes) * done / float64(task.Moves))
	}
	if task.Ended != 0 {
		out.BytesDone, out.Rate, out.Left = task.Bytes, 0, 0
		return out
	}
	if out.Rate > 0 {
		out.Left = time.Duration(float64(task.Bytes-out.BytesDone) / float64(out.Rate) * float64(time.Second))
	}
	out.WaitsFor = append(waits(top, moves, facts), behind(moves, facts)...)
	if len(moves) == 0 {
		out.WaitsFor = top.Stays(task, facts)
	}
	return out
}

// behind tells of sources that have nothing to give before they have caught up
// themselves: where they wait for one that is dead a task stands still for ever.
func behind(moves []topology.Move, facts topology.Facts) []string {
	var out []string
	for _, m := range moves {
		for _, s := range facts.Synced[m.ID] {
			if s.Began != m.Began {
				continue
			}
			for _, id := range s.Behind {
				why := fmt.Sprintf("%s to catch up itself, which %s copies from ('atoll status' says whether it goes on)", id, s.Sink)
				if len(out) < maxWaits && !slices.Contains(out, why) {
					out = append(out, why)
				}
			}
		}
	}
	slices.Sort(out)
	return out
}

// waits collects what a task's moves wait for.
func waits(top *topology.Topology, moves []topology.Move, facts topology.Facts) []string {
	var out []string
	for _, m := range moves {
		for _, why := range top.Waits(m, facts) {
			if len(out) < maxWaits && !slices.Contains(out, why) {
				out = append(out, why)
			}
		}
	}
	slices.Sort(out)
	return out
}
