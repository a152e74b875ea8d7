package node_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/collect"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/peer/memnet"
	"github.com/atolldb/atoll/node/quorum"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/topology/memtopo"
)

// What people ask of collection: a round on demand takes deletes off all disks,
// and a node that is away is named by those who wait for it.
func TestCollectOnDemand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const partitions = 4
		fabric := memnet.New(1, memnet.Config{})
		var members []topology.Member
		for _, id := range []topology.NodeID{"a1", "a2", "a3"} {
			members = append(members, topology.Member{ID: id, Rack: string(id), Weight: 1})
		}
		top, err := topology.Static("a", 1, members, hashring.Rules{Partitions: partitions, Replicas: 3})
		if err != nil {
			t.Fatal(err)
		}
		nodes := startNodes(t, fabric, memtopo.NewStore(), memtopo.New(1), top, collect.Config{})
		ops := nodes["a2"].Operations().Collections
		time.Sleep(10 * time.Second)
		put := func(key string, del bool) {
			done := make(chan error, 1)
			nodes["a1"].Coordinator().Put(coord.Put{
				Key: []byte(key), Value: []byte("v"), Delete: del, Overwrite: true, Level: quorum.LocalAll, Deadline: time.Now().Add(time.Second),
			}, func(_ coord.PutResult, err error) { done <- err })
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
		for i := range 40 {
			put(fmt.Sprint("k", i), false)
			put(fmt.Sprint("k", i), i%2 == 0)
		}
		put("k0", false) // lives again
		held := func(id topology.NodeID) (n int) {
			r := nodes[id].Replica()
			for _, p := range r.Owned() {
				if err := r.Dead(p, hlc.FromMillis(time.Now().UnixMilli()+1), func([]byte, uint64, crdt.Record) bool { n++; return true }); err != nil {
					t.Error(err)
				}
			}
			return n
		}
		if held("a3") != 19 {
			t.Fatalf("%d records are dead", held("a3"))
		}
		run := func(d time.Duration) (all collect.Demand, stalls []collect.Group) {
			t.Helper()
			time.Sleep(5 * time.Second)
			if _, err := ops.StartCollect(t.Context(), 2*time.Second); err != nil {
				t.Fatal(err)
			}
			time.Sleep(d)
			p, err := ops.CollectProgress(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, n := range p.Nodes {
				if n.Error != "" {
					continue
				}
				if n.Region != "a" || n.Owned != partitions || n.Every != 0 || n.Grace != 24*time.Hour {
					t.Errorf("%+v", n)
				}
				if d := n.Demand; d == nil || d.Runs() {
					t.Errorf("%s: %+v, now %+v", n.ID, d, n.Now)
					continue
				}
				all.Partitions, all.Done, all.Off = all.Partitions+n.Demand.Partitions, all.Done+n.Demand.Done, all.Off+n.Demand.Off
				stalls = append(stalls, n.Stalls...)
			}
			return all, stalls
		}
		if d, stalls := run(20 * time.Second); d.Partitions != partitions || d.Done != partitions || len(stalls) != 0 {
			t.Fatalf("%+v, stalls %+v", d, stalls)
		}
		for id := range nodes {
			r := nodes[id].Collector().Report()
			if held(id) != 0 || r.Dropped != 19 || r.Never != 0 || time.Since(r.Oldest) > time.Minute {
				t.Errorf("%s still has %d dead records; %+v", id, held(id), r)
			}
		}
		// a3 is cut off: nothing is collected, and it is named.
		put("k1", true)
		fabric.Partition([]topology.NodeID{"a3"}, []topology.NodeID{"a1", "a2"})
		time.Sleep(time.Minute)
		d, stalls := run(time.Minute)
		if d.Done != 0 || d.Off != partitions || len(stalls) == 0 {
			t.Errorf("a node is away: %+v", d)
		}
		for _, s := range stalls {
			if s.Why.Node != "a3" || s.Why.Reason != collect.Silent {
				t.Errorf("waits for %+v", s.Why)
			}
		}
		fabric.HealAll()
		time.Sleep(time.Minute)
		if d, stalls := run(20 * time.Second); d.Done != partitions || len(stalls) != 0 {
			t.Errorf("it is back: %+v, stalls %+v", d, stalls)
		}
		if held("a3") != 0 {
			t.Error("a dead record is still there")
		}
		// Other rims refuse what is too young.
		if err := nodes["a1"].Collector().Demand(collect.MinGrace - 1); err == nil {
			t.Error("what is of now is collected")
		}
		if p, err := ops.StartCollect(t.Context(), time.Millisecond); err != nil || p.Nodes[0].Error == "" {
			t.Errorf("%v, %+v", err, p.Nodes)
		}
	})
}

// Rounds that are due are spread: some time after the start few partitions have
// had one, and after a tenth of the time between rounds, all. Who asks does not
// wait for that.
func TestCollectIsSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const partitions = 16
		top, err := topology.Static("a", 1, []topology.Member{{ID: "a1", Rack: "1", Weight: 1}}, hashring.Rules{Partitions: partitions, Replicas: 1})
		if err != nil {
			t.Fatal(err)
		}
		n := startNodes(t, memnet.New(1, memnet.Config{}), memtopo.NewStore(), memtopo.New(1), top, collect.Config{
			Rounds: true, Every: 10 * time.Minute, Grace: time.Minute, Beat: 10 * time.Second,
		})["a1"]
		done := func(d time.Duration) uint64 {
			time.Sleep(d)
			synctest.Wait()
			return n.Collector().Report().Done
		}
		if n := done(25 * time.Second); n < 1 || n > partitions/2 {
			t.Errorf("%d rounds at first", n)
		}
		if n := done(time.Minute); n != partitions {
			t.Errorf("%d rounds after a tenth of the time between them", n)
		}
		if n := done(8 * time.Minute); n != partitions {
			t.Errorf("%d rounds before the next ones are due", n)
		}
		done(80 * time.Second) // amid the next ones
		if err := n.Collector().Demand(time.Second); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if d := n.Collector().Demanded(); d.Runs() || d.Done != partitions {
			t.Errorf("asked for: %+v", d)
		}
	})
}
