package repair_test

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/peer/memnet"
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
	b, err := m.Read(0, hashring.KeyHash(full), full)
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
		b.wire.reset()
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
		b.wire.mu.Lock()
		b.wire.refuse = func(req peer.Request) bool {
			q, err := wire.DecodePull(req.Body)
			return req.Verb == peer.VerbPull && err == nil && q.Partition == 0
		}
		b.wire.mu.Unlock()
		w.pass(5 * time.Second)
		if b.has(last) != "v" || b.has(first) != "" {
			t.Errorf("b has %q of the last partition, %q of the first", b.has(last), b.has(first))
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

// A peer that swallows everything holds up nobody else.
func TestSilentPeerHoldsUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.startAll()
		a := w.nodes["a1"]
		w.fabric.SetLink("a1", "a2", memnet.Faults{Drop: 1})
		a.wire.reset()
		w.pass(20 * time.Second)
		if n := a.wire.askedOf("a3"); n < 18 {
			t.Errorf("asked the other peer %d times in 20 beats", n)
		}
		if n := a.wire.askedOf("a2"); n == 0 || n > 5 {
			t.Errorf("asked the silent one %d times", n)
		}
	})
}
