package badgerstore

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/atolldb/atoll/internal/wholefile"
	"github.com/atolldb/atoll/node/storage"
)

// reopens says whether the store in dir opens, is refused as corrupt, or is
// refused for another reason.
func reopens(t *testing.T, dir string) string {
	t.Helper()
	s, err := Open(Config{Dir: dir, MemTableSize: minMemTable})
	switch {
	case errors.Is(err, storage.ErrCorrupt):
		return "corrupt"
	case err != nil:
		return "refused"
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return "opens"
}

func replaceHead(t *testing.T, dir string, h head) {
	t.Helper()
	name := filepath.Join(dir, "lsm", manifestName)
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, append(h[:], b[headSize:]...), 0o600); err != nil {
		t.Fatal(err)
	}
}

func replaceSeal(t *testing.T, dir string, b []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "lsm", sealName), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func aSmallStore(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	s := open(t, Config{Dir: dir, MemTableSize: minMemTable})
	put(t, s, "a", []byte("v"))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Whichever bit of the head flips: it is damage.
func TestFlippedHead(t *testing.T) {
	dir := aSmallStore(t)
	if is, ok, err := readHead(filepath.Join(dir, "lsm")); err != nil || !ok || is != ours {
		t.Fatalf("this Badger writes the head %v, %v, %v", is, ok, err)
	}
	for bit := range 8 * headSize {
		flipped := ours
		flipped[bit/8] ^= 1 << (bit % 8)
		replaceHead(t, dir, flipped)
		if got := reopens(t, dir); got != "corrupt" {
			t.Errorf("with bit %d flipped it %s", bit, got)
		}
	}
	replaceHead(t, dir, ours)
	if got := reopens(t, dir); got != "opens" {
		t.Errorf("put right it %s", got)
	}
}

// A store of another version is never taken for a corrupt one: not one that its
// writer sealed, nor one that is on the way to the other version (sealed, its
// manifest not yet written), nor one from before there were seals.
func TestAnotherVersion(t *testing.T) {
	dir := aSmallStore(t)
	for _, other := range []head{
		{'B', 'd', 'g', 'r', 0xA7, 0x02, 0, badgerFormat},
		{'B', 'd', 'g', 'r', 0xA7, 0x00, 0, badgerFormat},
		{'B', 'd', 'g', 'r', 0xA7, 0x01, 0, badgerFormat + 1},
		{'B', 'd', 'g', 'r', 0x00, 0x00, 0, badgerFormat},
	} {
		replaceHead(t, dir, other)
		replaceSeal(t, dir, encodeFormat(other))
		if got := reopens(t, dir); got != "refused" {
			t.Errorf("sealed as %v: %s", other, got)
		}
		replaceHead(t, dir, ours)
		if got := reopens(t, dir); got != "refused" {
			t.Errorf("on the way to %v: %s", other, got)
		}
		replaceHead(t, dir, other)
		for _, seal := range [][]byte{nil, {}, []byte("junk"), make([]byte, formatLength)} {
			replaceSeal(t, dir, seal)
			if got := reopens(t, dir); got != "refused" {
				t.Errorf("without a seal (%q), of version %v: %s", seal, other, got)
			}
		}
	}
}

// A seal that is gone or damaged keeps nobody from opening, and is made again.
func TestDamagedSeal(t *testing.T) {
	dir := aSmallStore(t)
	whole := encodeFormat(ours)
	name := filepath.Join(dir, "lsm", sealName)
	for i := range whole {
		b := append([]byte(nil), whole...)
		b[i] ^= 0x10
		replaceSeal(t, dir, b)
		if got := reopens(t, dir); got != "opens" {
			t.Errorf("with byte %d damaged it %s", i, got)
		}
		if b, err := os.ReadFile(name); err != nil || string(b) != string(whole) {
			t.Fatalf("sealed again as %q, %v", b, err)
		}
	}
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	left := filepath.Join(dir, "lsm", wholefile.Temporary+"1")
	if err := os.WriteFile(left, whole[:5], 0o600); err != nil {
		t.Fatal(err)
	}
	if got := reopens(t, dir); got != "opens" {
		t.Errorf("without a seal it %s", got)
	}
	if b, err := os.ReadFile(name); err != nil || string(b) != string(whole) {
		t.Errorf("sealed again as %q, %v", b, err)
	}
	if _, err := os.Stat(left); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that was not finished is left: %v", err)
	}
}

//fuzz:slow 2
func FuzzDecodeFormat(f *testing.F) {
	f.Add(encodeFormat(ours))
	f.Add([]byte(formatMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		if h, ok := decodeFormat(b); ok && string(encodeFormat(h)) != string(b) {
			t.Errorf("%q is %v", b, h)
		}
	})
}
