package node_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/peer/memnet"
	"github.com/atolldb/atoll/node/storage/memstore"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/topology/memtopo"
)

// TestSlowDiskDoesNotSlowTheRegion: with the disk of one node at 100 ms a sync,
// the p99 of the region's reads and writes is at most twice what it is without,
// whoever coordinates, once that is known; and no node is taken to be down.
func TestSlowDiskDoesNotSlowTheRegion(t *testing.T) {
	for _, nodes := range []int{3, 5} {
		t.Run(fmt.Sprint(nodes, " nodes"), func(t *testing.T) {
			healthy := latencies(t, nodes, 0)
			slow := latencies(t, nodes, 100*time.Millisecond)
			for i, op := range []string{"put", "get"} {
				t.Logf("%s: p50 %v, p99 %v; with a slow disk p50 %v, p99 %v", op,
					at(healthy[i], .5), at(healthy[i], .99), at(slow[i], .5), at(slow[i], .99))
				if at(slow[i], .99) > 2*at(healthy[i], .99) {
					t.Errorf("p99 of a %s is %v with a slow disk, %v without", op, at(slow[i], .99), at(healthy[i], .99))
				}
			}
		})
	}
}

func at(sorted []time.Duration, q float64) time.Duration { return sorted[int(q*float64(len(sorted)))] }

// latencies of puts and of gets, sorted, in a region whose first node's disk
// takes slow for a sync (0: as the others).
func latencies(t *testing.T, nodes int, slow time.Duration) (took [2][]time.Duration) {
	synctest.Test(t, func(t *testing.T) {
		r := newSlowRegion(t, nodes, slow)
		time.Sleep(5 * time.Second)
		rng := rand.New(rand.NewPCG(1, 2))
		var mu sync.Mutex
		var failed atomic.Int64
		const warm, measured, perSecond = 10, 20, 200
		begin := time.Now().Add(warm * time.Second)
		for range (warm + measured) * perSecond {
			time.Sleep(time.Second / perSecond)
			c := r.nodes[rng.IntN(nodes)].Coordinator()
			key, now := fmt.Appendf(nil, "key %d", rng.IntN(500)), time.Now()
			note := func(op int, err error) {
				if err != nil {
					failed.Add(1)
				}
				if now.After(begin) {
					mu.Lock()
					took[op] = append(took[op], time.Since(now))
					mu.Unlock()
				}
			}
			if rng.IntN(2) == 0 {
				c.Put(coord.Put{Key: key, Value: []byte("v"), Overwrite: true, Deadline: now.Add(2 * time.Second)},
					func(_ coord.PutResult, err error) { note(0, err) })
			} else {
				c.Get(coord.Get{Key: key, Deadline: now.Add(2 * time.Second)},
					func(_ coord.GetResult, err error) { note(1, err) })
			}
		}
		time.Sleep(3 * time.Second)
		if n := failed.Load(); n > 0 {
			t.Errorf("%d operations failed", n)
		}
		for id, n := range r.nodes {
			for peer, s := range n.Figures().Peers {
				if s.Falls > 0 {
					t.Errorf("n%d took %s to be down %d times", id+1, peer, s.Falls)
				}
				for kind, turns := range s.Turns {
					if turns > 1 || turns > 0 && (slow == 0 || peer != "n1" || kind == 0) {
						t.Errorf("n%d changed its mind of the pace of %s (kind %d) %d times", id+1, peer, kind, turns)
					}
				}
			}
		}
		r.close()
	})
	slices.Sort(took[0])
	slices.Sort(took[1])
	return took
}

type slowRegion struct {
	nodes []*node.Node
	close func()
}

func newSlowRegion(t *testing.T, n int, slow time.Duration) *slowRegion {
	var members []topology.Member
	for i := range n {
		members = append(members, topology.Member{ID: topology.NodeID(fmt.Sprint("n", i+1)), Rack: fmt.Sprint(i), Weight: 1})
	}
	top, err := topology.Static("a", 1, members, hashring.Rules{Partitions: 16, Replicas: 3})
	if err != nil {
		t.Fatal(err)
	}
	fabric := memnet.New(1, memnet.Config{Faults: memnet.Faults{MinDelay: 100 * time.Microsecond, MaxDelay: 500 * time.Microsecond}})
	registry := memtopo.New(1)
	ctx, stop := context.WithCancel(context.Background())
	var ended sync.WaitGroup
	r := &slowRegion{close: func() { stop(); ended.Wait() }}
	for i, m := range members {
		disk := memstore.Config{Seed: uint64(i), SyncMin: time.Millisecond, SyncMax: 3 * time.Millisecond}
		if i == 0 && slow > 0 {
			disk.SyncMin, disk.SyncMax = slow, slow
		}
		engine, err := memstore.NewDisk(disk).Open()
		if err != nil {
			t.Fatal(err)
		}
		var to atomic.Pointer[node.Node]
		made, err := node.New(node.Config{ID: m.ID, Topology: top, Keys: crdt.Keys{crdt.Secret("secret")}}, node.Deps{
			Engine: engine, Registry: registry, HLC: hlc.New(time.Now), Rand: rand.New(rand.NewPCG(uint64(i), 1)),
			Logger: hclog.NewNullLogger(),
			Transport: fabric.Node(m.ID, func(from topology.NodeID, req peer.Request, reply peer.Done) {
				if n := to.Load(); n != nil {
					n.Handle(from, req, reply)
					return
				}
				reply(nil, &peer.Refusal{Code: peer.CodeStopping})
			}),
		})
		if err != nil {
			t.Fatal(err)
		}
		to.Store(made)
		r.nodes = append(r.nodes, made)
		ended.Go(func() {
			if err := made.Run(ctx); err != nil {
				t.Errorf("%s: %v", m.ID, err)
			}
			if err := engine.Close(); err != nil {
				t.Errorf("%s: %v", m.ID, err)
			}
		})
	}
	return r
}
