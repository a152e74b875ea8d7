package handoff_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/node/topology"
)

// A dead node is replaced one partition after the other: only the first copy
// waits for it, and the rest takes as long as the copies do.
func TestReplacingTheDeadWaitsOnce(t *testing.T) {
	for name, die := range map[string]func(*world){
		"refuses": func(w *world) { w.nodes["n1"].halt(true) },
		"silent": func(w *world) {
			w.fabric.Partition([]topology.NodeID{"n1"}, []topology.NodeID{"n2", "n3", "n4"})
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 3, 1, 3)
				w.preload(200)
				w.change(func(t *topology.Topology) (*topology.Topology, error) {
					return t.SetPace(topology.Pace{Concurrent: 1})
				})
				die(w)
				begun := time.Now()
				w.commit(topology.Replace{Dead: "n1", By: "n4"})
				w.settle(10 * time.Minute)
				took := time.Since(begun)
				t.Logf("%d partitions one by one in %v", partitions, took.Round(100*time.Millisecond))
				// 30 s until it is taken for dead, 10 s for another leader, and less than a
				// second for the stages of each.
				if took > 40*time.Second+partitions*time.Second {
					t.Errorf("took %v", took)
				}
				w.fabric.HealAll()
				w.nodes["n1"].start()
				w.loaded(200)
				w.balanced(w.stored())
			})
		})
	}
}
