package handoff_test

import (
	"encoding/binary"
	"slices"
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
	t.Run("by the index", func(t *testing.T) { leftoversAreGiven(t, false, false) })
	t.Run("as a whole", func(t *testing.T) { leftoversAreGiven(t, true, false) })
	t.Run("unreadable", func(t *testing.T) { leftoversAreGiven(t, false, true) })
	t.Run("unreadable, as a whole", func(t *testing.T) { leftoversAreGiven(t, true, true) })
}

// leftoversAreGiven: with pruned, the index of what is left tells nothing. With
// spoiled, the record cannot be read: then nothing is deleted, and nobody is
// told that he has it.
func leftoversAreGiven(t *testing.T, pruned, spoiled bool) {
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
		entries := []wire.Entry{{Key: full, Record: crdt.AppendRecord(nil, hashring.KeyHash(full), crdt.Write(crdt.Record{}, nil, v))}}
		if spoiled { // another one, that can be read
			next := v
			next.Dot.N++
			for i := 0; len(entries) == 1; i++ {
				k := []byte("b\x00too" + string(rune('a'+i)))
				if hash := hashring.KeyHash(k); hashring.PartitionOf(hash, partitions) == p {
					entries = append(entries, wire.Entry{Key: k, Record: crdt.AppendRecord(nil, hash, crdt.Write(crdt.Record{}, nil, next))})
				}
			}
		}
		done := make(chan error, 1)
		n4.Apply(entries, func(_ int, err error) { done <- err })
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if pruned {
			n4.PruneIndex(p, n4.Clock(p), func(err error) { done <- err })
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
		if spoiled && !w.nodes["n4"].disk.CorruptValue(recordKey(full)) {
			t.Fatal("no such record")
		}
		w.change(func(t *topology.Topology) (*topology.Topology, error) { return t.Abort(1, 1) })
		if spoiled {
			w.pass(3 * time.Minute)
			if !slices.Contains(n4.Leftovers(), p) {
				t.Error("what cannot be read was deleted")
			}
			if why := w.nodes["n4"].run.Load().sweeper.Kept(); why[p] == nil {
				t.Errorf("why it was not deleted: %v", why)
			}
			if w.nodes["n1"].run.Load().Clock(p).Contains(v.Dot) {
				t.Error("an owner speaks for a write that it was not given")
			}
			return
		}
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

// recordKey is where the replica keeps the record of a key.
func recordKey(full []byte) []byte {
	return append(binary.BigEndian.AppendUint64([]byte{'r'}, hashring.KeyHash(full)), full...)
}
