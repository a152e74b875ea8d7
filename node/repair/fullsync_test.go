package repair_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/wire"
)

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

// prune gives up all index entries of p at m that the others know of too, as a
// long-lived owner has.
func (w *world) pruneAll(m *member, p hashring.Partition) {
	w.t.Helper()
	for _, run := range m.Clock(p).All() {
		for n := run.Lo; n <= run.Hi; n++ {
			m.disk.LoseRecord(indexKey(p, crdt.Dot{Actor: run.Actor, N: n}))
		}
	}
}

// What comes back with an old disk, when the others no longer have an index of
// what it lacks, is healed by a full sync; nothing is lost on either side.
func TestOldDiskAndPrunedIndex(t *testing.T) {
	for name, old := range map[string]func(t *testing.T, w *world, m *member){
		"rolled back": func(t *testing.T, w *world, m *member) {
			m.halt()
			if n, err := m.disk.RollBack(20); err != nil || n != 20 {
				t.Fatalf("rolled back %d, %v", n, err)
			}
		},
		"wiped": func(t *testing.T, w *world, m *member) {
			m.halt()
			if err := m.disk.Wipe(); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 1)
				w.startAll()
				a, b, c := w.nodes["a1"], w.nodes["a2"], w.nodes["a3"]
				p := hashring.Partition(3)
				keys := keysIn(p, 120)
				for i, k := range keys[:100] {
					w.nodes[topology.NodeID(fmt.Sprint("a", 1+i%3))].write(k, "v")
				}
				w.pass(5 * time.Second)
				w.equal()
				old(t, w, b)
				w.pruneAll(a, p)
				w.pruneAll(c, p)
				for _, k := range keys[100:] {
					a.write(k, "later")
				}
				b.back()
				w.pass(10 * time.Second)
				w.equal()
				for i, k := range keys {
					want := "v"
					if i >= 100 {
						want = "later"
					}
					for _, m := range []*member{a, b, c} {
						if m.has(k) != want {
							t.Errorf("%s has %q of %s", m.id, m.has(k), k)
						}
					}
				}
				if n := b.repair.Stats().FullSyncs.Load(); n == 0 {
					t.Error("no full sync")
				}
				if b.Actor() == crdt.MakeActor(2, 1) || b.Behind(p) {
					t.Errorf("actor %v after its disk had lost something, behind: %v", b.Actor(), b.Behind(p))
				}
			})
		})
	}
}

// A backup of the whole data directory, restored after the node has gone on,
// has everything about it in order but its age.
func TestRestoredBackup(t *testing.T) {
	for _, pruned := range []bool{false, true} {
		t.Run(fmt.Sprintf("pruned=%v", pruned), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 1)
				w.startAll()
				a, b, c := w.nodes["a1"], w.nodes["a2"], w.nodes["a3"]
				p := hashring.Partition(3)
				keys := keysIn(p, 90)
				for _, k := range keys[:30] {
					b.write(k, "before")
				}
				w.pass(5 * time.Second)
				b.halt()
				backup := b.disk.Copy()
				b.back()
				w.pass(time.Second)
				for _, k := range keys[30:60] {
					b.write(k, "after")
				}
				w.pass(5 * time.Second)
				actor := b.Actor()
				b.halt()
				b.disk = backup
				if pruned {
					w.pruneAll(a, p)
					w.pruneAll(c, p)
				}
				b.back()
				w.pass(10 * time.Second)
				for _, k := range keys[60:] {
					b.write(k, "new")
				}
				w.pass(5 * time.Second)
				w.equal()
				for i, k := range keys {
					if got, want := a.has(k), []string{"before", "after", "new"}[i/30]; got != want || b.has(k) != want {
						t.Errorf("%s: a has %q, b has %q, want %q", k, got, b.has(k), want)
					}
				}
				if n := b.repair.Stats().FullSyncs.Load(); pruned != (n > 0) {
					t.Errorf("%d full syncs", n)
				}
				if b.Actor() == actor {
					t.Error("the backup goes on with the actor that went on without it")
				}
			})
		})
	}
}
