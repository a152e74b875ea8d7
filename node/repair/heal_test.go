package repair_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/hashring"
)

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

// What nobody stumbles over is found by the scrub.
func TestScrubHeals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.scrub = 20 * time.Second
		w.startAll()
		a, b := w.nodes["a1"], w.nodes["a2"]
		for _, k := range keysIn(0, 20) {
			a.write(k, "v")
		}
		w.pass(5 * time.Second)
		for _, k := range keysIn(0, 10) {
			b.disk.CorruptValue(recordKey(fullKey(k)))
		}
		w.pass(time.Minute)
		for _, k := range keysIn(0, 20) {
			if err := b.readable(k); err != nil {
				t.Error(err)
			}
		}
		if n := b.repair.Stats().Healed.Load(); n != 10 {
			t.Errorf("%d healed", n)
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
