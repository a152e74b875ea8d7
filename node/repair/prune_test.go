package repair_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/wire"
)

// indexed is how many of the dots that m has of p its index still knows, from
// the newest on.
func (m *member) indexed(p hashring.Partition) (n uint64) {
	m.w.t.Helper()
	for _, run := range m.Clock(p).All() {
		for at := run.Hi; at >= run.Lo; at-- {
			lacks := m.Clock(p)
			below := &crdt.Clock{}
			for _, r := range lacks.All() {
				if r.Actor != run.Actor {
					below.AddSpan(r)
				}
			}
			if at > 1 {
				below.AddSpan(crdt.Dots{Actor: run.Actor, Span: crdt.Span{Lo: 1, Hi: at - 1}})
			}
			got, err := m.Pull(wire.Pull{Partition: p, Clock: below, MaxBytes: 1 << 20})
			if err != nil {
				m.w.t.Fatal(err)
			}
			if got.Full {
				break
			}
			n++
		}
	}
	return n
}

func pruning(t *testing.T, regions int) *world {
	w := newWorld(t, regions)
	w.prune = 10 * time.Second
	w.startAll()
	return w
}

// What every owner in every region has is given up, and nothing else.
func TestPrune(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := pruning(t, 2)
		p := hashring.Partition(3)
		keys := keysIn(p, 60)
		for _, k := range keys[:40] {
			w.nodes["a1"].write(k, "v")
			w.nodes["b2"].write(k, "w")
		}
		w.pass(2 * time.Minute)
		w.equal()
		for _, m := range w.all() {
			if n := m.indexed(p); n != 0 || m.repair.Stats().Prunings.Load() == 0 {
				t.Errorf("%s keeps %d entries, %d prunings", m.id, n, m.repair.Stats().Prunings.Load())
			}
		}

		// One owner in the other region is away: what it lacks is kept.
		w.nodes["b3"].halt()
		for _, k := range keys[40:] {
			w.nodes["a1"].write(k, "v")
		}
		w.pass(2 * time.Minute)
		for _, m := range w.all() {
			if m.Replica == nil {
				continue
			}
			if n := m.indexed(p); n != 20 {
				t.Errorf("%s keeps %d entries, want those 20 that b3 lacks", m.id, n)
			}
		}
		w.nodes["b3"].back()
		w.pass(2 * time.Minute)
		w.equal()
		for _, m := range w.all() {
			if n := m.indexed(p); n != 0 {
				t.Errorf("%s keeps %d entries", m.id, n)
			}
			if n := m.repair.Stats().FullSyncs.Load(); n != 0 {
				t.Errorf("%s needed %d full syncs", m.id, n)
			}
		}
	})
}

// Who does not know all regions, or has not heard of all owners since it
// started, prunes nothing.
func TestPruneNeedsEverybodysWord(t *testing.T) {
	for _, c := range []struct {
		name string
		prep func(w *world)
	}{
		{"a region is not known", func(w *world) { w.hide(true) }},
		{"a region does not answer", func(w *world) {
			for _, a := range w.all()[:3] {
				for _, b := range w.all()[3:] {
					w.fabric.Cut(a.id, b.id)
				}
			}
		}},
		{"a peer has been away since the start", func(w *world) {
			w.nodes["a3"].halt()
			w.nodes["a1"].halt()
			w.nodes["a1"].back()
		}},
		{"an owner to be has nothing yet", func(w *world) {
			w.join(0, "a4")
			w.moving(3, "a3", "a4", topology.Copying)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := pruning(t, 2)
				c.prep(w)
				a := w.nodes["a1"]
				w.pass(time.Second)
				for _, k := range keysIn(3, 10) {
					a.write(k, "v")
				}
				w.pass(2 * time.Minute)
				if n := a.indexed(3); n != 10 {
					t.Errorf("keeps %d of 10 entries", n)
				}
			})
		})
	}
}

// Entries are given up on the word of an owner that is then wiped: it is made
// whole by a full sync, from then on its new word counts.
func TestPruneAndWipe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := pruning(t, 1)
		a, b, c := w.nodes["a1"], w.nodes["a2"], w.nodes["a3"]
		p := hashring.Partition(3)
		keys := keysIn(p, 30)
		for _, k := range keys[:20] {
			a.write(k, "v")
		}
		w.pass(time.Minute)
		b.halt()
		if err := b.disk.Wipe(); err != nil {
			t.Fatal(err)
		}
		for _, k := range keys[20:] {
			c.write(k, "v")
		}
		w.pass(time.Minute)
		if a.indexed(p) != 10 || c.indexed(p) != 10 {
			t.Errorf("a and c keep %d and %d entries, want the 10 of which b never knew", a.indexed(p), c.indexed(p))
		}
		b.back()
		w.pass(time.Minute)
		w.equal()
		for _, k := range keys {
			if b.has(k) != "v" {
				t.Errorf("b has %q of %s", b.has(k), k)
			}
		}
		if b.repair.Stats().FullSyncs.Load() == 0 || a.indexed(p)+b.indexed(p)+c.indexed(p) != 0 {
			t.Errorf("%d full syncs; entries kept: %d, %d, %d", b.repair.Stats().FullSyncs.Load(), a.indexed(p), b.indexed(p), c.indexed(p))
		}
	})
}
