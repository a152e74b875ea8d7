package storage_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/node/storage"
)

func TestJudge(t *testing.T) {
	w := storage.Watermark{Warn: 0.85, Refuse: 0.92, MinFree: 50}
	for _, c := range []struct {
		free, total int64
		want        storage.DiskState
	}{
		{1000, 1000, storage.DiskOK},
		{151, 1000, storage.DiskOK},
		{150, 1000, storage.DiskWarn},
		{81, 1000, storage.DiskWarn},
		{80, 1000, storage.DiskFull},
		{0, 1000, storage.DiskFull},
		{49, 100, storage.DiskFull}, // less than MinFree
		{50, 100, storage.DiskOK},
		{50, 0, storage.DiskOK}, // size unknown
		{49, 0, storage.DiskFull},
	} {
		if got := w.Judge(storage.Usage{Free: c.free, Total: c.total}); got != c.want {
			t.Errorf("%d of %d free: %v, want %v", c.free, c.total, got, c.want)
		}
		needs := w.Needs(storage.Usage{Total: c.total})
		for free, full := range map[int64]bool{needs - 1: true, needs + 1: false} {
			if got := w.Judge(storage.Usage{Free: free, Total: c.total}); (got == storage.DiskFull) != full {
				t.Errorf("%d of %d free, of %d that it needs: %v", free, c.total, needs, got)
			}
		}
	}
}

// A committer on a small disk refuses long before the engine would die of it,
// goes on with what makes room, and takes writes again when there is some.
func TestFullDiskRefusesWritesAndRecovers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := slow()
		d.FullAt(20_000)
		c := start(t, d, storage.CommitterConfig{
			Interval:  100 * time.Millisecond,
			Watermark: storage.Watermark{Warn: 0.5, Refuse: 0.8, MinFree: 1000},
		})
		var err error
		states := map[storage.DiskState]bool{}
		n := 0
		for ; err == nil && n < 1000; n++ {
			o, r := putOp(t, fmt.Sprintf("k%03d", n), strings.Repeat("x", 60))
			if err = c.Submit(o); err == nil {
				err = r.wait()
			}
			states[c.Stats().Disk] = true
		}
		if !errors.Is(err, storage.ErrFull) || c.Stats().RefusedFull == 0 {
			t.Fatalf("after %d writes: %v", n, err)
		}
		if !states[storage.DiskOK] || !states[storage.DiskWarn] || !states[storage.DiskFull] {
			t.Errorf("states %v", states)
		}
		if value(t, c.engine, "k000") == "" {
			t.Error("reads do not go on")
		}
		// Deletes have size 0.
		for i := range n - 1 {
			r := newResult(t)
			submit(t, c, &op{done: r.done, decide: func(tx storage.Txn) error {
				return tx.Delete(fmt.Appendf(nil, "k%03d", i))
			}})
			if err := r.wait(); err != nil {
				t.Fatalf("delete on a full disk: %v", err)
			}
		}
		time.Sleep(200 * time.Millisecond)
		o, r := putOp(t, "again", "1")
		submit(t, c, o)
		if err := r.wait(); err != nil {
			t.Error(err)
		}
		c.stop(t)
	})
}

// Room made by others is seen though nothing is committed.
func TestFullDiskIsLookedAtAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := slow()
		d.FullAt(10)
		c := start(t, d, storage.CommitterConfig{Interval: 100 * time.Millisecond})
		synctest.Wait()
		if err := c.Submit(&op{size: 1}); !errors.Is(err, storage.ErrFull) {
			t.Fatalf("submit: %v", err)
		}
		d.FullAt(1 << 40)
		time.Sleep(101 * time.Millisecond)
		write(t, c, 1)
		c.stop(t)
	})
}

// What waited in the queue when the disk became full is refused there.
func TestFullDiskRefusesTheQueue(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := slow()
		c := start(t, d, storage.CommitterConfig{
			Interval:  15 * time.Millisecond,
			GroupOps:  1,
			Watermark: storage.Watermark{Warn: 1, Refuse: 1, MinFree: 100},
		})
		a, ra := putOp(t, "a", "1") // done at 10 ms, looked at 15 ms
		b, rb := putOp(t, "b", "1") // syncs from 10 ms to 20 ms
		x, rx := putOp(t, "x", "1")
		room := newResult(t)
		submit(t, c, a, b, x, &op{done: room.done, decide: func(tx storage.Txn) error { return tx.Delete([]byte("a")) }})
		synctest.Wait()
		d.FullAt(120)
		room.wait()
		if ra.wait() != nil || rb.wait() != nil || !errors.Is(rx.wait(), storage.ErrFull) || room.wait() != nil {
			t.Errorf("%v, %v, %v, %v", ra.err, rb.err, rx.err, room.err)
		}
		if err := c.Submit(&op{size: 1}); !errors.Is(err, storage.ErrFull) {
			t.Errorf("submit: %v", err)
		}
		c.stop(t)
	})
}

// A disk that is full at the start is refused before the first group.
func TestFullAtStart(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := slow()
		d.FullAt(10)
		c := start(t, d, storage.CommitterConfig{})
		synctest.Wait()
		if err := c.Submit(&op{size: 1}); !errors.Is(err, storage.ErrFull) {
			t.Errorf("submit: %v", err)
		}
		c.stop(t)
	})
}
