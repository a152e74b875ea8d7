package node_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node"
	"github.com/atolldb/atoll/node/collect"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/peer/memnet"
	"github.com/atolldb/atoll/node/quorum"
	"github.com/atolldb/atoll/node/storage/memstore"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/topology/memtopo"
)

// A node that hears neither from a majority nor from the store stops serving
// levels below a quorum before the region goes on without it, and serves them
// again when it hears; a region that only lacks its store goes on.
func TestWithoutNews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fabric := memnet.New(1, memnet.Config{})
		store, registry := memtopo.NewStore(), memtopo.New(1)
		ids := []topology.NodeID{"a1", "a2", "a3"}
		var members []topology.Member
		for _, id := range ids {
			members = append(members, topology.Member{ID: id, Rack: string(id), Weight: 1})
		}
		top, err := topology.Static("a", 1, members, hashring.Rules{Partitions: 4, Replicas: 3})
		if err != nil {
			t.Fatal(err)
		}
		nodes := startNodes(t, fabric, store, registry, top, collect.Config{})
		// one reads a key at LOCAL_ONE from a node.
		one := func(id topology.NodeID) error {
			done := make(chan error, 1)
			nodes[id].Coordinator().Get(coord.Get{Key: []byte("k"), Level: quorum.LocalOne, Deadline: time.Now().Add(time.Second)},
				func(_ coord.GetResult, err error) { done <- err })
			return <-done
		}
		refused := func(err error) bool {
			var e *coord.Error
			return errors.As(err, &e) && e.Code == coord.CodeUnavailable && strings.Contains(e.Detail, "has not heard from the region")
		}
		step := func(what string, d time.Duration, cut bool) {
			t.Helper()
			time.Sleep(d)
			synctest.Wait()
			for _, id := range ids {
				err := one(id)
				if want := cut && id == "a1"; refused(err) != want || !want && err != nil {
					t.Errorf("%s: %s at LOCAL_ONE: %v", what, id, err)
				}
				if f := nodes[id].Figures().Changes; f.Isolated != (cut && id == "a1") || f.Epoch != top.Epoch {
					t.Errorf("%s: figures of %s: %+v", what, id, f)
				}
			}
		}
		// silent are the bounds of the time for which the store has not answered a1.
		silent := func(what string, least, most time.Duration) {
			t.Helper()
			st, err := nodes["a1"].Status(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			figure := nodes["a1"].Figures().Changes.StoreSilence
			for _, n := range st.Nodes {
				if n.Error == "" && (n.MetadataSilent < least || n.MetadataSilent > most) {
					t.Errorf("%s: the store has not answered %s for %s, want %s to %s", what, n.ID, n.MetadataSilent, least, most)
				}
			}
			if figure < least || figure > most {
				t.Errorf("%s: the figure of a1 is %s, want %s to %s", what, figure, least, most)
			}
		}
		step("at rest", 10*time.Second, false)
		step("at rest for long", 50*time.Second, false)
		silent("at rest", 0, 20*time.Second)
		store.SetDown(true)
		step("without the store", time.Minute, false)
		silent("without the store", time.Minute, 80*time.Second)
		store.SetDown(false)
		step("the store is back", 20*time.Second, false)
		silent("the store is back", 0, 20*time.Second)
		store.SetDown(true)
		fabric.Partition([]topology.NodeID{"a1"}, []topology.NodeID{"a2", "a3"})
		step("a1 is cut off", 10*time.Second, false)
		step("a1 is cut off for long", 16*time.Second, true)
		fabric.HealAll()
		step("a1 is back", 10*time.Second, false)
	})
}

// startNodes runs the nodes of a region on disks in memory until the test ends.
func startNodes(t *testing.T, fabric *memnet.Fabric, store topology.Store, registry topology.Registry, top *topology.Topology, rounds collect.Config) map[topology.NodeID]*node.Node {
	nodes := map[topology.NodeID]*node.Node{}
	for _, m := range top.Members {
		id := m.ID
		disk := memstore.NewDisk(memstore.Config{})
		engine, err := disk.Open()
		if err != nil {
			t.Fatal(err)
		}
		var made atomic.Pointer[node.Node]
		wire := fabric.Node(id, func(from topology.NodeID, req peer.Request, reply peer.Done) {
			if n := made.Load(); n != nil {
				n.Handle(from, req, reply)
				return
			}
			reply(nil, &peer.Refusal{Code: peer.CodeStopping})
		})
		n, err := node.New(node.Config{ID: id, Topology: top, Keys: crdt.Keys{crdt.Secret("s")}, Collect: rounds}, node.Deps{
			Engine: engine, Registry: registry, Store: store, Transport: wire, HLC: hlc.New(time.Now),
			Rand: rand.New(rand.NewPCG(1, uint64(len(nodes)))), Logger: hclog.NewNullLogger(),
		})
		if err != nil {
			t.Fatal(err)
		}
		made.Store(n)
		nodes[id] = n
		ctx, stop := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- n.Run(ctx) }()
		t.Cleanup(func() {
			stop()
			<-done
			if err := engine.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	return nodes
}
