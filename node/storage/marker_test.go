package storage_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/atolldb/atoll/node/storage"
	"github.com/atolldb/atoll/node/storage/memstore"
)

// check opens the disk, which must be closed, and closes it again.
func check(t *testing.T, d *memstore.Disk) storage.MarkerReport {
	t.Helper()
	e, err := d.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	report, err := storage.CheckMarkers(e)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// groups commits n groups, one after the other, and stops cleanly.
func groups(t *testing.T, d *memstore.Disk, n int, ack *storage.MarkerReport) {
	t.Helper()
	c := start(t, d, storage.CommitterConfig{Markers: ack})
	write(t, c, n)
	c.stop(t)
}

func write(t *testing.T, c *running, n int) {
	t.Helper()
	for i := range n {
		o, r := putOp(t, fmt.Sprint("k", i), "v")
		submit(t, c, o)
		if err := r.wait(); err != nil {
			t.Fatal(err)
		}
	}
}

func slot(n uint64) []byte {
	return binary.BigEndian.AppendUint32([]byte{'g'}, uint32(n%storage.MarkerSlots))
}

func TestMarkersCountOn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := slow()
		if r := check(t, d); !r.Fresh() || r.Lost() {
			t.Fatalf("new disk: %+v", r)
		}
		for _, want := range []uint64{3, 6, 9} {
			groups(t, d, 3, nil)
			if r := check(t, d); r.Lost() || r != (storage.MarkerReport{Highest: want, Base: 1, Side: want}) {
				t.Fatalf("%+v, want %d", r, want)
			}
		}
		groups(t, d, 0, nil)
		if r := check(t, d); r.Lost() || r.Highest != 9 {
			t.Fatalf("%+v", r)
		}
	})
}

// The side file lags by the interval while groups are committed, is written
// once after them, and then no more.
func TestSideFileFollows(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := start(t, slow(), storage.CommitterConfig{Interval: time.Second})
		write(t, c, 5) // 50 ms
		side := func() uint64 {
			b, err := c.engine.ReadBeside("groups")
			if err != nil || len(b) != 16 {
				t.Fatalf("side file: %x, %v", b, err)
			}
			return binary.BigEndian.Uint64(b[4:])
		}
		if n := side(); n != 0 {
			t.Errorf("at once: %d", n)
		}
		time.Sleep(time.Second)
		if n := side(); n != 5 {
			t.Errorf("after the interval: %d", n)
		}
		write(t, c, 100) // a second
		time.Sleep(10 * time.Millisecond)
		if n := side(); n < 90 || n > 105 {
			t.Errorf("while writing: %d", n)
		}
		c.stop(t)
		if r := check(t, c.disk); r.Side != 105 || r.Lost() {
			t.Errorf("after a stop: %+v", r)
		}
	})
}

func TestMarkersNoticeLoss(t *testing.T) {
	for name, c := range map[string]struct {
		harm func(*memstore.Disk)
		want storage.MarkerReport
	}{
		"tail":            {func(d *memstore.Disk) { d.RollBack(4) }, storage.MarkerReport{Highest: 6, Base: 1, Side: 10}},
		"everything":      {func(d *memstore.Disk) { d.RollBack(10) }, storage.MarkerReport{Side: 10}},
		"one in between":  {func(d *memstore.Disk) { d.LoseRecord(slot(4)) }, storage.MarkerReport{Highest: 10, Base: 1, Side: 10, Missing: 1, FirstMissing: 4}},
		"first":           {func(d *memstore.Disk) { d.LoseRecord(slot(1)) }, storage.MarkerReport{Highest: 10, Base: 1, Side: 10, Missing: 1, FirstMissing: 1}},
		"last":            {func(d *memstore.Disk) { d.LoseRecord(slot(10)) }, storage.MarkerReport{Highest: 9, Base: 1, Side: 10}},
		"corrupt":         {func(d *memstore.Disk) { d.CorruptValue(slot(4)) }, storage.MarkerReport{Highest: 10, Base: 1, Side: 10, Missing: 1, FirstMissing: 4, Corrupt: 1}},
		"last corrupt":    {func(d *memstore.Disk) { d.CorruptValue(slot(10)) }, storage.MarkerReport{Highest: 9, Base: 1, Side: 10, Corrupt: 1}},
		"side file":       {func(d *memstore.Disk) { beside(d, nil) }, storage.MarkerReport{Highest: 10, Base: 1, SideCorrupt: true}},
		"side file bytes": {func(d *memstore.Disk) { beside(d, []byte("AGS1\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00")) }, storage.MarkerReport{Highest: 10, Base: 1, SideCorrupt: true}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				d := slow()
				groups(t, d, 10, nil)
				c.harm(d)
				r := check(t, d)
				if !r.Lost() || r != c.want {
					t.Fatalf("%+v, want %+v", r, c.want)
				}
				// Nobody may go on as if nothing had happened.
				x := start(t, d, storage.CommitterConfig{})
				o, done := putOp(t, "a", "1")
				if x.Submit(o) == nil && !errors.Is(done.wait(), storage.ErrLost) {
					t.Error("an op was committed")
				}
				if err := <-x.end; !errors.Is(err, storage.ErrLost) {
					t.Fatalf("run: %v", err)
				}
				x.engine.Close()
				if again := check(t, d); again != r {
					t.Fatalf("the refused start changed the report: %+v", again)
				}
				// Whoever has seen the report goes on in a new era, above
				// all that was ever numbered.
				groups(t, d, 2, &r)
				if after := check(t, d); after.Lost() || after.Base != max(r.Highest, r.Side)+1 || after.Highest != after.Base+1 {
					t.Fatalf("new era: %+v", after)
				}
			})
		})
	}
}

func beside(d *memstore.Disk, data []byte) {
	e, err := d.Open()
	if err != nil {
		panic(err)
	}
	defer e.Close()
	if err := e.WriteBeside("groups", data); err != nil {
		panic(err)
	}
}

// A store that was moved without what is beside it.
func TestMarkersMissTheSideFile(t *testing.T) {
	e, err := memstore.NewDisk(memstore.Config{}).Open()
	if err != nil {
		t.Fatal(err)
	}
	putMarker(t, e, 1, 1)
	r, err := storage.CheckMarkers(e)
	if err != nil || !r.Lost() || !r.SideMissing {
		t.Errorf("%+v, %v", r, err)
	}
}

func putMarker(t interface{ Fatal(...any) }, e storage.Engine, n, base uint64) {
	tx, err := e.Begin()
	if err != nil {
		t.Fatal(err)
	}
	v := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, n), base)
	if err := tx.Put(slot(n), v); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
}

// Around the end of the ring, against a plain list of what is there.
func TestMarkersAgainstAList(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e, err := memstore.NewDisk(memstore.Config{}).Open()
		if err != nil {
			t.Fatal(err)
		}
		base := rapid.SampledFrom([]uint64{1, 7, storage.MarkerSlots - 3, 5 * storage.MarkerSlots}).Draw(t, "base")
		n := uint64(rapid.IntRange(1, 12).Draw(t, "groups"))
		var lost, highest, first uint64
		for i := base; i < base+n; i++ {
			if rapid.IntRange(0, 5).Draw(t, "lose") > 0 {
				putMarker(t, e, i, base)
				highest = i
			}
		}
		for i := base; i < highest; i++ {
			if _, err := e.Get(slot(i)); errors.Is(err, storage.ErrNotFound) {
				if lost == 0 {
					first = i
				}
				lost++
			}
		}
		r, err := storage.CheckMarkers(e)
		if err != nil || r.Highest != highest || r.Missing != lost || r.FirstMissing != first || r.Corrupt != 0 {
			t.Fatalf("%+v, %v; want highest %d, %d missing from %d", r, err, highest, lost, first)
		}
	})
}

// A group lost one turn of the ring ago left the marker of the turn before.
func TestMarkersOfTheTurnBefore(t *testing.T) {
	e, err := memstore.NewDisk(memstore.Config{History: 1}).Open()
	if err != nil {
		t.Fatal(err)
	}
	last := uint64(2*storage.MarkerSlots + 5)
	tx, err := e.Begin()
	if err != nil {
		t.Fatal(err)
	}
	for n := last - storage.MarkerSlots + 1; n <= last; n++ {
		held := n
		if n == last-100 {
			held -= storage.MarkerSlots
		}
		v := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, held), 1)
		if err := tx.Put(slot(n), v); err != nil {
			t.Fatal(err)
		}
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	r, err := storage.CheckMarkers(e)
	if err != nil || r.Missing != 1 || r.FirstMissing != last-100 || r.Highest != last {
		t.Errorf("%+v, %v", r, err)
	}
}

// The side file and the markers are read from a disk that may hold anything.
//
//fuzz:slow 2
func FuzzCheckMarkers(f *testing.F) {
	f.Add([]byte("AGS1"), []byte("g\x00\x00\x00\x01"), make([]byte, 16))
	f.Add([]byte{}, []byte("g"), []byte{})
	f.Add([]byte("x"), []byte("g\x00\x00\x00\x01"), []byte("\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01"))
	f.Fuzz(func(t *testing.T, side, key, value []byte) {
		if len(key) == 0 || len(key) > storage.MaxKey || len(side) > storage.MaxBeside || len(value) > 1<<10 {
			return
		}
		e, err := memstore.NewDisk(memstore.Config{}).Open()
		if err != nil {
			t.Fatal(err)
		}
		if err := e.WriteBeside("groups", side); err != nil {
			t.Fatal(err)
		}
		tx, err := e.Begin()
		if err != nil {
			t.Fatal(err)
		}
		if err := tx.Put(append([]byte("g"), key[:len(key)-1]...), value); err != nil {
			t.Fatal(err)
		}
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
		r, err := storage.CheckMarkers(e)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.HasPrefix(side, []byte("AGS1")) && !r.SideCorrupt {
			t.Fatalf("trusts side file %x", side)
		}
		_ = r.String()
	})
}
