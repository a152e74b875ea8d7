package badgerstore

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dgraph-io/badger/v4"

	"github.com/atolldb/atoll/node/storage"
)

// childOpen opens a store, reads all of it and says what it found.
func childOpen(dir string) {
	s, err := Open(Config{Dir: dir, MemTableSize: minMemTable})
	if err != nil {
		fmt.Println("refused:", errors.Is(err, storage.ErrCorrupt), strings.ReplaceAll(err.Error(), "\n", " "))
		return
	}
	entries, unreadable := 0, 0
	for lo := []byte(nil); ; {
		err := s.Scan(lo, nil, func(storage.KV) bool { entries++; return true })
		var bad *storage.CorruptError
		if !errors.As(err, &bad) {
			break
		}
		unreadable++
		lo = append(bad.Key, 0)
	}
	report, err := storage.CheckMarkers(s)
	fmt.Println("opened:", entries, unreadable, report.Lost(), err)
	_ = s.Close()
}

// aStore makes a store with tables, whose groups have left their markers, and
// returns its directory and the number of entries.
func aStore(t *testing.T) (dir string, entries int) {
	t.Helper()
	dir = t.TempDir()
	s := open(t, Config{Dir: dir, MemTableSize: minMemTable})
	err := writeCounts(s, 4, 300_000, func(n uint64) bool { return n < 60 })
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Scan(nil, nil, func(storage.KV) bool { entries++; return true }); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return dir, entries
}

// Whatever happens to a file of a store that is closed, opening it neither ends
// the process nor hides anything: the store opens with all that was in it, or
// tells that it lost something, or is refused as corrupt.
func TestDamagedFiles(t *testing.T) {
	if testing.Short() {
		t.Skip("opens a store some hundred times in processes of their own")
	}
	base, entries := aStore(t)
	files, err := filepath.Glob(filepath.Join(base, "lsm", "*"))
	if err != nil {
		t.Fatal(err)
	}
	first := map[string]bool{}
	files = slices.DeleteFunc(files, func(name string) bool {
		kind := filepath.Ext(name)
		if kind == "" {
			kind = filepath.Base(name)
		}
		again := first[kind]
		first[kind] = true
		return again
	})
	rng := rand.New(rand.NewPCG(1, 2))
	flip := func(at func(n int) int) func([]byte) []byte {
		return func(b []byte) []byte {
			b[at(len(b))] ^= 1 << rng.IntN(8)
			return b
		}
	}
	harms := map[string]func([]byte) []byte{
		"deleted": func([]byte) []byte { return nil },
		"empty":   func(b []byte) []byte { return b[:0] },
		"halved":  func(b []byte) []byte { return b[:len(b)/2] },
		"zeroes":  func(b []byte) []byte { return make([]byte, len(b)) },
	}
	for i := range 6 {
		harms[fmt.Sprint("flipped anywhere ", i)] = flip(rng.IntN)
		harms[fmt.Sprint("flipped at the end ", i)] = flip(func(n int) int { return n - 1 - rng.IntN(min(n, 40)) })
		harms[fmt.Sprint("flipped at the beginning ", i)] = flip(func(n int) int { return rng.IntN(min(n, 40)) })
	}
	whole := fmt.Sprintf("opened: %d 0 false <nil>", entries)
	for _, file := range files {
		for harmName, harm := range harms {
			t.Run(filepath.Base(file)+" "+harmName, func(t *testing.T) {
				dir := t.TempDir()
				if err := os.CopyFS(dir, os.DirFS(base)); err != nil {
					t.Fatal(err)
				}
				name := filepath.Join(dir, "lsm", filepath.Base(file))
				b, err := os.ReadFile(name)
				if err != nil || len(b) == 0 {
					t.Skip("nothing to damage", err)
				}
				if b = harm(b); b == nil {
					err = os.Remove(name)
				} else {
					err = os.WriteFile(name, b, 0o600)
				}
				if err != nil {
					t.Fatal(err)
				}
				out, err := role(t, "open", dir).CombinedOutput()
				said := strings.TrimSpace(string(out))
				said = said[strings.LastIndexByte(said, '\n')+1:]
				switch {
				case err != nil:
					t.Errorf("the process ended: %v\n%.2000s", err, out)
				case said == whole, strings.HasPrefix(said, "opened:") && strings.HasSuffix(said, "true <nil>"),
					strings.HasPrefix(said, "refused: true"):
				default:
					t.Errorf("said %q, whole is %q", said, whole)
				}
			})
		}
	}
}

// A table that is only on the way to be one (it is in no manifest) is none, and
// keeps nobody from opening.
func TestUnfinishedTable(t *testing.T) {
	dir, _ := aStore(t)
	if err := os.WriteFile(filepath.Join(dir, "lsm", "000099.sst"), make([]byte, 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	s := open(t, Config{Dir: dir, MemTableSize: minMemTable})
	if r, err := storage.CheckMarkers(s); err != nil || r.Lost() {
		t.Errorf("%v, %v", r, err)
	}
}

// Without verification a bad block is still found when it is read.
func TestSkipVerify(t *testing.T) {
	dir, _ := aStore(t)
	tables, err := filepath.Glob(filepath.Join(dir, "lsm", "*.sst"))
	if err != nil || len(tables) == 0 {
		t.Fatal(tables, err)
	}
	b, err := os.ReadFile(tables[0])
	if err != nil {
		t.Fatal(err)
	}
	b[100] ^= 1
	if err := os.WriteFile(tables[0], b, 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := Open(Config{Dir: dir, MemTableSize: minMemTable}); !errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("opened: %v, %v", s, err)
	}
	s := open(t, Config{Dir: dir, MemTableSize: minMemTable, SkipVerify: true})
	if err := s.Verify(); !errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("verify: %v", err)
	}
}

// What is wrong around a store is no damage.
func TestNoDamage(t *testing.T) {
	for _, text := range []string{
		"manifest has unsupported version: 7 (we support 8)",
		"cannot open DB because the external magic number doesn't match, expected: 1, version present in manifest: 2",
	} {
		if manifestIsDamaged(errors.New(text)) {
			t.Errorf("%q is taken for damage", text)
		}
	}
	for _, err := range []error{
		errors.New(`Opening file: "/data/lsm/000001.sst" err: permission denied`),
		errors.New(`Opening file: "/data/lsm/000001.sst" err: too many open files`),
		errors.New("no space left on device"),
		badger.ErrInvalidRequest,
	} {
		if err := openError("/data", err); errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("%v is taken for damage", err)
		}
	}
}

// What was set aside is there as it was, numbered; an empty store takes its
// place.
func TestQuarantine(t *testing.T) {
	dir, _ := aStore(t)
	if err := os.WriteFile(filepath.Join(dir, "ballast"), []byte("b"), 0o600); err != nil {
		t.Fatal(err)
	}
	for round := 1; round <= 2; round++ {
		s := open(t, Config{Dir: dir, MemTableSize: minMemTable})
		put(t, s, "a", []byte("v"))
		if err := s.WriteBeside("groups", []byte("beside")); err != nil {
			t.Fatal(err)
		}
		if _, err := Quarantine(dir); !errors.Is(err, ErrInUse) {
			t.Fatalf("moved away under a process: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(dir, "lsm", manifestName)
		if err := os.WriteFile(name, []byte("junk"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(Config{Dir: dir, MemTableSize: minMemTable}); !errors.Is(err, storage.ErrCorrupt) {
			t.Fatalf("open: %v", err)
		}
		to, err := Quarantine(dir)
		if err != nil || to != filepath.Join(dir, fmt.Sprint("quarantine-", round)) {
			t.Fatalf("moved to %q, %v", to, err)
		}
		if b, err := os.ReadFile(filepath.Join(to, "lsm", manifestName)); err != nil || string(b) != "junk" {
			t.Errorf("%q, %v", b, err)
		}
		if b, err := os.ReadFile(filepath.Join(to, "beside", "groups")); err != nil || string(b) != "beside" {
			t.Errorf("%q, %v", b, err)
		}
		s = open(t, Config{Dir: dir, MemTableSize: minMemTable})
		if r, err := storage.CheckMarkers(s); err != nil || !r.Fresh() {
			t.Errorf("the new store is not fresh: %v, %v", r, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if got, err := Quarantined(dir); err != nil || len(got) != round {
			t.Errorf("set aside: %q, %v", got, err)
		}
	}
	if b, err := os.ReadFile(filepath.Join(dir, "ballast")); err != nil || string(b) != "b" {
		t.Errorf("what is not the store's went with it: %q, %v", b, err)
	}
	if _, err := Quarantine(filepath.Join(dir, "nothing")); err == nil {
		t.Error("set aside what is not there")
	}
	if got, err := Quarantined(filepath.Join(dir, "nothing")); err != nil || len(got) != 0 {
		t.Errorf("%q, %v", got, err)
	}
}
