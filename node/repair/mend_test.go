package repair_test

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/wire"
)

// A silently lost record shows in the scrub of the one who lost it, and comes
// back from the others; the other way round, too.
func TestLostRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.startAll()
		a, b := w.nodes["a1"], w.nodes["a2"]
		p := hashring.Partition(3)
		keys := keysIn(p, 10)
		for _, k := range keys {
			a.write(k, "v")
		}
		w.pass(5 * time.Second)
		w.equal()
		actor := b.Actor()
		a.lose(keys[1])
		b.lose(keys[2])
		b.lose(keys[3])
		w.pass(30 * time.Second)
		w.equal()
		for _, m := range w.all() {
			for _, k := range keys {
				if m.has(k) != "v" {
					t.Errorf("%s has %q of %s", m.id, m.has(k), k)
				}
			}
		}
		s := b.repair.Stats()
		if s.RecountsWrong.Load() == 0 || s.Recounts.Load() == 0 {
			t.Errorf("%d recounts, %d wrong", s.Recounts.Load(), s.RecountsWrong.Load())
		}
		var keysMended uint64
		for _, m := range w.all() {
			keysMended += m.repair.Stats().MismatchedKeys.Load()
		}
		if keysMended == 0 {
			t.Error("nobody counts a mismatch")
		}
		if b.Actor() != actor {
			t.Error("b lost nothing of its own, and took a new actor")
		}
		if a.Actor() == crdt.MakeActor(1, 1) {
			t.Error("a lost a record of its own, and goes on with its actor")
		}
	})
}

// The same while writes go on: the clocks are equal again and again, each time
// at another state.
func TestLostRecordsUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.startAll()
		a, b := w.nodes["a1"], w.nodes["a2"]
		p := hashring.Partition(3)
		keys := keysIn(p, 3)
		a.write(keys[0], "v")
		w.pass(5 * time.Second)
		b.lose(keys[0])
		for i := range 300 { // 30 s
			if _, err := a.put(coord.Put{Key: []byte(keys[1]), Value: fmt.Append(nil, i), Overwrite: true}); err != nil {
				t.Fatal(err)
			}
			w.pass(100 * time.Millisecond)
		}
		if b.has(keys[0]) != "v" {
			t.Errorf("b has %q", b.has(keys[0]))
		}
	})
}

// Whoever finds a difference gives as well as it takes: here the one that lost
// does not ask by itself.
func TestMendGives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.startAll()
		a, b := w.nodes["a1"], w.nodes["a2"]
		b.halt()
		w.beat = time.Hour
		b.back()
		keys := keysIn(3, 5)
		for _, k := range keys {
			if _, err := a.put(coord.Put{Key: []byte(k), Value: []byte("v")}); err != nil {
				t.Fatal(err)
			}
		}
		w.pass(5 * time.Second)
		b.lose(keys[2])
		w.pass(30 * time.Second)
		if b.has(keys[2]) != "v" {
			t.Errorf("b has %q", b.has(keys[2]))
		}
		w.equal()
	})
}

// A partition of many keys is descended into, and only what differs travels.
func TestLostRecordAmongMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.startAll()
		a := w.nodes["a1"]
		p := hashring.Partition(3)
		keys := keysIn(p, 20000)
		var entries []wire.Entry
		for i, k := range keys {
			full := fullKey(k)
			v := crdt.Version{Dot: crdt.Dot{Actor: crdt.MakeActor(1, 9), N: uint64(i + 1)}, Stamp: 1, Value: []byte("v")}
			entries = append(entries, wire.Entry{Key: full, Record: crdt.AppendRecord(nil, hashring.KeyHash(full), crdt.Record{Versions: []crdt.Version{v}})})
		}
		for _, m := range w.all() {
			for some := range slices.Chunk(entries, 5000) {
				if err := m.take(some...); err != nil {
					t.Fatal(err)
				}
			}
		}
		w.equal()
		a.lose(keys[777])
		a.lose(keys[7777])
		w.pass(30 * time.Second)
		w.equal()
		if a.has(keys[777]) != "v" || a.has(keys[7777]) != "v" {
			t.Error("not repaired")
		}
		var mended uint64
		var mends, buckets int
		for _, m := range w.all() {
			mended += m.repair.Stats().MismatchedKeys.Load()
			mends += int(m.repair.Stats().Mismatches.Load())
			buckets += m.wire.count(peer.VerbBuckets)
		}
		if mended == 0 || a.repair.Stats().RepairedKeys.Load() > 2 || a.wire.count(peer.VerbScan) > 20 || buckets < 2*mends {
			t.Errorf("%d mended, %d repaired, %d scans, %d digests of %d mends", mended, a.repair.Stats().RepairedKeys.Load(), a.wire.count(peer.VerbScan), buckets, mends)
		}
	})
}

// Where everything differs, little is asked for it.
func TestAllRecordsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.startAll()
		a, b := w.nodes["a1"], w.nodes["a2"]
		keys := keysIn(3, 2000)
		for _, k := range keys {
			if _, err := a.put(coord.Put{Key: []byte(k), Value: []byte("v"), W: 3}); err != nil {
				t.Fatal(err)
			}
		}
		w.pass(2 * time.Second)
		for _, k := range keys {
			b.lose(k)
		}
		for _, m := range w.all() {
			m.wire.reset()
		}
		w.pass(30 * time.Second)
		w.equal()
		for _, k := range keys {
			if b.has(k) != "v" {
				t.Fatalf("b has %q of %s", b.has(k), k)
			}
		}
		mends, asked := 0, 0
		for _, m := range w.all() {
			mends += int(m.repair.Stats().Mismatches.Load())
			asked += m.wire.count(peer.VerbBuckets) + m.wire.count(peer.VerbScan) + m.wire.count(peer.VerbApply)
		}
		if mends == 0 || asked > 4*mends {
			t.Errorf("%d requests for %d mends", asked, mends)
		}
	})
}
