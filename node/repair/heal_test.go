package repair_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/repair"
)

// spoil makes a record unreadable on m's disk.
func (m *member) spoil(key string) {
	m.w.t.Helper()
	if !m.disk.CorruptValue(recordKey(fullKey(key))) {
		m.w.t.Fatalf("%s has no record of %s", m.id, key)
	}
}

// A record that the disk spoiled is fetched again from the others: when the
// scrub comes by, or at once when somebody reads it.
func TestUnreadableIsHealed(t *testing.T) {
	for _, read := range []bool{false, true} {
		t.Run(map[bool]string{false: "scrubbed", true: "read"}[read], func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 2)
				if read {
					w.scrub = 1000 * time.Hour
				}
				w.startAll()
				a, b := w.nodes["a1"], w.nodes["a2"]
				keys := keysIn(3, 20)
				for _, k := range keys {
					if _, err := a.put(coord.Put{Key: []byte(k), Value: []byte("v"), W: 3}); err != nil {
						t.Fatal(err)
					}
				}
				w.pass(30 * time.Second)
				b.spoil(keys[3])
				b.spoil(keys[7])
				if read && !strings.Contains(b.has(keys[3]), "corrupt") {
					t.Fatalf("b has %q", b.has(keys[3]))
				}
				w.pass(map[bool]time.Duration{false: 15 * time.Second, true: 5 * time.Second}[read])
				if b.has(keys[3]) != "v" {
					t.Errorf("b has %q", b.has(keys[3]))
				}
				w.pass(30 * time.Second)
				if b.has(keys[7]) != "v" || b.DamagedCount() != 0 || b.repair.Stats().Healed.Load() != 2 {
					t.Errorf("b has %q, %d damaged, %d healed", b.has(keys[7]), b.DamagedCount(), b.repair.Stats().Healed.Load())
				}
				w.equal()
			})
		})
	}
}

// All other servers of the region must be asked: one of them may be the only
// other one that took an acknowledged write.
func TestHealNeedsAllServers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.startAll()
		a, b, c := w.nodes["a1"], w.nodes["a2"], w.nodes["a3"]
		key := keysIn(3, 1)[0]
		if _, err := a.put(coord.Put{Key: []byte(key), Value: []byte("v"), W: 3}); err != nil {
			t.Fatal(err)
		}
		a.halt()
		if _, err := b.put(coord.Put{Key: []byte(key), Value: []byte("newer"), W: 2, Overwrite: true}); err != nil {
			t.Fatal(err)
		}
		c.halt()
		a.back()
		// Only b and c have the newer one; a and b are up.
		a.halt()
		b.spoil(key)
		a.back()
		w.fabric.Cut(a.id, b.id)
		w.fabric.Cut(b.id, a.id)
		b.has(key)
		w.pass(time.Minute)
		if b.DamagedCount() != 1 || b.has(key) == "v" {
			t.Errorf("b has %q with no other server to ask", b.has(key))
		}
		w.fabric.HealAll()
		w.pass(time.Minute)
		if b.DamagedCount() != 1 || b.has(key) == "v" {
			t.Errorf("b has %q on the word of one", b.has(key))
		}
		c.back()
		w.pass(time.Minute)
		if b.DamagedCount() != 0 || b.has(key) != "newer" {
			t.Errorf("b has %q, %d damaged", b.has(key), b.DamagedCount())
		}
		w.equal()
	})
}

// A deep repair finds what is unreadable and fetches it, and says what it could
// not fetch.
func TestDeepRepairHeals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := quiet(t, 1)
		a, b, c := w.nodes["a1"], w.nodes["a2"], w.nodes["a3"]
		keys := keysIn(3, 5)
		for _, k := range keys {
			if _, err := a.put(coord.Put{Key: []byte(k), Value: []byte("v"), W: 3}); err != nil {
				t.Fatal(err)
			}
		}
		b.spoil(keys[1])
		if err := b.repair.Repair(t.Context(), nil, true); err != nil {
			t.Fatal(err)
		}
		if p := b.repair.Progress(); b.has(keys[1]) != "v" || p.Healed != 1 || p.Unreadable != 0 {
			t.Errorf("b has %q, %+v", b.has(keys[1]), p)
		}
		b.spoil(keys[2])
		c.halt()
		if err := b.repair.Repair(t.Context(), []hashring.Partition{3}, true); !errors.Is(err, repair.ErrIncomplete) {
			t.Error(err)
		}
		if p := b.repair.Progress(); p.Healed != 0 || p.Unreadable != 1 || p.Skipped != 1 {
			t.Errorf("%+v", p)
		}
	})
}

// A source that cannot show all of a partition is not read in full again and
// again, and nobody believes to have what it could not send.
func TestFullSyncFromADamagedSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.page = 200
		w.startAll()
		a, b, c := w.nodes["a1"], w.nodes["a2"], w.nodes["a3"]
		p := hashring.Partition(3)
		keys := keysIn(p, 40)
		for _, k := range keys {
			a.write(k, "v")
		}
		w.pass(5 * time.Second)
		w.equal()
		for _, m := range []*member{a, c} {
			w.pruneAll(m, p)
		}
		b.halt()
		c.halt()
		if err := b.disk.Wipe(); err != nil {
			t.Fatal(err)
		}
		a.spoil(keys[5])
		b.back()
		w.pass(50 * time.Second)
		if n := b.repair.Stats().FullSyncs.Load(); n == 0 || n > 2 {
			t.Errorf("%d full syncs in 50 s", n)
		}
		if b.Clock(p).Covers(a.Clock(p)) || !b.Behind(p) {
			t.Errorf("b believes to have all, behind: %v", b.Behind(p))
		}
		c.back()
		w.pass(3 * time.Minute)
		w.equal()
		for _, k := range keys {
			if a.has(k) != "v" || b.has(k) != "v" {
				t.Errorf("a has %q of %s, b has %q", a.has(k), k, b.has(k))
			}
		}
	})
}
