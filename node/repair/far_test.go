package repair_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/geo"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/peer/memnet"
	"github.com/atolldb/atoll/node/wire"
)

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

// What a log that is late brings is not fetched as well, as long as it brings something
// of what is late. What is fresh does not count.
func TestLateLogIsLeftToIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		w.startAll()
		w.hears.Store(true)
		a, b := w.nodes["a1"], w.nodes["b1"]
		write := func(prefix string, n int) (entries []geo.Entry) {
			for i := range n {
				key := fmt.Sprint(prefix, i)
				entries = append(entries, a.entry(key, a.write(key, "v")))
			}
			return entries
		}
		bring := func(entries ...geo.Entry) {
			if err := b.coord.ApplyRemote(t.Context(), "a", entries); err != nil {
				t.Fatal(err)
			}
		}
		pulled := func() (n uint64) {
			for _, m := range w.all()[3:] {
				n += m.repair.Stats().PulledKeys.Load()
			}
			return n
		}
		// The fresh ones come at once.
		fresh := 0
		pass := func(seconds int, each func(i int)) {
			for i := range seconds {
				bring(write(fmt.Sprint("fresh", fresh, "-"), 3)...)
				fresh++
				each(i)
				w.pass(time.Second)
			}
		}
		late := write("late", 600)
		pass(60, func(i int) { bring(late[10*i : 10*i+10]...) })
		const little = 8 // of each of three nodes
		if n := pulled(); n > 3*little {
			t.Errorf("%d records of 600 were fetched that the log brought", n)
		}

		lost := write("lost", 300)
		before := pulled()
		pass(25, func(int) {})
		if n := pulled() - before; n > 0 {
			t.Errorf("%d records were fetched before it was known that the log does not bring them", n)
		}
		pass(20, func(int) {})
		if n := pulled() - before; n < uint64(len(lost)) {
			t.Errorf("%d records of %d were fetched that the log does not bring", n, len(lost))
		}

		before = pulled()
		silent := write("silent", 300)
		w.hears.Store(false)
		w.pass(10 * time.Second)
		if n := pulled() - before; n < uint64(len(silent)) {
			t.Errorf("%d records of %d were fetched when the log was silent", n, len(silent))
		}
		w.pass(10 * time.Second)
		w.equal()
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

// A region that swallows everything holds up its own rounds only: peers are
// compared with at every beat, and so is another region.
func TestSilentRegionHoldsUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3)
		w.startAll()
		hole := memnet.Faults{Drop: 1}
		for _, m := range w.all()[:3] {
			for _, far := range w.all()[3:6] {
				w.fabric.SetLink(m.id, far.id, hole)
				w.fabric.SetLink(far.id, m.id, hole)
			}
		}
		w.pass(10 * time.Second)
		a := w.nodes["a1"]
		a.wire.reset()
		if _, err := w.nodes["c1"].put(coord.Put{Key: []byte("k"), Value: []byte("v")}); err != nil {
			t.Fatal(err)
		}
		w.nodes["a3"].write("near", "v")
		w.pass(3 * time.Second)
		if a.has("near") != "v" {
			t.Errorf("a1 has %q of what a peer has", a.has("near"))
		}
		w.pass(17 * time.Second)
		if n := a.wire.askedOf("a2"); n < 18 {
			t.Errorf("asked a peer %d times in 20 beats", n)
		}
		if a.has("k") != "v" {
			t.Errorf("a1 has %q of what the third region has", a.has("k"))
		}
		if a.wire.askedOf("b1")+a.wire.askedOf("b2")+a.wire.askedOf("b3") == 0 || a.repair.Stats().Failed.Load() == 0 {
			t.Error("the silent region was not asked")
		}
	})
}

// A region that is learned of later is compared with from then on, and one that
// is not known yet does no harm.
func TestRegionLearnedLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		w.hide(true)
		w.startAll()
		if _, err := w.nodes["a1"].put(coord.Put{Key: []byte("k"), Value: []byte("v")}); err != nil {
			t.Fatal(err)
		}
		w.pass(30 * time.Second)
		if w.nodes["b1"].has("k") != "" {
			t.Fatal("compared with a region that nobody knows")
		}
		w.hide(false)
		w.pass(30 * time.Second)
		w.equal()
		if w.nodes["b1"].has("k") != "v" {
			t.Error("not compared with the region that is known now")
		}
	})
}

// Requests carry the epoch of the region's topology, and none to other regions,
// which have epochs of their own.
func TestEpochs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		w.startAll()
		w.join(0, "a4")
		a := w.nodes["a1"]
		w.pass(20 * time.Second)
		a.wire.mu.Lock()
		defer a.wire.mu.Unlock()
		if a.wire.epoch["a2"] != 2 || a.wire.asked["b1"] == 0 || a.wire.epoch["b1"] != 0 {
			t.Errorf("epochs %v of requests to %v", a.wire.epoch, a.wire.asked)
		}
	})
}
