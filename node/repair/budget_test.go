package repair_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/hashring"
)

// Two regions write while they are cut off from each other, for longer than their
// budgets of index last: each gives up what the other lacks, says that it needs a
// full sync, and when the cut is over both have everything.
func TestIndexBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		w.prune, w.index = 10*time.Second, 4<<10
		w.startAll()
		p := hashring.Partition(3)
		keys := keysIn(p, 200)
		w.pass(time.Minute)
		east, west := w.all()[:3], w.all()[3:]
		for _, a := range east {
			for _, b := range west {
				w.fabric.Cut(a.id, b.id)
			}
		}
		for i, k := range keys {
			w.nodes["a1"].write(k, fmt.Sprint("a", i))
			w.nodes["b2"].write(k, fmt.Sprint("b", i))
		}
		w.pass(2 * time.Minute)
		for _, m := range w.all() {
			_, bytes, err := m.IndexSize(p)
			if err != nil || bytes > 4<<10 {
				t.Errorf("%s has %d bytes of index, %v", m.id, bytes, err)
			}
			if need := m.repair.NeedFullSync(); len(need) != 1 {
				t.Errorf("%s says that these need a full sync: %v", m.id, need)
			}
		}
		w.fabric.HealAll()
		w.pass(3 * time.Minute)
		w.equal()
		full := uint64(0)
		for _, m := range w.all() {
			full += m.repair.Stats().FullSyncs.Load()
			if need := m.repair.NeedFullSync(); len(need) != 0 {
				t.Errorf("%s does not wait for %v yet", m.id, need)
			}
		}
		if full == 0 {
			t.Error("nobody needed a full sync")
		}
		for i, k := range keys {
			if got := w.nodes["a2"].has(k); got != fmt.Sprintf("a%db%d", i, i) && got != fmt.Sprintf("b%da%d", i, i) {
				t.Fatalf("a2 has %q of %s", got, k)
			}
		}
	})
}

// An owner of the own region that is away is waited for, whatever that takes.
func TestIndexBudgetIsForRegions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		w.prune, w.index = 10*time.Second, 1<<10
		w.startAll()
		w.pass(time.Minute)
		w.nodes["a3"].halt()
		for _, k := range keysIn(3, 100) {
			w.nodes["a1"].write(k, "v")
		}
		w.pass(2 * time.Minute)
		if n := w.nodes["a1"].indexed(3); n != 100 || len(w.nodes["a1"].repair.NeedFullSync()) > 0 {
			t.Errorf("%d entries are kept, and %v need a full sync", n, w.nodes["a1"].repair.NeedFullSync())
		}
		w.nodes["a3"].back()
		w.pass(2 * time.Minute)
		w.equal()
		if n := w.nodes["a3"].repair.Stats().FullSyncs.Load(); n > 0 {
			t.Errorf("a3 needed %d full syncs", n)
		}
	})
}
