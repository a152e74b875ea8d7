package repair_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/coord"
)

// When regions were last equal is known, and stands still while they are not.
func TestEqualAsOf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		w.startAll()
		a := w.nodes["a1"]
		var mine []hashring.Partition
		for p := range hashring.Partition(partitions) {
			if w.tops[0].Owners(p)[0] == "a1" {
				mine = append(mine, p)
			}
		}
		if at := a.repair.EqualAsOf("b", mine); !at.IsZero() {
			t.Errorf("before anything was compared: %v", at)
		}
		name := w.tops[1].Region
		w.pass(20 * time.Second)
		if at := a.repair.EqualAsOf(name, mine); time.Since(at) > 10*time.Second {
			t.Errorf("at rest: %v ago", time.Since(at))
		}
		// Nothing comes from there any more, and something new is here.
		for _, m := range w.all()[3:] {
			m.halt()
		}
		if _, err := a.put(coord.Put{Key: []byte("k"), Value: []byte("v")}); err != nil {
			t.Fatal(err)
		}
		w.pass(time.Minute)
		if at := a.repair.EqualAsOf(name, mine); at.IsZero() || time.Since(at) < 50*time.Second {
			t.Errorf("cut off: %v ago", time.Since(at))
		}
		for _, m := range w.all()[3:] {
			m.back()
		}
		w.pass(time.Minute)
		if at := a.repair.EqualAsOf(name, mine); time.Since(at) > 10*time.Second {
			t.Errorf("back: %v ago", time.Since(at))
		}
	})
}

// After a cut between regions has healed, what is missing is fetched at the beats
// that follow, without a log, and without anybody saying so.
func TestHealIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		w.startAll()
		for _, a := range w.all()[:3] {
			for _, b := range w.all()[3:] {
				w.fabric.Cut(a.id, b.id)
				w.fabric.Cut(b.id, a.id)
			}
		}
		if _, err := w.nodes["a1"].put(coord.Put{Key: []byte("k"), Value: []byte("v")}); err != nil {
			t.Fatal(err)
		}
		w.pass(time.Minute)
		if got := w.nodes["b1"].has("k"); got != "" {
			t.Fatalf("it came through a cut: %q", got)
		}
		w.fabric.HealAll()
		w.pass(15 * time.Second) // two beats with each of the owners there, which are asked in turn
		for _, m := range w.all()[3:] {
			if m.has("k") != "v" {
				t.Errorf("%s has %q", m.id, m.has("k"))
			}
		}
	})
}
