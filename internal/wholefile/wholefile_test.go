package wholefile

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

var ways = map[string]func(string, []byte) error{"replace": Replace, "rewrite": Rewrite}

func TestWhole(t *testing.T) {
	for name, write := range ways {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "f")
			for _, data := range [][]byte{[]byte("one"), nil, bytes.Repeat([]byte("long"), 5000), []byte("short"), []byte("longer")} {
				if err := write(path, data); err != nil {
					t.Fatal(err)
				}
				got, err := os.ReadFile(path)
				if err != nil || !bytes.Equal(got, data) {
					t.Errorf("%d bytes, not %d: %v", len(got), len(data), err)
				}
			}
			if err := write(filepath.Join(filepath.Dir(path), "no", "f"), nil); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("in no directory: %v", err)
			}
		})
	}
}

// What a crash left of the other file does not matter.
func TestLeftOver(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	for _, left := range []string{"", "more than there will be"} {
		if err := os.WriteFile(filepath.Join(dir, Temporary+"f"), []byte(left), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, data := range []string{"one", "two", "three"} {
			if err := Rewrite(path, []byte(data)); err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(path); err != nil || string(got) != data {
				t.Errorf("%q, not %q: %v", got, data, err)
			}
		}
	}
}

// Who opens the file at any time reads the one or the other.
func TestReaders(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	a, b := bytes.Repeat([]byte("a"), 10_000), bytes.Repeat([]byte("b"), 20_000)
	if err := Replace(path, a); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() {
		var err error
		for i := range 200 {
			if err = Replace(path, [][]byte{b, a}[i%2]); err != nil {
				break
			}
		}
		ended <- err
	}()
	for n := 0; ; n++ {
		select {
		case err := <-ended:
			if err != nil || n == 0 {
				t.Errorf("%d reads: %v", n, err)
			}
			return
		default:
		}
		got, err := os.ReadFile(path)
		if err != nil || !bytes.Equal(got, a) && !bytes.Equal(got, b) {
			t.Fatalf("%d bytes that are neither: %v", len(got), err)
		}
	}
}

// No blocks are given back: it is the same two files all the time.
func TestSameFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	var were []os.FileInfo
	for i := range 6 {
		if err := Rewrite(path, []byte{byte(i)}); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close() // so that its number is nobody else's
		is, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		if err := exchange(path, path); errors.Is(err, errors.ErrUnsupported) {
			t.Skip("files cannot change places here")
		}
		if i >= 2 && !os.SameFile(is, were[i-2]) {
			t.Errorf("write %d is in a new file", i)
		}
		were = append(were, is)
	}
}
