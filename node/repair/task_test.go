package repair_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/repair"
	"github.com/atolldb/atoll/node/topology"
)

// quiet is a world that repairs nothing unasked.
func quiet(t *testing.T, regions int) *world {
	w := newWorld(t, regions)
	w.beat, w.scrub = time.Hour, 1000*time.Hour
	w.startAll()
	w.pass(time.Hour)
	return w
}

// A lost record that no digest shows, since the loser's still speaks for it, is
// found by a deep repair of the loser and of whoever else has the partition.
func TestDeepRepairFindsWhatNoDigestShows(t *testing.T) {
	for _, who := range []topology.NodeID{"a1", "a2"} {
		t.Run(string(who), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := quiet(t, 1)
				a, b := w.nodes["a1"], w.nodes["a2"]
				keys := keysIn(3, 200)
				for _, k := range keys {
					if _, err := a.put(coord.Put{Key: []byte(k), Value: []byte("v"), W: 3}); err != nil {
						t.Fatal(err)
					}
				}
				w.pass(time.Second)
				b.lose(keys[1])
				asked := w.nodes[who]
				if err := asked.repair.Repair(t.Context(), nil, false); err != nil {
					t.Fatal(err)
				}
				if p := asked.repair.Progress(); b.has(keys[1]) != "" || p.Repaired != 0 || p.Running || p.Done != partitions || p.Share() != 1 || p.Ended.IsZero() {
					t.Errorf("a shallow repair: %+v", p)
				}
				if err := asked.repair.Repair(t.Context(), nil, true); err != nil {
					t.Fatal(err)
				}
				if b.has(keys[1]) != "v" {
					t.Errorf("b has %q after a deep repair of %s", b.has(keys[1]), who)
				}
				p := asked.repair.Progress()
				if want := map[bool]uint64{true: 1, false: 0}[who == "a2"]; p.Repaired != want || !p.Deep || p.Done != partitions || p.Skipped != 0 || p.Unreadable != 0 || p.Err != nil {
					t.Errorf("%+v", p)
				}
				// The loser's digest has been wrong since it lost the record,
				// until it counts again.
				if err := b.repair.Repair(t.Context(), []hashring.Partition{3}, true); err != nil {
					t.Fatal(err)
				}
				w.equal()
			})
		})
	}
}

// A repair that is asked for fetches at once what a round would fetch when it
// had seen it twice; of the partitions that it is asked for.
func TestRepairOfSomePartitions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := quiet(t, 1)
		a, b := w.nodes["a1"], w.nodes["a2"]
		here, there := keysIn(3, 1)[0], keysIn(5, 1)[0]
		a.write(here, "v")
		a.write(there, "v")
		if err := b.repair.Repair(t.Context(), []hashring.Partition{3}, false); err != nil {
			t.Fatal(err)
		}
		if b.has(here) != "v" || b.has(there) != "" {
			t.Errorf("b has %q and %q", b.has(here), b.has(there))
		}
		if p := b.repair.Progress(); p.Partitions != 1 || p.Done != 1 || p.Repaired != 1 || p.Bytes == 0 {
			t.Errorf("%+v", p)
		}
	})
}

// Owners in other regions are compared with, too.
func TestRepairOfRegions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := quiet(t, 2)
		w.nodes["a2"].write("k", "v")
		for _, m := range w.all() {
			m.wire.reset()
		}
		b := w.nodes["b3"]
		if err := b.repair.Repair(t.Context(), nil, false); err != nil {
			t.Fatal(err)
		}
		w.pass(time.Second)
		for _, id := range []topology.NodeID{"b1", "b2", "b3"} {
			if w.nodes[id].has("k") != "v" {
				t.Errorf("%s has %q", id, w.nodes[id].has("k"))
			}
		}
		for _, id := range []topology.NodeID{"a1", "a2", "a3", "b1", "b2"} {
			if b.wire.askedOf(id) == 0 {
				t.Errorf("%s was not asked", id)
			}
		}
	})
}

// An owner that does not answer leaves the repair incomplete, and what the
// others have is repaired.
func TestRepairWithoutAnOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := quiet(t, 1)
		a, b, c := w.nodes["a1"], w.nodes["a2"], w.nodes["a3"]
		a.write("k", "v")
		c.halt()
		if err := b.repair.Repair(t.Context(), nil, true); !errors.Is(err, repair.ErrIncomplete) {
			t.Errorf("%v, want %v", err, repair.ErrIncomplete)
		}
		if p := b.repair.Progress(); b.has("k") != "v" || p.Skipped != partitions || p.Done != partitions || !errors.Is(p.Err, repair.ErrIncomplete) {
			t.Errorf("b has %q, %+v", b.has("k"), p)
		}
	})
}

// There is one repair at a time; it tells how far it is, goes no faster than the
// budget, and can be cancelled.
func TestRepairProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.page, w.budget = 10_000, 100_000
		w.beat, w.scrub = time.Hour, 1000*time.Hour
		w.startAll()
		w.pass(time.Hour)
		a, b := w.nodes["a1"], w.nodes["a2"]
		if p := b.repair.Progress(); p != (repair.Progress{}) || p.Share() != 1 {
			t.Errorf("before the first: %+v", p)
		}
		for i := range 400 { // 2 MB
			a.write(fmt.Sprint("k", i), strings.Repeat("v", 5000))
		}
		ended := make(chan error, 1)
		go func() { ended <- b.repair.Repair(context.Background(), nil, false) }()
		w.pass(5 * time.Second)
		p := b.repair.Progress()
		if !p.Running || p.Bytes < 300_000 || p.Bytes > 700_000 || p.Share() < 0 || p.Share() >= 1 {
			t.Errorf("after 5 s of about 20: %+v, share %v", p, p.Share())
		}
		if err := b.repair.StartRepair(nil, true); !errors.Is(err, repair.ErrRepairing) {
			t.Errorf("a second one: %v", err)
		}
		b.repair.CancelRepair()
		if p := b.repair.Progress(); p.Running {
			t.Error("still runs")
		}
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
		if p := b.repair.Progress(); p.Running || !errors.Is(p.Err, context.Canceled) {
			t.Errorf("after it was cancelled: %+v", p)
		}
		if err := b.repair.StartRepair(nil, false); err != nil {
			t.Fatal(err)
		}
		w.pass(time.Minute)
		if p := b.repair.Progress(); p.Running || p.Err != nil || p.Share() != 1 || p.Repaired == 0 {
			t.Errorf("%+v", p)
		}
		for p := range hashring.Partition(partitions) {
			if a.Sum(p) != b.Sum(p) {
				t.Errorf("partition %d is not equal", p)
			}
		}
	})
}

// A caller that gives up ends its repair; so does the node that stops.
func TestRepairEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := quiet(t, 1)
		w.budget = 1000
		a, b := w.nodes["a1"], w.nodes["a2"]
		b.halt()
		b.back()
		w.pass(time.Hour)
		for i := range 20 {
			a.write(fmt.Sprint("k", i), strings.Repeat("v", 5000))
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		if err := b.repair.Repair(ctx, nil, true); !errors.Is(err, context.Canceled) || b.repair.Progress().Running {
			t.Errorf("%v, %+v", err, b.repair.Progress())
		}
		if err := b.repair.StartRepair(nil, true); err != nil {
			t.Fatal(err)
		}
		w.pass(time.Second)
		r := b.repair
		b.halt()
		if p := r.Progress(); p.Running || p.Err == nil {
			t.Errorf("outlived its node: %+v", p)
		}
		if err := r.Repair(t.Context(), nil, false); !errors.Is(err, repair.ErrNotRunning) {
			t.Errorf("of a node that has stopped: %v", err)
		}
	})
}
