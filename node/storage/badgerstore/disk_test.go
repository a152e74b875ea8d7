package badgerstore

import (
	"os"
	"path/filepath"
	"testing"
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
	if err := EnsureBallast(dir, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(name); err == nil {
		t.Fatal("a ballast of 0 bytes has a file")
	}
	for _, n := range []int64{1 << 20, 3 << 20, 2 << 20} {
		if err := EnsureBallast(dir, n); err != nil {
			t.Fatal(err)
		}
		if got := fileSize(t, name); got != n {
			t.Errorf("%d bytes, want %d", got, n)
		}
		if on, err := occupied(dir); err != nil || on < n {
			t.Errorf("%d bytes on disk, want %d, %v", on, n, err)
		}
	}
	// No room: the part that fits must not stay.
	if err := EnsureBallast(dir, 1<<50); err == nil {
		t.Error("a ballast of 1 PiB")
	}
	if _, err := os.Stat(name); err == nil {
		t.Error("a part of the ballast is left")
	}
	f, err := os.Create(filepath.Join(dir, "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := fill(f, 3<<20+5); err != nil || fileSize(t, f.Name()) != 3<<20+5 {
		t.Error("fill", err)
	}
}
