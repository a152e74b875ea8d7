package memstore

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/node/storage"
	"github.com/atolldb/atoll/node/storage/storagetest"
)

func fresh(testing.TB) storagetest.Store {
	d := NewDisk(Config{Seed: 1})
	return storagetest.Store{
		Open:  func() (storage.Engine, error) { return d.Open() },
		Crash: func(storage.Engine) { d.Crash(nil) },
	}
}

func TestConformance(t *testing.T) { storagetest.Run(t, fresh) }
func TestMachine(t *testing.T)     { storagetest.Machine(t, fresh) }

func open(t *testing.T, d *Disk) *Engine {
	t.Helper()
	e, err := d.Open()
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func commit(e *Engine, key, value string) error {
	tx, err := e.Begin()
	if err != nil {
		return err
	}
	if err := tx.Put([]byte(key), []byte(value)); err != nil {
		return err
	}
	return tx.Commit()
}

func want(t *testing.T, e *Engine, key, value string, cause error) {
	t.Helper()
	got, err := e.Get([]byte(key))
	if string(got) != value || !errors.Is(err, cause) {
		t.Fatalf("get %q: %q, %v; want %q, %v", key, got, err, value, cause)
	}
}

// S4: what is not yet synced is seen by nobody, and a crash in that window
// loses it, or not, as the caller says.
func TestUnsyncedIsInvisibleAndLost(t *testing.T) {
	for _, survives := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			d := NewDisk(Config{SyncMin: 2 * time.Millisecond})
			e := open(t, d)
			if err := commit(e, "a", "old"); err != nil {
				t.Fatal(err)
			}
			result := make(chan error)
			go func() { result <- commit(e, "a", "new") }()
			time.Sleep(time.Millisecond) // half of the sync, on the fake clock
			want(t, e, "a", "old", nil)
			d.Crash(func() bool { return survives })
			want(t, e, "a", "", storage.ErrFailed)
			again := open(t, d) // before the old Commit has even returned
			if err := <-result; !errors.Is(err, storage.ErrFailed) {
				t.Fatalf("commit over a crash: %v", err)
			}
			want(t, again, "a", map[bool]string{false: "old", true: "new"}[survives], nil)
			if err := commit(again, "b", "1"); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestFailedSyncStopsTheEngine(t *testing.T) {
	fates := map[bool]int{}
	for seed := range uint64(20) {
		d := NewDisk(Config{Seed: seed})
		e := open(t, d)
		d.FailNextSync()
		if err := commit(e, "a", "1"); !errors.Is(err, storage.ErrFailed) {
			t.Fatalf("commit: %v", err)
		}
		want(t, e, "a", "", storage.ErrFailed)
		if _, err := e.Begin(); !errors.Is(err, storage.ErrFailed) {
			t.Fatalf("begin: %v", err)
		}
		if err := e.WriteBeside("f", nil); !errors.Is(err, storage.ErrFailed) {
			t.Fatalf("write beside: %v", err)
		}
		fates[d.Len() == 1]++
		if err := commit(open(t, d), "b", "1"); err != nil {
			t.Fatal(err)
		}
	}
	if fates[true] == 0 || fates[false] == 0 {
		t.Errorf("of 20 failed syncs %d survived", fates[true])
	}
}

func TestDamage(t *testing.T) {
	d := NewDisk(Config{})
	e := open(t, d)
	for _, k := range []string{"a", "b", "c"} {
		if err := commit(e, k, k+k); err != nil {
			t.Fatal(err)
		}
	}
	if !d.LoseRecord([]byte("a")) || d.LoseRecord([]byte("a")) || d.CorruptValue([]byte("x")) || !d.CorruptValue([]byte("b")) {
		t.Fatal("damage does not say whether it hit")
	}
	want(t, e, "a", "", storage.ErrNotFound)
	want(t, e, "b", "", storage.ErrCorrupt)
	want(t, e, "c", "cc", nil)

	var bad *storage.CorruptError
	err := e.Scan(nil, nil, func(storage.KV) bool { t.Error("scan went over a corrupt value"); return true })
	if !errors.As(err, &bad) || string(bad.Key) != "b" {
		t.Fatalf("scan: %v", err)
	}
	if err := commit(e, "b", "repaired"); err != nil {
		t.Fatal(err)
	}
	want(t, e, "b", "repaired", nil)
}

func TestRollBackAndWipe(t *testing.T) {
	d := NewDisk(Config{History: 8})
	e := open(t, d)
	for _, v := range []string{"1", "2", "3"} {
		if err := commit(e, "a", v); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.WriteBeside("f", []byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := d.RollBack(1); !errors.Is(err, ErrInUse) {
		t.Fatalf("under an open engine: %v", err)
	}
	if _, err := d.Open(); !errors.Is(err, ErrInUse) {
		t.Fatalf("second engine: %v", err)
	}
	e.Close()
	if n, err := d.RollBack(2); n != 2 || err != nil {
		t.Fatal(n, err)
	}
	e = open(t, d)
	want(t, e, "a", "1", nil)
	if got, err := e.ReadBeside("f"); err != nil || string(got) != "x" {
		t.Fatalf("file beside: %q, %v", got, err)
	}
	e.Close()
	if n, err := d.RollBack(100); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	if d.Len() != 0 {
		t.Fatal("not rolled back to nothing")
	}
	if err := d.Wipe(); err != nil {
		t.Fatal(err)
	}
	e = open(t, d)
	if _, err := e.ReadBeside("f"); !errors.Is(err, storage.ErrNotFound) {
		t.Fatalf("file beside after a wipe: %v", err)
	}
}

func TestFull(t *testing.T) {
	d := NewDisk(Config{})
	d.FullAt(10)
	e := open(t, d)
	if err := commit(e, "a", "12345678"); err != nil {
		t.Fatal(err)
	}
	if u, err := e.Usage(); err != nil || u != (storage.Usage{Store: 9, Free: 1, Total: 10}) {
		t.Fatalf("usage %+v, %v", u, err)
	}
	if err := commit(e, "b", "1"); !errors.Is(err, storage.ErrFailed) {
		t.Fatalf("commit beyond the end of the disk: %v", err)
	}
}

// Others fill the disk, and leave it: usage tells, and what does not fit ends
// the engine, again after every Open until there is room.
func TestFillAndDrain(t *testing.T) {
	d := NewDisk(Config{})
	d.FullAt(100)
	e := open(t, d)
	if err := commit(e, "a", "12345678"); err != nil {
		t.Fatal(err)
	}
	d.Fill(20)
	if u, err := e.Usage(); err != nil || u != (storage.Usage{Store: 9, Free: 20, Total: 100}) {
		t.Fatalf("usage %+v, %v", u, err)
	}
	if err := commit(e, "b", "12345678"); err != nil {
		t.Fatal(err)
	}
	d.Fill(0)
	for range 2 {
		if err := commit(e, "c", "1"); !errors.Is(err, storage.ErrFailed) {
			t.Fatalf("commit on a full disk: %v", err)
		}
		e = open(t, d)
		want(t, e, "b", "12345678", nil)
		want(t, e, "c", "", storage.ErrNotFound)
	}
	d.Drain()
	if u, err := e.Usage(); err != nil || u != (storage.Usage{Store: 18, Free: 82, Total: 100}) {
		t.Fatalf("usage %+v, %v", u, err)
	}
	if err := commit(e, "c", "1"); err != nil {
		t.Fatal(err)
	}
}

// What has an end is there until then, also in a transaction.
func TestEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := open(t, NewDisk(Config{}))
		put := func(ttl time.Duration) storage.Txn {
			tx, err := e.Begin()
			if err == nil {
				err = tx.PutFor([]byte("a"), []byte("1"), ttl)
			}
			if err != nil {
				t.Fatal(err)
			}
			return tx
		}
		if err := put(time.Minute).Commit(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute - time.Nanosecond)
		want(t, e, "a", "1", nil)
		time.Sleep(time.Nanosecond)
		want(t, e, "a", "", storage.ErrNotFound)
		tx := put(time.Second)
		time.Sleep(time.Second)
		if _, err := tx.Get([]byte("a")); !errors.Is(err, storage.ErrNotFound) {
			t.Error(err)
		}
		tx.Discard()
	})
}

// The same seed and the same calls take the same time.
func TestSyncTimesAreSeeded(t *testing.T) {
	run := func(seed uint64) (took time.Duration) {
		synctest.Test(t, func(t *testing.T) {
			e := open(t, NewDisk(Config{Seed: seed, SyncMin: time.Millisecond, SyncMax: 9 * time.Millisecond}))
			began := time.Now()
			for range 10 {
				if err := commit(e, "a", "1"); err != nil {
					t.Fatal(err)
				}
			}
			took = time.Since(began)
		})
		return took
	}
	if a, b := run(1), run(1); a != b || a < 10*time.Millisecond || a > 90*time.Millisecond {
		t.Errorf("seed 1 took %v and %v", a, b)
	}
	if run(1) == run(2) {
		t.Error("seeds 1 and 2 took the same time")
	}
}

func BenchmarkPut(b *testing.B) {
	e, _ := NewDisk(Config{}).Open()
	key := make([]byte, 8)
	for i := 0; b.Loop(); i++ {
		key[0], key[1] = byte(i), byte(i>>8)
		commit(e, string(key), "value")
	}
}
