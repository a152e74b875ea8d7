package handoff_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/node/topology"
)

// slowly makes moves take long: a few at a time, and a few kilobytes a second.
func (w *world) slowly() {
	w.change(func(t *topology.Topology) (*topology.Topology, error) {
		return t.SetPace(topology.Pace{BytesPerSecond: 20_000, Concurrent: 2})
	})
}

func (w *world) quickly() {
	w.change(func(t *topology.Topology) (*topology.Topology, error) {
		return t.SetPace(topology.Pace{BytesPerSecond: 1 << 30, Concurrent: 16})
	})
}

// What can go wrong during a join of n4, and what must be so afterwards all the
// same: everything acknowledged is there, and the table is balanced.
func TestFaults(t *testing.T) {
	join := topology.Join{Nodes: []topology.NodeID{"n4"}}
	replace := topology.Replace{Dead: "n1", By: "n4"}
	for name, c := range map[string]struct {
		before func(w *world)
		change topology.Change
		then   func(w *world)
	}{
		"the dead is replaced, and comes back": {
			func(w *world) { w.nodes["n1"].halt(true) }, replace,
			func(w *world) {
				w.settle(5 * time.Minute)
				w.nodes["n1"].start()
				w.pass(20 * time.Second)
				if w.stored().Member("n1").State != topology.Left {
					w.t.Error("n1 has not left")
				}
			},
		},
		"the dead comes back while it is replaced": {
			func(w *world) { w.nodes["n1"].halt(true) }, replace,
			func(w *world) {
				w.until("switched", 3*time.Minute, stage(topology.Switched))
				w.nodes["n1"].start()
			},
		},
		"one who is only cut off is replaced": {
			func(w *world) {
				w.fabric.Partition([]topology.NodeID{"n1"}, []topology.NodeID{"n2", "n3", "n4"})
			}, replace,
			func(w *world) {
				w.until("half way", 5*time.Minute, func(t *topology.Topology) bool { return len(t.Moves) <= partitions/2 })
				w.fabric.HealAll()
				w.settle(5 * time.Minute)
			},
		},
		"the receiver is away for long": {
			nil, join,
			func(w *world) {
				w.until("copying", time.Minute, stage(topology.Copying))
				w.nodes["n4"].halt(true)
				w.until("taken back", 2*time.Minute, func(t *topology.Topology) bool { return !stage(topology.Copying)(t) })
				w.pass(time.Minute)
				w.nodes["n4"].start()
			},
		},
		"the receiver is wiped": {
			nil, join,
			func(w *world) {
				for range 3 {
					w.until("copying", time.Minute, stage(topology.Copying))
					w.nodes["n4"].wipe()
					w.pass(time.Second)
					w.nodes["n4"].start()
					w.pass(time.Second)
				}
			},
		},
		"the receiver dies after the switch": {
			nil, join,
			func(w *world) {
				w.until("switched", time.Minute, stage(topology.Switched))
				w.nodes["n4"].halt(true)
				w.pass(2 * time.Minute)
				w.nodes["n4"].start()
			},
		},
		"the source dies and stays away for long": {
			nil, join,
			func(w *world) {
				w.until("copying", time.Minute, stage(topology.Copying))
				w.nodes["n1"].halt(true)
				w.settle(10 * time.Minute)
				w.nodes["n1"].start()
			},
		},
		"the source is wiped": {
			nil, join,
			func(w *world) {
				w.until("copying", time.Minute, stage(topology.Copying))
				w.nodes["n1"].wipe()
				w.pass(time.Second)
				w.nodes["n1"].start()
			},
		},
		"source and receiver die": {
			nil, join,
			func(w *world) {
				w.until("copying", time.Minute, stage(topology.Copying))
				w.nodes["n1"].halt(true)
				w.nodes["n4"].halt(true)
				w.pass(2 * time.Minute)
				w.nodes["n1"].start()
				w.pass(time.Minute)
				w.nodes["n4"].start()
			},
		},
		"the store is away": {
			nil, join,
			func(w *world) {
				w.until("copying", time.Minute, stage(topology.Copying))
				w.store.SetDown(true)
				time.Sleep(time.Minute)
				w.store.SetDown(false)
			},
		},
		"the store does not answer what it does": {
			nil, join,
			func(w *world) {
				for range 10 {
					w.pass(3 * time.Second)
					w.store.SetMute(true)
					time.Sleep(7 * time.Second)
					w.store.SetMute(false)
				}
			},
		},
		"paused": {
			nil, join,
			func(w *world) {
				w.until("copying", time.Minute, stage(topology.Copying))
				w.change(func(t *topology.Topology) (*topology.Topology, error) { return t.Pause(1) })
				w.pass(10 * time.Second)
				before, got := w.stored().Epoch, w.task(1).Received
				w.pass(2 * time.Minute)
				if w.stored().Epoch != before || w.task(1).Received != got {
					w.t.Error("a paused task goes on")
				}
				w.change(func(t *topology.Topology) (*topology.Topology, error) { return t.Resume(1) })
			},
		},
		"aborted": {
			nil, join,
			func(w *world) {
				w.until("some are done", time.Minute, func(t *topology.Topology) bool { return len(t.Moves) < 7 && stage(topology.Copying)(t) })
				w.change(func(t *topology.Topology) (*topology.Topology, error) { return t.Abort(1, time.Now().UnixMilli()) })
				top := w.settle(time.Minute)
				if !top.Tasks[0].Aborted || top.Table.Holdings()["n4"].Owned == 0 || top.Table.Holdings()["n4"].Owned > 5 {
					w.t.Errorf("task %+v, n4 has %+v", top.Tasks[0], top.Table.Holdings()["n4"])
				}
				w.pass(3 * time.Minute)
				if left := w.nodes["n4"].run.Load().Leftovers(); len(left) > 0 {
					w.t.Errorf("n4 keeps %v of what was taken back", left)
				}
				w.commit(topology.Rebalance{})
			},
		},
		"the new node never comes": {
			func(w *world) { w.nodes["n4"].halt(true) }, join,
			func(w *world) {
				before := w.stored().Epoch
				w.pass(2 * time.Minute)
				if top := w.stored(); top.Epoch != before {
					w.t.Errorf("epoch %d after %d", top.Epoch, before)
				}
				for _, task := range w.nodes["n1"].run.Load().view.Tasks(context.Background()) {
					if !slices.Equal(task.WaitsFor, []string{"n4 to answer"}) || task.Planned != task.Moves {
						w.t.Errorf("%+v", task)
					}
				}
				w.change(func(t *topology.Topology) (*topology.Topology, error) { return t.Abort(1, 1) })
				w.settle(time.Minute)
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 3, 1, 3)
				w.preload(500)
				w.slowly()
				if c.before != nil {
					c.before(w)
				}
				x := w.traffic()
				w.pass(time.Second)
				w.commit(c.change)
				c.then(w)
				w.quickly()
				w.settle(10 * time.Minute)
				x.end()
				got := w.task(1)
				t.Logf("%d writes and %d reads, %d failed; %d bytes received for %d", len(x.acked), x.reads, x.failed, got.Received, got.Size)
				w.loaded(500)
				w.balanced(w.stored())
			})
		})
	}
}

// The steward crashes at every stage, again and again; another one goes on.
func TestStewardCrashes(t *testing.T) {
	for _, s := range []topology.Stage{topology.Planned, topology.Copying, topology.Switched} {
		t.Run(s.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 3, 1, 3)
				w.preload(500)
				w.change(func(t *topology.Topology) (*topology.Topology, error) {
					return t.SetPace(topology.Pace{BytesPerSecond: 5000, Concurrent: 1})
				})
				x := w.traffic()
				w.commit(topology.Join{Nodes: []topology.NodeID{"n4"}})
				crashes := 0
				for crashes < 3 && len(w.stored().Moves) > 0 {
					if m := w.leader(); m != nil && stage(s)(w.stored()) {
						m.halt(true)
						crashes++
						w.pass(4 * time.Second)
						m.start()
						w.pass(8 * time.Second)
					}
					time.Sleep(5 * time.Millisecond)
				}
				if crashes < 3 {
					t.Errorf("%d crashes", crashes)
				}
				w.quickly()
				w.settle(5 * time.Minute)
				x.end()
				t.Logf("%d crashes, %d writes, %d reads, %d failed", crashes, len(x.acked), x.reads, x.failed)
				w.loaded(500)
				w.balanced(w.stored())
			})
		})
	}
}

// A slot whose only other owner is dead is moved only when loss is accepted.
func TestAcceptLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3, 1, 3)
		w.preload(50)
		w.pass(5 * time.Second)
		w.nodes["n1"].halt(true)
		w.nodes["n2"].halt(true)
		w.commit(topology.Replace{Dead: "n1", By: "n4"})
		w.pass(3 * time.Minute)
		if top := w.stored(); len(top.Moves) != partitions || stage(topology.Switched)(top) {
			t.Fatalf("%d moves left", len(top.Moves))
		}
		tasks := w.nodes["n3"].run.Load().view.Tasks(context.Background())
		if len(tasks) != 1 || len(tasks[0].WaitsFor) == 0 || !strings.Contains(strings.Join(tasks[0].WaitsFor, ";"), "n2") {
			t.Errorf("%+v", tasks)
		}
		w.change(func(t *topology.Topology) (*topology.Topology, error) { return t.Abort(1, 1) })
		w.commitWith(topology.Replace{Dead: "n1", By: "n4"}, topology.PlanOptions{AcceptLoss: true})
		w.settle(5 * time.Minute)
		w.loaded(50)
	})
}

// Two of three owners lost their disks, one of them is back with an empty one, and the
// other one is replaced: each would wait for the other for ever. Whoever has accepted the
// loss does not wait for one that has to catch up itself; and who has not is told.
func TestAcceptLossBesideOneThatCatchesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3, 1, 3)
		w.preload(50)
		w.pass(5 * time.Second)
		w.nodes["n1"].halt(true)
		w.nodes["n2"].wipe()
		w.nodes["n2"].start()
		w.commit(topology.Replace{Dead: "n1", By: "n4"})
		w.pass(3 * time.Minute)
		if top := w.stored(); len(top.Moves) != partitions || stage(topology.Switched)(top) {
			t.Fatalf("%d moves left", len(top.Moves))
		}
		tasks := w.nodes["n3"].run.Load().view.Tasks(context.Background())
		if len(tasks) != 1 || !strings.Contains(strings.Join(tasks[0].WaitsFor, ";"), "n2 to catch up itself, which n4 copies from") {
			t.Errorf("%+v", tasks)
		}
		w.change(func(t *topology.Topology) (*topology.Topology, error) { return t.Abort(1, 1) })
		w.commitWith(topology.Replace{Dead: "n1", By: "n4"}, topology.PlanOptions{AcceptLoss: true})
		w.settle(5 * time.Minute)
		w.loaded(50)
	})
}

// Random changes and faults, one node down at a time.
func TestRandomFaults(t *testing.T) {
	seeds := 5
	if testing.Short() {
		seeds = 2
	}
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rng := rand.New(rand.NewPCG(seed, 3))
				w := newWorld(t, 3+rng.IntN(2), 2, 3)
				w.preload(50)
				w.slowly()
				x := w.traffic()
				w.pass(time.Second)
				for range 3 {
					top := w.stored()
					change := randomChange(rng, top)
					p, err := topology.PlanChange(top, change, topology.PlanOptions{})
					if err != nil || len(p.Moves) == 0 {
						continue
					}
					w.commit(change)
					for range 3 {
						time.Sleep(time.Duration(rng.IntN(4000)) * time.Millisecond)
						m := w.order[rng.IntN(len(w.order))]
						if rng.IntN(4) == 0 && w.stored().Member(m.id).State == topology.Joining {
							m.wipe()
						} else {
							m.halt(rng.IntN(2) == 0)
						}
						time.Sleep(time.Duration(rng.IntN(60)) * time.Second)
						m.start()
						time.Sleep(3 * time.Second)
					}
					if rng.IntN(4) == 0 {
						if next, err := w.stored().Abort(p.Task.ID, 1); err == nil && next != nil {
							w.change(func(t *topology.Topology) (*topology.Topology, error) {
								if t.Task(p.Task.ID).Ended != 0 {
									return t.SetPace(topology.Pace{Concurrent: t.Pace.Filled().Concurrent%3 + 1})
								}
								return t.Abort(p.Task.ID, 1)
							})
						}
					}
					w.quickly()
					w.settle(10 * time.Minute)
					w.slowly()
				}
				w.quickly()
				if p, err := topology.PlanChange(w.stored(), topology.Rebalance{}, topology.PlanOptions{}); err == nil && len(p.Moves) > 0 {
					w.commit(topology.Rebalance{})
					w.settle(10 * time.Minute)
				}
				x.end()
				t.Logf("%d writes, %d reads, %d failed, epoch %d", len(x.acked), x.reads, x.failed, w.stored().Epoch)
				w.loaded(50)
				w.balanced(w.stored())
			})
		})
	}
}

func randomChange(rng *rand.Rand, top *topology.Topology) topology.Change {
	var up, joining []topology.NodeID
	for _, m := range top.Members {
		switch m.State {
		case topology.Up:
			up = append(up, m.ID)
		case topology.Joining:
			joining = append(joining, m.ID)
		}
	}
	who := []topology.NodeID{up[rng.IntN(len(up))]}
	switch k := rng.IntN(5); {
	case k == 0 && len(joining) > 0:
		return topology.Join{Nodes: joining[:1]}
	case k == 1 && len(joining) > 0:
		return topology.Replace{Dead: who[0], By: joining[0]}
	case k == 2:
		return topology.Drain{Nodes: who}
	case k == 3:
		return topology.Weight{Nodes: who, Weight: 1 + rng.IntN(3)}
	}
	return topology.Replicas{Replicas: 2 + rng.IntN(2)}
}
