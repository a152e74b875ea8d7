package badgerstore

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/atolldb/atoll/node/storage"
	"github.com/atolldb/atoll/node/storage/storagetest"
)

// fresh opens stores with the given memtable size. Its crash copies the
// directory under the running engine, as a power cut would leave it, and goes
// on with the copy.
func fresh(memTable int64) storagetest.Fresh {
	return func(t testing.TB) storagetest.Store {
		dir, err := os.MkdirTemp(t.TempDir(), "")
		if err != nil {
			t.Fatal(err)
		}
		return storagetest.Store{
			Open: func() (storage.Engine, error) {
				return Open(Config{Dir: dir, MemTableSize: memTable})
			},
			Crash: func(e storage.Engine) {
				next := copyAtOneMoment(t, dir)
				if err := e.Close(); err != nil {
					t.Fatal(err)
				}
				os.RemoveAll(dir)
				dir = next
			},
		}
	}
}

// copyAtOneMoment copies again when files came or went meanwhile: then the
// copy would be of a state that never was.
func copyAtOneMoment(t testing.TB, dir string) string {
	t.Helper()
	for {
		before := names(t, dir)
		next, err := os.MkdirTemp(t.TempDir(), "")
		if err != nil {
			t.Fatal(err)
		}
		if tryCopy(dir, next) == nil && slices.Equal(before, names(t, dir)) {
			return next
		}
		os.RemoveAll(next)
	}
}

func names(t testing.TB, dir string) (list []string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(dir, "lsm"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

func copyTree(t testing.TB, from, to string) {
	t.Helper()
	if err := tryCopy(from, to); err != nil {
		t.Fatal(err)
	}
}

func tryCopy(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		target := filepath.Join(to, strings.TrimPrefix(path, from))
		if d.IsDir() {
			return os.MkdirAll(target, 0o750)
		}
		return copySparse(path, target)
	})
}

// copySparse leaves out what is zero: Badger's logs are mostly that.
func copySparse(from, to string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.Create(to)
	if err != nil {
		return err
	}
	defer dst.Close()
	info, err := src.Stat()
	if err != nil {
		return err
	}
	if err := dst.Truncate(info.Size()); err != nil {
		return err
	}
	const seekData, seekHole = 3, 4
	for off := int64(0); ; {
		data, err := src.Seek(off, seekData)
		if err != nil {
			return nil // no data from here on
		}
		hole, err := src.Seek(data, seekHole)
		if err != nil {
			return err
		}
		if _, err := io.Copy(io.NewOffsetWriter(dst, data), io.NewSectionReader(src, data, hole-data)); err != nil {
			return err
		}
		off = hole
	}
}

func TestConformance(t *testing.T) { storagetest.Run(t, fresh(0)) }

// Small memtables: the machine opens a few stores a case.
func TestMachine(t *testing.T) { storagetest.Machine(t, fresh(64<<20)) }

func open(t testing.TB, cfg Config) *Store {
	t.Helper()
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func put(t testing.TB, s *Store, key string, value []byte) {
	t.Helper()
	tx, err := s.Begin()
	if err != nil {
		t.Fatal(err)
	}
	if err := tx.Put([]byte(key), value); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
}

func TestInUse(t *testing.T) {
	dir := t.TempDir()
	open(t, Config{Dir: dir, MemTableSize: minMemTable})
	_, err := Open(Config{Dir: dir, MemTableSize: minMemTable})
	if !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), dir) {
		t.Errorf("second open: %v", err)
	}
}

func TestConfigReportsAllProblems(t *testing.T) {
	err := Config{MemTableSize: 1, BlockCache: 1}.Validate()
	if err == nil || strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("%v", err)
	}
	if err := (Config{Dir: "x"}).Validate(); err != nil {
		t.Errorf("defaults: %v", err)
	}
}
