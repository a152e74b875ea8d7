package storage_test

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/atolldb/atoll/node/storage"
	"github.com/atolldb/atoll/node/storage/memstore"
)

// bulkOp is an op that has time.
type bulkOp struct{ *op }

func (bulkOp) Bulk() bool { return true }

// However much bulk waits, an op that is none waits for the group that is being
// committed and for its own, and shares that with few bytes of bulk.
func TestBulkStandsBack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const sync, bulk, size, most = 4 * time.Millisecond, 200, 64 << 10, 256 << 10
		disk := memstore.NewDisk(memstore.Config{SyncMin: sync, SyncMax: sync})
		c := start(t, disk, storage.CommitterConfig{BulkBytes: most})
		var order []int
		var bulks []*result
		for i := range bulk {
			o, r := putOp(t, fmt.Sprint("bulk", i), "v")
			o.size, o.decided = size, func() { order = append(order, i) }
			submit(t, c, bulkOp{o})
			bulks = append(bulks, r)
		}
		for i := range 10 {
			time.Sleep(sync / 2) // in the middle of a sync
			synctest.Wait()
			before := len(order)
			began := time.Now()
			o, r := putOp(t, fmt.Sprint("urgent", i), "v")
			n := 0
			o.done = func(err error) { n = len(order) - before; r.done(err) }
			submit(t, c, o)
			if err := r.wait(); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(began); took > 2*sync {
				t.Errorf("op %d took %v where a sync takes %v", i, took, sync)
			}
			if n < 1 || n > most/size {
				t.Errorf("%d bulk ops were decided with op %d, not 1 to %d", n, i, most/size)
			}
		}
		for i, r := range bulks {
			if err := r.wait(); err != nil {
				t.Fatalf("bulk op %d: %v", i, err)
			}
		}
		if !slices.IsSorted(order) {
			t.Errorf("bulk ops were decided in the order %v", order)
		}
		c.stop(t)
	})
}

// Where syncs are slow a group takes more bulk, up to what a group may have.
func TestSlowSyncsTakeMoreBulk(t *testing.T) {
	for _, c := range []struct {
		sync   time.Duration
		groups int // for 64 bulk ops, the first of which is alone
	}{{time.Millisecond, 1 + 32}, {10 * time.Millisecond, 1 + 16}, {time.Second, 1 + 8}} {
		bubble(t, func(t *testing.T) {
			disk := memstore.NewDisk(memstore.Config{SyncMin: c.sync, SyncMax: c.sync})
			r := start(t, disk, storage.CommitterConfig{BulkBytes: 200, GroupBytes: 800})
			var all []*result
			for i := range 65 {
				o, done := putOp(t, fmt.Sprint("bulk", i), "v")
				o.size = 100
				submit(t, r, bulkOp{o})
				if i == 0 {
					synctest.Wait() // it syncs
				}
				all = append(all, done)
			}
			for _, done := range all {
				if err := done.wait(); err != nil {
					t.Fatal(err)
				}
			}
			if n := int(r.Stats().Groups); n < c.groups-1 || n > c.groups+1 {
				t.Errorf("syncs of %v: %d groups, about %d are right", c.sync, n, c.groups)
			}
			r.stop(t)
		})
	}
}

// What comes while bulk ops are decided goes before the next of them, into the same
// group.
func TestLateGoesBeforeBulk(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := start(t, memstore.NewDisk(memstore.Config{}), storage.CommitterConfig{})
		var order []string
		late, lateDone := putOp(t, "late", "v")
		late.decided = func() { order = append(order, "late") }
		var ops []storage.Op
		var results []*result
		for i := range 4 {
			o, r := putOp(t, fmt.Sprint("bulk", i), "v")
			put := o.decide
			o.decide = func(tx storage.Txn) error {
				order = append(order, fmt.Sprint(i))
				if i == 1 {
					submit(t, c, late)
				}
				return put(tx)
			}
			ops, results = append(ops, bulkOp{o}), append(results, r)
		}
		submit(t, c, ops...)
		for _, r := range append(results, lateDone) {
			if err := r.wait(); err != nil {
				t.Fatal(err)
			}
		}
		if want := []string{"0", "1", "late", "2", "3"}; !slices.Equal(order, want) || c.Stats().Groups != 1 {
			t.Errorf("decided in the order %v in %d groups", order, c.Stats().Groups)
		}
		c.stop(t)
	})
}

// Bulk goes on however many others come, and cannot take all of the queue.
func TestBulkGoesOn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := start(t, slow(), storage.CommitterConfig{GroupOps: 2, QueueOps: 20})
		first, firstDone := putOp(t, "first", "v")
		submit(t, c, first)
		synctest.Wait() // it syncs
		var bulks, others []*result
		refused := 0
		for i := range 20 {
			o, r := putOp(t, fmt.Sprint("bulk", i), "v")
			if c.Submit(bulkOp{o}) != nil {
				refused++
				continue
			}
			bulks = append(bulks, r)
		}
		if refused != 10 {
			t.Errorf("%d of 20 bulk ops were refused by a queue of 20", refused)
		}
		for i := range 10 {
			o, r := putOp(t, fmt.Sprint("other", i), "v")
			submit(t, c, o)
			others = append(others, r)
		}
		done := func(of []*result) (n int) {
			for _, r := range of {
				n += int(r.calls.Load())
			}
			return n
		}
		if err := firstDone.wait(); err != nil {
			t.Fatal(err)
		}
		if err := others[5].wait(); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if n := done(bulks); n != 3 {
			t.Errorf("%d bulk ops are durable after three groups with others in each", n)
		}
		for _, r := range append(bulks, others...) {
			if err := r.wait(); err != nil {
				t.Fatal(err)
			}
		}
		c.stop(t)
	})
}

// TestLanes compares what is durable after a run of ops of both kinds, submitted at
// any time, with what happens when each kind is done in order: each kind keeps its
// order, none is lost, and none comes twice.
func TestLanes(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		cfg := storage.CommitterConfig{
			GroupOps:   rapid.IntRange(1, 6).Draw(rt, "group-ops"),
			GroupBytes: rapid.IntRange(1, 40).Draw(rt, "group-bytes"),
			BulkBytes:  rapid.IntRange(1, 40).Draw(rt, "bulk-bytes"),
		}
		type planned struct {
			bulk  bool
			size  int
			pause time.Duration
		}
		plan := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) planned {
			return planned{rapid.Bool().Draw(rt, "bulk"), rapid.IntRange(0, 20).Draw(rt, "size"),
				time.Duration(rapid.IntRange(0, 12).Draw(rt, "pause")) * time.Millisecond}
		}), 0, 40).Draw(rt, "ops")
		var got, want [2][]int
		bubble(t, func(t *testing.T) {
			c := start(t, slow(), cfg)
			var results []*result
			for i, x := range plan {
				time.Sleep(x.pause)
				lane := 0
				if x.bulk {
					lane = 1
				}
				want[lane] = append(want[lane], i)
				o, r := putOp(t, fmt.Sprint("k", i), "v")
				o.size, o.decided = x.size, func() { got[lane] = append(got[lane], i) }
				if x.bulk {
					submit(t, c, bulkOp{o})
				} else {
					submit(t, c, o)
				}
				results = append(results, r)
			}
			for i, r := range results {
				if err := r.wait(); err != nil || value(t, c.engine, fmt.Sprint("k", i)) != "v" {
					rt.Errorf("op %d: %v", i, err)
				}
			}
			c.stop(t)
		})
		for lane := range got {
			if !slices.Equal(got[lane], want[lane]) {
				rt.Errorf("lane %d was decided in the order %v, not %v", lane, got[lane], want[lane])
			}
		}
	})
}
