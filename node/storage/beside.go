package storage

import (
	"fmt"
	"path/filepath"
)

// MaxBeside is the size of the largest file beside a store, in bytes.
const MaxBeside = 64 << 10

// CheckBeside returns an error unless name is a plain file name and data fits
// into a file beside a store.
func CheckBeside(name string, data []byte) error {
	if name == "" || name == "." || name == ".." || name != filepath.Base(name) {
		return fmt.Errorf("%q is not a plain file name", name)
	}
	if len(data) > MaxBeside {
		return fmt.Errorf("file %s of %d bytes, more than %d: %w", name, len(data), MaxBeside, ErrTooLarge)
	}
	return nil
}
