package repair_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/wire"
)

// TestOneReplicaDownKeepsWritesAndReads is the promise of N=3, W=2, R=2: with
// one replica down a write succeeds with two acknowledgements, every read of
// two shows it from then on, whoever is asked, and the third replica catches up
// when it returns.
func TestOneReplicaDownKeepsWritesAndReads(t *testing.T) {
	for i, how := range []string{"stopped", "crashed", "wiped"} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 1)
				w.startAll()
				nodes := w.all()
				third := nodes[i]
				put := func(via *member, k, v string) coord.PutResult {
					t.Helper()
					res, err := via.put(coord.Put{Key: []byte(k), Value: []byte(v), W: 2, Overwrite: true})
					if err != nil {
						t.Fatalf("put via %s: %v", via.id, err)
					}
					return res
				}
				shows := func(via *member, k, v string) {
					t.Helper()
					if got, err := via.get(coord.Get{Key: []byte(k), R: 2}); err != nil || !slices.Equal(got, []string{v}) {
						t.Errorf("%s of two via %s: %q, %v; want %q", k, via.id, got, err, v)
					}
				}
				for k := range 20 {
					put(nodes[k%3], fmt.Sprint("k", k), "before")
				}
				w.pass(time.Second)
				if how == "crashed" {
					third.Abandon()
				}
				third.halt()
				if how == "wiped" {
					if err := third.disk.Wipe(); err != nil {
						t.Fatal(err)
					}
				}

				up := slices.DeleteFunc(slices.Clone(nodes), func(m *member) bool { return m == third })
				for k := range 20 {
					key := fmt.Sprint("k", k)
					res := put(up[k%2], key, "during")
					if who := res.Achieved; len(who.Replicas) != 2 || slices.Contains(who.Replicas, third.id) || !who.Degraded {
						t.Errorf("achieved %+v", who)
					}
					shows(up[0], key, "during")
					shows(up[1], key, "during")
				}
				if _, err := up[0].put(coord.Put{Key: []byte("k"), Value: []byte("v"), W: 3}); err == nil {
					t.Error("three acknowledgements of two replicas")
				}

				third.back()
				// Whoever is asked, from its first moment on.
				for k := range 20 {
					for _, m := range nodes {
						shows(m, fmt.Sprint("k", k), "during")
					}
				}
				w.pass(3 * time.Second)
				w.equal()
				for k := range 20 {
					if got := third.has(fmt.Sprint("k", k)); got != "during" {
						t.Errorf("the third replica has %q of k%d", got, k)
					}
				}
				for k := range 20 {
					put(third, fmt.Sprint("k", k), "after")
					for _, m := range nodes {
						shows(m, fmt.Sprint("k", k), "after")
					}
				}
				w.pass(time.Second)
				w.equal()
			})
		})
	}
}

// What a peer has had for less than a beat is on its way, and is not pulled;
// what is older is.
func TestOnlyWhatIsOverdueIsPulled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.startAll()
		a, b, c := w.nodes["a1"], w.nodes["a2"], w.nodes["a3"]
		before := b.wire.count(peer.VerbPull) + c.wire.count(peer.VerbPull)
		// A write that reaches the others half a beat late, again and again.
		for i := range 10 {
			key := fmt.Sprint("k", i)
			a.write(key, "v")
			w.pass(500 * time.Millisecond)
			e := entryOf(t, a, key)
			for _, m := range []*member{b, c} {
				if err := m.take(e); err != nil {
					t.Fatal(err)
				}
			}
			w.pass(time.Duration(70*i) * time.Millisecond) // at all phases of the beat
		}
		if n := b.wire.count(peer.VerbPull) + c.wire.count(peer.VerbPull) - before; n != 0 {
			t.Errorf("%d pulls", n)
		}
		a.write("never sent", "v")
		w.pass(700 * time.Millisecond)
		if b.has("never sent") != "" && c.has("never sent") != "" {
			t.Error("both pulled at once what might be on its way")
		}
		w.pass(3 * time.Second)
		w.equal()
		if b.has("never sent") != "v" || b.repair.Stats().PulledKeys.Load() == 0 || b.repair.Stats().RepairedKeys.Load() == 0 {
			t.Errorf("b has %q, pulled %d", b.has("never sent"), b.repair.Stats().PulledKeys.Load())
		}
	})
}

func entryOf(t *testing.T, m *member, key string) wire.Entry {
	t.Helper()
	full := fullKey(key)
	b, err := m.Read(hashring.KeyHash(full), full)
	if err != nil || b == nil {
		t.Fatalf("%s has no %s: %v", m.id, key, err)
	}
	return wire.Entry{Key: full, Record: b}
}

func (m *member) take(entries ...wire.Entry) error {
	ch := make(chan error, 1)
	m.Apply(entries, func(_ int, err error) { ch <- err })
	return <-ch
}

// A peer that has come back is asked at once, and a node that starts asks all.
func TestUrgentRounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.beat = time.Hour
		w.startAll()
		w.pass(time.Hour)
		a, b, c := w.nodes["a1"], w.nodes["a2"], w.nodes["a3"]
		a.write("k", "v")
		b.up <- a.id
		w.pass(100 * time.Millisecond)
		if b.has("k") != "v" || c.has("k") != "" {
			t.Errorf("b has %q, c has %q", b.has("k"), c.has("k"))
		}
		c.halt()
		c.back()
		w.pass(20 * time.Minute) // the first round is after a quarter of a beat
		if c.has("k") != "v" {
			t.Errorf("c has %q", c.has("k"))
		}
	})
}

// Equal partitions cost one comparison a round and no read of the store (A3);
// a second pass repairs nothing.
func TestEqualCostsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.startAll()
		a, b := w.nodes["a1"], w.nodes["a2"]
		for i := range 50 {
			a.write(fmt.Sprint("k", i), "v")
		}
		w.pass(5 * time.Second)
		w.equal()
		repaired, pulled := b.repair.Stats().RepairedKeys.Load(), b.repair.Stats().PulledKeys.Load()
		rounds := b.repair.Stats().Rounds.Load()
		b.wire.mu.Lock()
		clear(b.wire.sent)
		b.wire.mu.Unlock()
		w.pass(10 * time.Second)
		s := b.repair.Stats()
		if s.RepairedKeys.Load() != repaired || s.PulledKeys.Load() != pulled || s.Mismatches.Load() != 0 || s.FullSyncs.Load() != 0 || s.Failed.Load() != 0 {
			t.Errorf("%d repaired, %d pulled after they were equal", s.RepairedKeys.Load()-repaired, s.PulledKeys.Load()-pulled)
		}
		n := int(s.Rounds.Load() - rounds)
		if n < 16 || n > 26 || b.wire.count(peer.VerbCompare) != n || len(b.wire.sent) != 1 {
			t.Errorf("%d rounds, sent %v", n, b.wire.sent)
		}
	})
}

// Small pages deliver the same.
func TestPages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.page = 100
		w.startAll()
		a, b := w.nodes["a1"], w.nodes["a2"]
		for i := range 100 {
			a.write(fmt.Sprint("k", i%40), fmt.Sprint("v", i))
		}
		w.pass(5 * time.Second)
		w.equal()
		if n := b.wire.count(peer.VerbPull); n < 20 {
			t.Errorf("%d pages", n)
		}
	})
}

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

// Where the index is too short, the whole partition is read once.
func TestFullSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.page = 500
		w.startAll()
		a, b, c := w.nodes["a1"], w.nodes["a2"], w.nodes["a3"]
		b.halt()
		c.halt()
		p := hashring.Partition(3)
		keys := keysIn(p, 50)
		var dots []crdt.Dot
		for _, k := range keys {
			dots = append(dots, a.write(k, "old")) // which no record shows later
			a.write(k, "v")
		}
		for _, d := range dots[:10] {
			if !a.disk.LoseRecord(indexKey(p, d)) {
				t.Fatal("no index entry")
			}
		}
		b.back()
		c.back()
		w.pass(5 * time.Second)
		w.equal()
		for _, k := range keys {
			if b.has(k) != "v" || c.has(k) != "v" {
				t.Errorf("%s: b has %q, c has %q", k, b.has(k), c.has(k))
			}
		}
		if n := b.repair.Stats().FullSyncs.Load() + c.repair.Stats().FullSyncs.Load(); n < 1 || n > 4 {
			t.Errorf("%d full syncs", n)
		}
	})
}

// A full sync while writes go on: at no moment does the clock speak for what is
// not there (A2).
func TestFullSyncUnderWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.page = 60
		w.startAll()
		a, b, c := w.nodes["a1"], w.nodes["a2"], w.nodes["a3"]
		b.halt()
		c.halt()
		p := hashring.Partition(3)
		keys := keysIn(p, 50)
		lost := a.write(keys[0], "old")
		for _, k := range keys {
			a.write(k, "v")
		}
		a.disk.LoseRecord(indexKey(p, lost))
		b.back()
		latest := map[string]crdt.Dot{}
		for i := range 1000 {
			k := keys[i%len(keys)]
			latest[k] = a.write(k, fmt.Sprint("v", i))
			w.pass(time.Millisecond)
			for k, d := range latest {
				if !b.Clock(p).Contains(d) {
					continue
				}
				page, err := b.Scan(wire.Scan{Partition: p, Last: 1<<64 - 1, MaxBytes: 1 << 20})
				if err != nil {
					t.Fatal(err)
				}
				for _, e := range page.Entries {
					rec, err := crdt.DecodeRecord(hashring.KeyHash(e.Key), e.Record)
					if err != nil || string(e.Key) == string(fullKey(k)) && !rec.Covers(d) {
						t.Fatalf("the clock speaks for %v of %s, the record does not, %v", d, k, err)
					}
				}
			}
		}
		if b.repair.Stats().FullSyncs.Load() == 0 {
			t.Error("no full sync")
		}
		c.back()
		w.pass(10 * time.Second)
		w.equal()
	})
}

// A partition that cannot be served here and now does not keep the others from
// being repaired.
func TestOneBadPartitionStopsNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.startAll()
		a, b, c := w.nodes["a1"], w.nodes["a2"], w.nodes["a3"]
		c.halt() // a is the only one to learn from
		first, last := keysIn(0, 1)[0], keysIn(partitions-1, 1)[0]
		a.write(first, "v")
		a.write(last, "v")
		a.disk.CorruptValue(recordKey(fullKey(first)))
		w.pass(5 * time.Second)
		if b.has(last) != "v" {
			t.Errorf("b has %q of the last partition", b.has(last))
		}
		if b.repair.Stats().Failed.Load() == 0 {
			t.Error("no round is said to have failed")
		}
	})
}

// A peer that cannot be reached fails the round, and the next one that works
// repairs.
func TestUnreachablePeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.startAll()
		a, b, c := w.nodes["a1"], w.nodes["a2"], w.nodes["a3"]
		w.fabric.Partition([]topology.NodeID{a.id}, []topology.NodeID{b.id, c.id})
		a.write("k", "v")
		w.pass(5 * time.Second)
		if b.repair.Stats().Failed.Load() == 0 || b.has("k") != "" {
			t.Errorf("%d failed, b has %q", b.repair.Stats().Failed.Load(), b.has("k"))
		}
		w.fabric.HealAll()
		w.pass(3 * time.Second)
		w.equal()
	})
}

// A wiped node answers no reads until it has had all that each other owner
// had, and says so meanwhile.
func TestBehindUntilAllWereMet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.startAll()
		a, b, c := w.nodes["a1"], w.nodes["a2"], w.nodes["a3"]
		for i := range 30 {
			a.write(fmt.Sprint("k", i), "v")
		}
		w.pass(5 * time.Second)
		b.halt()
		a.halt()
		if err := b.disk.Wipe(); err != nil {
			t.Fatal(err)
		}
		b.back()
		w.pass(10 * time.Second)
		if b.BehindCount() != partitions || !b.Behind(partOf("k0")) {
			t.Errorf("%d partitions behind with one owner away", b.BehindCount())
		}
		if _, err := c.get(coord.Get{Key: []byte("k0"), R: 2}); err == nil {
			t.Error("a wiped node helps to a quorum")
		}
		a.back()
		w.pass(3 * time.Second)
		if b.BehindCount() != 0 || b.has("k0") != "v" {
			t.Errorf("%d partitions behind, k0 is %q", b.BehindCount(), b.has("k0"))
		}
		w.equal()
	})
}

// Regions compare themselves, too: what no log delivered is fetched, spread over
// the region, and counted once.
func TestFarRegions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		w.page = 2000
		w.startAll()
		a, b := w.nodes["a1"], w.nodes["b1"]
		for i := range 60 {
			if _, err := a.put(coord.Put{Key: fmt.Append(nil, "a", i), Value: []byte("v")}); err != nil {
				t.Fatal(err)
			}
			if _, err := b.put(coord.Put{Key: fmt.Append(nil, "b", i), Value: []byte("v")}); err != nil {
				t.Fatal(err)
			}
		}
		w.pass(30 * time.Second)
		w.equal()
		var full, pulled uint64
		for _, m := range w.all() {
			pulled += m.repair.Stats().PulledKeys.Load()
			if m.has("a7") != "v" || m.has("b7") != "v" {
				t.Errorf("%s has %q and %q", m.id, m.has("a7"), m.has("b7"))
			}
			full += m.repair.Stats().FullSyncs.Load()
		}
		if full != 0 || pulled < 120 || pulled > 150 {
			t.Errorf("%d full syncs, %d records pulled for 120", full, pulled)
		}
	})
}

// The owners of the other region are asked in turn: one that is down holds
// nothing up for long.
func TestFarOwnerDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		w.startAll()
		for i := range 20 {
			if _, err := w.nodes["a1"].put(coord.Put{Key: fmt.Append(nil, "k", i), Value: []byte("v")}); err != nil {
				t.Fatal(err)
			}
		}
		w.pass(100 * time.Millisecond)
		w.nodes["a2"].halt()
		w.pass(2 * time.Minute)
		for i := range 20 {
			if got := w.nodes["b3"].has(fmt.Sprint("k", i)); got != "v" {
				t.Errorf("b3 has %q of k%d", got, i)
			}
		}
	})
}

// A gap in the log is a reason to compare at once, and not to wait for a second
// look.
func TestGapIsUrgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		w.startAll()
		if _, err := w.nodes["a1"].put(coord.Put{Key: []byte("k"), Value: []byte("v")}); err != nil {
			t.Fatal(err)
		}
		w.pass(100 * time.Millisecond)
		for _, m := range w.all()[3:] {
			if m.has("k") != "" {
				t.Errorf("%s has it before it was told", m.id)
			}
			m.gap <- struct{}{}
		}
		w.pass(100 * time.Millisecond)
		for _, m := range w.all()[3:] {
			if m.has("k") != "v" {
				t.Errorf("%s has %q", m.id, m.has("k"))
			}
		}
	})
}

// A full sync between regions: the clock is joined only by who has the records
// (A2), though others of the region took them.
func TestFarFullSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		w.startAll()
		p := hashring.Partition(3)
		keys := keysIn(p, 30)
		east := w.all()[:3]
		for _, m := range w.all()[3:] {
			m.halt()
		}
		var dots []crdt.Dot
		for _, k := range keys {
			dots = append(dots, east[0].write(k, "v"))
		}
		w.pass(5 * time.Second)
		for _, m := range east {
			for _, d := range dots[:5] {
				m.disk.LoseRecord(indexKey(p, d))
			}
		}
		for _, m := range w.all()[3:] {
			m.back()
		}
		w.pass(time.Minute)
		w.equal()
		for _, k := range keys {
			if got := w.nodes["b2"].has(k); got != "v" {
				t.Errorf("b2 has %q of %s", got, k)
			}
		}
	})
}

// A quorum of the region took what this node fetched, and this node itself did
// not: it does not fetch the same again and again without end, and its clock
// does not speak for what it has not got (A2).
func TestFarWithoutThisNode(t *testing.T) {
	for name, damage := range map[string]bool{"by clocks": false, "full sync": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 2)
				w.page = 200
				w.startAll()
				b := w.nodes["b1"]
				p := hashring.Partition(0)
				for q := range hashring.Partition(partitions) {
					if w.tops[1].Owners(q)[0] == string(b.id) {
						p = q
					}
				}
				var taken int
				b.applyRemote = func(_ context.Context, _ string, entries []wire.Entry) error {
					taken += len(entries) // by the others
					return nil
				}
				for _, m := range w.all()[4:] {
					m.halt() // nor do they tell this node
				}
				keys := keysIn(p, 20)
				dots := make([]crdt.Dot, len(keys))
				for i, k := range keys {
					dots[i] = w.nodes["a1"].write(k, "v")
				}
				w.pass(2500 * time.Millisecond)
				if damage {
					for _, m := range w.all()[:3] {
						m.disk.LoseRecord(indexKey(p, dots[0]))
					}
				}
				w.pass(30 * time.Second)
				if taken == 0 || taken > 20*len(keys) {
					t.Errorf("spread %d entries", taken)
				}
				for i, k := range keys {
					if b.Clock(p).Contains(dots[i]) && b.has(k) != "v" {
						t.Errorf("the clock speaks for %s, of which it has %q", k, b.has(k))
					}
				}
			})
		})
	}
}
