//go:build linux

package machine

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// Flip is one bit that was turned over.
type Flip struct {
	File   string
	Offset int64
	Bit    int
}

func (f Flip) String() string { return fmt.Sprintf("%s, byte %d, bit %d", f.File, f.Offset, f.Bit) }

// ErrNothing says that there was no byte to damage.
var ErrNothing = errors.New("there are no such files, or they are empty")

// FlipBit turns over one bit of one of the files under dir whose base name
// matches pattern. A byte in use is chosen: one that is not zero, since files
// are made larger than they are filled; where all are zero, one of the first
// 64.
func FlipBit(dir, pattern string, rng *rand.Rand) (Flip, error) {
	var files []string
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil {
			return nil // it was removed meanwhile
		}
		if ok, _ := filepath.Match(pattern, e.Name()); ok && e.Type().IsRegular() {
			files = append(files, path)
		}
		return nil
	})
	if err != nil {
		return Flip{}, fmt.Errorf("list files: %w", err)
	}
	slices.Sort(files)
	rng.Shuffle(len(files), func(i, j int) { files[i], files[j] = files[j], files[i] })
	for _, path := range files {
		if f, err := flipIn(path, rng); !errors.Is(err, ErrNothing) {
			return f, err
		}
	}
	return Flip{}, ErrNothing
}

func flipIn(path string, rng *rand.Rand) (Flip, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return Flip{}, fmt.Errorf("open: %w", err)
	}
	defer f.Close()
	// Reservoir sampling: every byte in use is as likely as any other.
	flip, seen := Flip{File: filepath.Base(path), Bit: rng.IntN(8)}, 0
	var was byte
	buf := make([]byte, 1<<20)
	for next := int64(0); ; {
		at, err := f.Seek(next, unix.SEEK_DATA) // holes are not read
		if err != nil {
			break // the end
		}
		n, err := f.ReadAt(buf, at)
		for i, b := range buf[:n] {
			if b == 0 {
				continue
			}
			seen++
			if rng.IntN(seen) == 0 {
				flip.Offset, was = at+int64(i), b
			}
		}
		next = at + int64(n)
		if err != nil || n == 0 {
			break // the end
		}
	}
	if seen == 0 {
		info, err := f.Stat()
		if err != nil || info.Size() == 0 {
			return Flip{}, ErrNothing
		}
		flip.Offset = rng.Int64N(min(info.Size(), 64))
	}
	if _, err := f.WriteAt([]byte{was ^ 1<<flip.Bit}, flip.Offset); err != nil {
		return Flip{}, fmt.Errorf("write: %w", err)
	}
	return flip, nil
}
