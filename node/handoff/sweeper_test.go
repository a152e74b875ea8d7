package handoff_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/wire"
)

// A write that only the receiver of a copy has, which is then taken back, is
// given to the owners before what is left is deleted; and nothing is deleted
// while one of them is away.
func TestLeftoversAreGivenFirst(t *testing.T) {
	t.Run("by the index", func(t *testing.T) { leftoversAreGiven(t, false) })
	t.Run("as a whole", func(t *testing.T) { leftoversAreGiven(t, true) })
}

// leftoversAreGiven: with pruned, the index of what is left tells nothing.
func leftoversAreGiven(t *testing.T, pruned bool) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3, 1, 3)
		w.preload(100)
		w.slowly()
		w.commit(topology.Join{Nodes: []topology.NodeID{"n4"}})
		w.until("copying", time.Minute, stage(topology.Copying))
		w.pass(200 * time.Millisecond)
		n4 := w.nodes["n4"].run.Load()
		p, key := hashring.Partition(0), ""
		for _, m := range w.stored().Moves {
			if m.Stage == topology.Copying {
				p = m.Partition
			}
		}
		for i := 0; key == ""; i++ {
			if k := "only" + string(rune('a'+i)); hashring.PartitionOf(hashring.KeyHash([]byte("b\x00"+k)), partitions) == p {
				key = k
			}
		}
		full := []byte("b\x00" + key)
		v := crdt.Version{Dot: crdt.Dot{Actor: crdt.Actor(900<<6 | 1), N: 1}, Stamp: hlc.FromMillis(1), Value: []byte("v")}
		rec := crdt.AppendRecord(nil, hashring.KeyHash(full), crdt.Write(crdt.Record{}, nil, v))
		done := make(chan error, 1)
		n4.Apply([]wire.Entry{{Key: full, Record: rec}}, func(_ int, err error) { done <- err })
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if pruned {
			n4.PruneIndex(p, n4.Clock(p), func(err error) { done <- err })
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
		w.change(func(t *topology.Topology) (*topology.Topology, error) { return t.Abort(1, 1) })
		w.nodes["n2"].halt(true)
		w.pass(2 * time.Minute)
		if len(n4.Leftovers()) == 0 {
			t.Error("deleted while an owner is away")
		}
		w.nodes["n2"].start()
		w.pass(2 * time.Minute)
		if left := n4.Leftovers(); len(left) > 0 {
			t.Errorf("n4 keeps %v", left)
		}
		if found, ok := w.get(w.nodes["n1"], key); !found || !ok {
			t.Errorf("what n4 alone had: found %t, answered %t", found, ok)
		}
	})
}
