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

// With three replicas both others must be asked: one of them may be the only
// other one that took an acknowledged write.
func TestHealNeedsTheOtherServers(t *testing.T) {
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

// readable reports whether m serves a key.
func (m *member) readable(key string) error {
	_, err := m.Read(0, hashring.KeyHash(fullKey(key)), fullKey(key))
	return err
}

// A record that went bad is fetched from the other owners as soon as somebody
// stumbles over it, and is not served before: what an owner sends that missed
// the last write would bring the past back.
func TestHeal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.startAll()
		a, b, c := w.nodes["a1"], w.nodes["a2"], w.nodes["a3"]
		a.write("k", "old")
		w.pass(5 * time.Second)
		old := entryOf(t, c, "k")
		c.halt()
		b.write("k", "new")
		w.pass(5 * time.Second)
		if a.has("k") != "new" {
			t.Fatalf("a has %q", a.has("k"))
		}
		a.disk.CorruptValue(recordKey(fullKey("k")))
		if err := a.readable("k"); err == nil {
			t.Fatal("readable")
		}
		// One other owner is not enough to be told by: with c away, a write could
		// have been at a and c alone.
		if err := a.take(old); err != nil {
			t.Fatal(err)
		}
		w.pass(5 * time.Second)
		if err := a.readable("k"); err == nil {
			t.Errorf("served %q before it was healed", a.has("k"))
		}
		c.back()
		w.pass(5 * time.Second)
		if err := a.readable("k"); err != nil || a.has("k") != "new" {
			t.Errorf("a has %q, %v", a.has("k"), err)
		}
		if s := a.repair.Stats(); s.Healed.Load() != 1 || a.DamagedCount() != 0 {
			t.Errorf("healed %d, %d damaged", s.Healed.Load(), a.DamagedCount())
		}
		w.equal()
	})
}

// A full sync from who turns out to have a damaged record, on a later page, ends
// without a clock: it would speak for what was not sent (A2).
func TestFullSyncOverDamage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.page = 500
		w.startAll()
		a, b, c := w.nodes["a1"], w.nodes["a2"], w.nodes["a3"]
		p := hashring.Partition(3)
		keys := keysIn(p, 60)
		b.halt()
		c.halt() // so that nobody else has anything
		for _, k := range keys {
			a.write(k, "v")
		}
		w.pruneAll(a, p)
		bad := keys[0]
		for _, k := range keys { // the last one in the store's order
			if hashring.KeyHash(fullKey(k)) > hashring.KeyHash(fullKey(bad)) {
				bad = k
			}
		}
		a.disk.CorruptValue(recordKey(fullKey(bad)))
		b.back()
		for range 100 {
			w.pass(100 * time.Millisecond)
			if b.Clock(p).Covers(a.Clock(p)) {
				t.Fatal("b believes that it has everything")
			}
		}
		if b.repair.Stats().FullSyncs.Load() == 0 {
			t.Error("no full sync")
		}
		n := 0
		for _, k := range keys {
			if b.has(k) == "v" {
				n++
			}
		}
		if n != len(keys)-1 {
			t.Errorf("b has %d of %d records", n, len(keys)-1)
		}
	})
}
