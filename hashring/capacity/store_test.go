package capacity

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/replica"
	"github.com/atolldb/atoll/node/storage"
	"github.com/atolldb/atoll/node/storage/badgerstore"
	"github.com/atolldb/atoll/node/storage/memstore"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/topology/memtopo"
)

// alone is the topology of a region of one node.
func alone(t *testing.T, partitions int) *topology.Topology {
	top, err := topology.Static("east", 1, []topology.Member{{ID: "n1", Weight: 1}}, hashring.Rules{Partitions: partitions, Replicas: 1})
	if err != nil {
		t.Fatal(err)
	}
	return top
}

// What a replica writes for a write is what the formulas say, byte by byte, and
// the index is gone once everybody is known to have what it speaks of.
func TestStoreOfReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const partitions, writes = 8, 600
		in := Default()
		in.Partitions, in.Incarnations = partitions, 1
		in.KeySize, in.ValueSize = 20, 300
		engine, err := memstore.NewDisk(memstore.Config{}).Open()
		if err != nil {
			t.Fatal(err)
		}
		defer engine.Close()
		cfg := replica.Config{Node: "n1", Topology: alone(t, partitions), DigestSeed: 7}
		r, err := replica.Open(cfg, engine, memtopo.New(1), hlc.New(time.Now), hclog.NewNullLogger())
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- r.Run(ctx) }()
		synctest.Wait() // it has its actor

		failed := make(chan error, 2*writes)
		requests := 0
		put := func(i int) {
			key := fmt.Appendf(nil, "bucket\x00key-%09d", i)
			if len(key) != in.KeySize {
				t.Fatalf("keys have %d bytes", len(key))
			}
			requests++
			id := crdt.MakeRequestID(time.Now().UnixMilli(), [10]byte{byte(requests >> 8), byte(requests)})
			r.Mint(replica.Mint{
				ID:  id,
				Key: key, KeyHash: hashring.KeyHash(key), Overwrite: true, Value: make([]byte, in.ValueSize),
				Done: func(_ *replica.Minted, err error) { failed <- err },
			})
		}
		for i := range 2 * writes {
			put(i % writes) // each key twice, so that each past has an entry
			if err := <-failed; err != nil {
				t.Fatal(err)
			}
		}
		count := func() (entries, keys, values map[byte]int) {
			entries, keys, values = map[byte]int{}, map[byte]int{}, map[byte]int{}
			err := engine.Scan(nil, []byte{0xff}, func(kv storage.KV) bool {
				entries[kv.Key[0]]++
				keys[kv.Key[0]] += len(kv.Key)
				values[kv.Key[0]] += len(kv.Value)
				return true
			})
			if err != nil {
				t.Fatal(err)
			}
			return entries, keys, values
		}
		entries, keys, values := count()
		for p := range hashring.Partition(partitions) {
			r.PruneIndex(p, r.Clock(p), func(err error) { failed <- err })
			if err := <-failed; err != nil {
				t.Fatal(err)
			}
		}
		stop()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		pruned, prunedKeys, prunedValues := count()
		if pruned['i'] != 0 || pruned['r'] != writes || pruned['s'] != partitions || pruned['q'] != 2*writes {
			t.Errorf("entries by space after pruning: %v", pruned)
		}
		if entries['r'] != writes || entries['i'] != 2*writes || entries['q'] != 2*writes {
			t.Fatalf("entries by space: %v", entries)
		}
		mean := func(space byte, sums map[byte]int) float64 { return float64(sums[space]) / float64(entries[space]) }
		near(t, "record key", float64(recordKeyFixed+in.KeySize), mean('r', keys), 0)
		near(t, "index key", indexKeySize, mean('i', keys), 0)
		near(t, "index value", float64(indexValueFixed+requestBytes+in.KeySize), mean('i', values), 0)
		near(t, "block key", blockKeySize, mean('q', keys), 0)
		near(t, "block of one trace", traceBytes, mean('q', values), 0)
		near(t, "record", recordBytes(64, 2*writes/partitions, in.ValueSize), mean('r', values), 0.01)
		near(t, "snapshot", snapshotFixed+clockBytes(1, 64, 2*writes/partitions), float64(prunedKeys['s']+prunedValues['s'])/partitions, 0.05)
	})
}

// What Badger's tables take is what the formulas say, for what does not
// compress.
func TestTables(t *testing.T) {
	if testing.Short() {
		t.Skip("writes some 60 MB")
	}
	for _, c := range []struct {
		name       string
		key, value int
		count      int
		// shared is how much of a key is that of the one before. Blocks are
		// also compressed, which the formula does not count on.
		shared int
	}{
		{"records", recordKeyFixed + 32, 1<<10 + 30, 30_000, 0},
		{"small records", recordKeyFixed + 32, 130, 100_000, 0},
		{"index entries", indexKeySize, indexValueFixed + 32, 300_000, indexKeySize - 4},
	} {
		dir := t.TempDir()
		open := func() *badgerstore.Store {
			s, err := badgerstore.Open(badgerstore.Config{Dir: dir, MemTableSize: 8 << 20})
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		s := open()
		rng := rand.NewChaCha8([32]byte{1})
		for at := 0; at < c.count; at += 500 {
			tx, err := s.Begin()
			if err != nil {
				t.Fatal(err)
			}
			for i := range 500 {
				key, value := make([]byte, c.key), make([]byte, c.value)
				_, _ = rng.Read(key[c.shared:]) // a hash, and keys that have nothing in common
				_, _ = rng.Read(value)
				binary.BigEndian.PutUint32(key[len(key)-4:], uint32(at+i))
				if err := tx.Put(key, value); err != nil {
					t.Fatal(err)
				}
			}
			if err := tx.Commit(); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Close(); err != nil { // which writes the last memtable out
			t.Fatal(err)
		}
		s = open()
		usage, err := s.Usage()
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		per := float64(usage.Store) / float64(c.count)
		got := storedBytes(float64(c.key), float64(c.value))
		if c.shared > 0 {
			got = storedBytes(float64(c.key-indexShared), float64(c.value))
		}
		t.Logf("%s: formula %.0f, files %.0f bytes an entry", c.name, got, per)
		if c.shared == 0 {
			near(t, c.name, got, per, 0.10)
		} else if got < per || got > 1.3*per {
			t.Errorf("%s: formula %.0f, files %.0f bytes an entry", c.name, got, per)
		}
	}
}

// What partitions with clocks take in an owner's memory.
func TestPartitionMemory(t *testing.T) {
	const partitions, actors = 4096, 24
	disk := memstore.NewDisk(memstore.Config{})
	engine, err := disk.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close()
	tx, err := engine.Begin()
	if err != nil {
		t.Fatal(err)
	}
	cfg := replica.Config{Node: "n1", Topology: alone(t, partitions), DigestSeed: 7}
	snapshot := append(crdt.AppendClock(make([]byte, 8), clockOf(actors, 1000, 5_000_000)), 0) // no buckets
	for p := range partitions {
		if err := tx.Put(binary.BigEndian.AppendUint16([]byte{'s'}, uint16(p)), snapshot); err != nil {
			t.Fatal(err)
		}
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	before := heap()
	r, err := replica.Open(cfg, engine, memtopo.New(1), hlc.New(time.Now), hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	each := float64(heap()-before) / partitions
	if got := r.Clock(7); len(got.Actors()) != actors {
		t.Fatalf("clock of %d actors", len(got.Actors()))
	}
	formula := partitionMemory + 2*clockMemoryBytes(actors)
	t.Logf("formula %.0f, heap %.0f bytes a partition", formula, each)
	// The rest of partitionMemory is for what peers' lists and maps take.
	if each > formula || each < 2*clockMemoryBytes(actors) {
		t.Errorf("a partition takes %.0f bytes, formula %.0f", each, formula)
	}
	runtime.KeepAlive(r)
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
