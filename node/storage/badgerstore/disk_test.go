package badgerstore

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/atolldb/atoll/node/storage"
)

func fileSize(t *testing.T, name string) int64 {
	t.Helper()
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

func TestBallast(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "ballast")
	none := func(why string) {
		t.Helper()
		if _, err := os.Stat(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: there is a ballast file, %v", why, err)
		}
	}
	if err := EnsureBallast(dir, 0, 0); err != nil {
		t.Fatal(err)
	}
	none("0 bytes")
	for _, n := range []int64{1 << 20, 3 << 20, 2 << 20} {
		if err := EnsureBallast(dir, n, 1<<20); err != nil {
			t.Fatal(err)
		}
		if got := fileSize(t, name); got != n {
			t.Errorf("%d bytes, want %d", got, n)
		}
		if on, err := occupied(dir, ""); err != nil || on < n {
			t.Errorf("%d bytes on disk, want %d, %v", on, n, err)
		}
	}
	if err := EnsureBallast(dir, 2<<20, 1<<50); err != nil {
		t.Error("what is there stays, whatever is free:", err)
	}
	// No room: the part that fits must not stay, nor one that takes what is to be free.
	for _, c := range [][2]int64{{1 << 50, 0}, {3 << 20, 1 << 50}} {
		if err := EnsureBallast(dir, c[0], c[1]); !errors.Is(err, storage.ErrFull) {
			t.Errorf("%v: %v", c, err)
		}
		none("no room")
	}
	if err := errors.Join(EnsureBallast(dir, 1<<20, 0), EnsureBallast(dir, 0, 0)); err != nil {
		t.Error(err)
	}
	none("not wanted any more")
	f, err := os.Create(filepath.Join(dir, "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := fill(f, 3<<20+5); err != nil || fileSize(t, f.Name()) != 3<<20+5 {
		t.Error("fill", err)
	}
}

// What is in the logs is to be written to tables before the store is open.
func TestRoomToOpen(t *testing.T) {
	const mib = 1 << 20
	for _, c := range []struct {
		free, logs int64
		full       bool
	}{
		{0, 0, true}, {7 * mib, 0, true}, {9 * mib, 0, false},
		{100 * mib, 128 * mib, true}, {130 * mib, 128 * mib, true}, {137 * mib, 128 * mib, false},
	} {
		if err := roomFor(c.free, c.logs); errors.Is(err, storage.ErrFull) != c.full {
			t.Errorf("%d MiB free, %d in logs: %v", c.free/mib, c.logs/mib, err)
		}
	}
	// The logs of a store that did not stop count.
	s, err := Open(Config{Dir: t.TempDir(), MemTableSize: minMemTable})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	tx, err := s.Begin()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(tx.Put([]byte("k"), make([]byte, mib)), tx.Commit()); err != nil {
		t.Fatal(err)
	}
	if n, err := occupied(s.cfg.lsmDir(), ".mem"); err != nil || n < mib {
		t.Errorf("%d bytes in logs, %v", n, err)
	}
}
