package handoff_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/node/topology"
)

// preload writes keys before anything moves.
func (w *world) preload(n int) {
	w.t.Helper()
	for i := range n {
		if !w.put(w.nodes["n1"], fmt.Sprint("old", i)) {
			w.t.Fatal("preload failed")
		}
	}
}

func (w *world) loaded(n int) {
	w.t.Helper()
	for i := range n {
		if found, ok := w.get(w.pick(w.rng), fmt.Sprint("old", i)); !found || !ok {
			w.t.Errorf("old%d: found %t, answered %t", i, found, ok)
		}
	}
}

// task as any node tells it.
func (w *world) task(id topology.TaskID) (out struct {
	Received, Size, Copies uint64
	Done                   int
	BytesDone              uint64
	Bytes                  uint64
}) {
	w.t.Helper()
	for _, t := range w.pick(w.rng).run.Load().view.Tasks(context.Background()) {
		if t.ID == id {
			out.Received, out.Size, out.Copies, out.Done, out.BytesDone, out.Bytes = t.Received, t.Size, t.Copies, t.Done, t.BytesDone, t.Bytes
			if len(t.Silent) > 0 {
				w.t.Logf("silent: %v", t.Silent)
			}
		}
	}
	return out
}

// Everything that operators do with nodes that are well: nothing fails, nothing
// is lost, and what is copied is copied once.
func TestChangesUnderTraffic(t *testing.T) {
	for name, c := range map[string]struct {
		nodes, spare, replicas int
		changes                []topology.Change
	}{
		"join a fourth":     {3, 1, 3, []topology.Change{topology.Join{Nodes: []topology.NodeID{"n4"}}}},
		"join two":          {3, 2, 3, []topology.Change{topology.Join{Nodes: []topology.NodeID{"n4", "n5"}}}},
		"drain":             {5, 0, 3, []topology.Change{topology.Drain{Nodes: []topology.NodeID{"n2"}}}},
		"replace":           {3, 1, 3, []topology.Change{topology.Replace{Dead: "n1", By: "n4"}}},
		"weight":            {4, 0, 3, []topology.Change{topology.Weight{Nodes: []topology.NodeID{"n1"}, Weight: 3}}},
		"rack":              {6, 0, 3, []topology.Change{topology.Rack{Nodes: []topology.NodeID{"n4"}, Rack: "r1"}, topology.Rack{Nodes: []topology.NodeID{"n4"}, Rack: "r0"}}},
		"one to three":      {1, 2, 3, []topology.Change{topology.Join{Nodes: []topology.NodeID{"n2"}}, topology.Join{Nodes: []topology.NodeID{"n3"}}}},
		"one to three, one": {1, 2, 3, []topology.Change{topology.Join{Nodes: []topology.NodeID{"n2", "n3"}}}},
		"fewer replicas":    {4, 0, 3, []topology.Change{topology.Replicas{Replicas: 2}, topology.Replicas{Replicas: 1}, topology.Replicas{Replicas: 3}}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, c.nodes, c.spare, c.replicas)
				w.preload(200)
				x := w.traffic()
				w.pass(time.Second)
				for _, change := range c.changes {
					begun := time.Now()
					p := w.commit(change)
					w.settle(5 * time.Minute)
					got := w.task(p.Task.ID)
					t.Logf("%d copies (least %d) in %v, %d bytes for %d", p.Copies, p.Minimum, time.Since(begun).Round(100*time.Millisecond), got.Received, got.Size)
					if int(got.Copies) != p.Copies {
						t.Errorf("%d copies of %d", got.Copies, p.Copies)
					}
					if p.Copies > 0 && (got.Size == 0 || float64(got.Received) > 1.05*float64(got.Size)) {
						t.Errorf("received %d bytes for %d", got.Received, got.Size)
					}
				}
				x.end()
				if x.failed > 0 {
					t.Errorf("%d operations failed, %d writes and %d reads did not", x.failed, len(x.acked), x.reads)
				}
				w.loaded(200)
				w.balanced(w.stored())
			})
		})
	}
}
