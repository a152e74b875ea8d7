package coord_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/quorum"
	"github.com/atolldb/atoll/node/replica"
	"github.com/atolldb/atoll/node/storage/memstore"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/topology/memtopo"
)

// wires connects nodes without a network: a request runs on a goroutine of
// the workers of its receiver, of which there are as many as a link has
// streams and a few more.
type wires struct {
	self  topology.NodeID
	nodes map[topology.NodeID]chan func()
	serve map[topology.NodeID]peer.Handler
}

func (w *wires) Send(to topology.NodeID, req peer.Request, done peer.Done) {
	w.nodes[to] <- func() {
		w.serve[to](w.self, req, func(b []byte, err error) {
			select {
			case w.nodes[w.self] <- func() { done(b, err) }:
			default:
				go done(b, err)
			}
		})
	}
}

// benchRegion is four nodes in real time; each key has three owners.
func benchRegion(b *testing.B) (*topology.Topology, map[topology.NodeID]*coord.Coordinator) {
	return benchRegionOn(b, memstore.Config{})
}

func benchRegionOn(b testing.TB, disk memstore.Config) (*topology.Topology, map[topology.NodeID]*coord.Coordinator) {
	var members []topology.Member
	for i := range 4 {
		members = append(members, topology.Member{ID: topology.NodeID(fmt.Sprint("n", i+1)), Rack: fmt.Sprint("r", i), Weight: 1})
	}
	top, err := topology.Static("east", 1, members, hashring.Rules{Partitions: 8, Replicas: 3})
	if err != nil {
		b.Fatal(err)
	}
	registry := memtopo.New(1)
	nodes := map[topology.NodeID]chan func(){}
	serve := map[topology.NodeID]peer.Handler{}
	coords := map[topology.NodeID]*coord.Coordinator{}
	var ending sync.WaitGroup
	b.Cleanup(ending.Wait) // the last of them
	for _, m := range members {
		engine, err := memstore.NewDisk(disk).Open()
		if err != nil {
			b.Fatal(err)
		}
		cfg := replica.Config{Node: m.ID, Topology: top}
		clock := hlc.New(time.Now)
		rep, err := replica.Open(cfg, engine, registry, clock, hclog.NewNullLogger())
		if err != nil {
			b.Fatal(err)
		}
		c := coord.New(coord.Config{Self: m.ID, Keys: crdt.Keys{secret}}, coord.Deps{
			Replica: rep, Transport: &wires{m.ID, nodes, serve}, Topology: func() *topology.Topology { return top }, HLC: clock,
			Alive: func(topology.NodeID) bool { return true }, Observe: func(topology.NodeID, error) {},
		})
		coords[m.ID] = c
		serve[m.ID] = func(_ topology.NodeID, req peer.Request, reply peer.Done) {
			_ = rep.Handle(req, reply) || c.Handle(req, reply)
		}
		queue, stop := make(chan func(), 1<<14), make(chan struct{})
		nodes[m.ID] = queue
		for range 2 {
			go func() {
				for {
					select {
					case f := <-queue:
						f()
					case <-stop:
						return
					}
				}
			}()
		}
		ctx, cancel := context.WithCancel(context.Background())
		ending.Go(func() {
			_ = rep.Run(ctx)
			engine.Close()
			close(stop)
		})
		b.Cleanup(cancel)
		for rep.Actor() == 0 {
			time.Sleep(time.Millisecond)
		}
		for _, p := range rep.Owned() {
			rep.CaughtUp(p, rep.BehindMark(p))
		}
		for rep.BehindCount() > 0 {
			time.Sleep(time.Millisecond)
		}
	}
	return top, coords
}

// roles returns a coordinator that owns the key first, and one that does not
// own it.
func roles(top *topology.Topology, coords map[topology.NodeID]*coord.Coordinator, k string) (owner, outsider *coord.Coordinator) {
	p := hashring.PartitionOf(hashring.KeyHash(coord.FullKey("default", []byte(k))), 8)
	owners := top.Owners(p)
	for id, c := range coords {
		switch {
		case string(id) == owners[0]:
			owner = c
		case string(id) != owners[1] && string(id) != owners[2]:
			outsider = c
		}
	}
	return owner, outsider
}

func benchPut(b *testing.B, c *coord.Coordinator, k string) {
	done := make(chan error, 1)
	c.Put(coord.Put{Key: []byte(k), Value: make([]byte, 100), Overwrite: true, Deadline: time.Now().Add(time.Minute)},
		func(_ coord.PutResult, err error) { done <- err })
	if err := <-done; err != nil {
		b.Fatal(err)
	}
}

// benchGets runs b.N reads, depth of them at a time, of what key names, with
// the token of a session.
func benchGets(b *testing.B, c *coord.Coordinator, level quorum.Level, depth int, key func(i int) []byte, session ...byte) {
	b.ReportAllocs()
	var next, failed atomic.Int64
	var all sync.WaitGroup
	deadline := time.Now().Add(time.Hour)
	b.ResetTimer()
	for range depth {
		all.Add(1)
		done := make(chan struct{}, 1)
		go func() {
			defer all.Done()
			for {
				i := int(next.Add(1)) - 1
				if i >= b.N {
					return
				}
				c.Get(coord.Get{Key: key(i), Level: level, Session: session, Deadline: deadline}, func(_ coord.GetResult, err error) {
					if err != nil {
						failed.Add(1)
					}
					done <- struct{}{}
				})
				<-done
			}
		}()
	}
	all.Wait()
	if n := failed.Load(); n > 0 {
		b.Fatalf("%d of %d failed", n, b.N)
	}
}

func BenchmarkGet(b *testing.B) {
	const n = 1024
	top, coords := benchRegion(b)
	hot := []byte("k0")
	owner, outsider := roles(top, coords, "k0")
	var keys [][]byte
	for i := range n {
		keys = append(keys, fmt.Append(nil, "k", i))
		benchPut(b, owner, string(keys[i]))
	}
	distinct := func(i int) []byte { return keys[i%n] }
	same := func(int) []byte { return hot }
	b.Run("one-local", func(b *testing.B) { benchGets(b, owner, quorum.LocalOne, 1, same) })
	seen := make(chan []byte, 1)
	owner.Get(coord.Get{Key: hot, Session: []byte{1}, Deadline: time.Now().Add(time.Minute)}, func(r coord.GetResult, err error) {
		if err != nil {
			b.Error(err)
		}
		seen <- r.Session
	})
	token := <-seen
	b.Run("one-local-in-a-session", func(b *testing.B) { benchGets(b, owner, quorum.LocalOne, 1, same, token...) })
	b.Run("quorum-hot-key-in-sessions-64-at-a-time", func(b *testing.B) { benchGets(b, owner, quorum.LocalQuorum, 64, same, token...) })
	b.Run("quorum-alone", func(b *testing.B) { benchGets(b, owner, quorum.LocalQuorum, 1, same) })
	b.Run("quorum-distinct-keys-64-at-a-time", func(b *testing.B) { benchGets(b, outsider, quorum.LocalQuorum, 64, distinct) })
	b.Run("quorum-hot-key-64-at-a-time", func(b *testing.B) { benchGets(b, outsider, quorum.LocalQuorum, 64, same) })
}

func BenchmarkPut(b *testing.B) {
	top, coords := benchRegion(b)
	owner, _ := roles(top, coords, "k0")
	b.ReportAllocs()
	for b.Loop() {
		benchPut(b, owner, "k0")
	}
}
