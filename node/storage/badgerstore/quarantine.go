package badgerstore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/atolldb/atoll/internal/wholefile"
)

// Quarantine moves the store in dir aside, as a whole and with the files beside
// it, into dir/quarantine-<n>, and returns that path. It is for a store that
// Open refused with storage.ErrCorrupt: the next Open begins an empty one, whose
// node is behind, takes a new actor, and gets everything from the other owners.
//
// Nothing is deleted, not even of earlier quarantines: that is for people, who
// may want to look, and who know whether there are other owners. It returns
// ErrInUse when a process has the store.
func Quarantine(dir string) (to string, err error) {
	cfg := Config{Dir: dir}
	unlock, err := lockDir(cfg.lsmDir())
	if err != nil {
		return "", fmt.Errorf("set aside the store in %s: %w", dir, err)
	}
	defer func() { err = errors.Join(err, unlock()) }()
	for n := 1; ; n++ {
		to = filepath.Join(dir, quarantinePrefix+strconv.Itoa(n))
		err := os.Mkdir(to, 0o750)
		if err == nil {
			break
		}
		if !errors.Is(err, os.ErrExist) {
			return "", fmt.Errorf("set aside the store in %s: %w", dir, err)
		}
	}
	// What is beside goes first: if this ends in between, the store is found
	// corrupt again, or without what was beside it, and both are noticed.
	for _, from := range []string{cfg.besideDir(), cfg.lsmDir()} {
		err := os.Rename(from, filepath.Join(to, filepath.Base(from)))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return "", fmt.Errorf("set aside the store in %s: %w", dir, err)
		}
	}
	if err := errors.Join(wholefile.SyncDir(to), wholefile.SyncDir(dir)); err != nil {
		return "", fmt.Errorf("set aside the store in %s: %w", dir, err)
	}
	return to, nil
}

const quarantinePrefix = "quarantine-"

// Quarantined returns the stores in dir that were set aside, and have not been
// deleted since.
func Quarantined(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("find what was set aside: %w", err)
	}
	var out []string
	for _, e := range entries {
		if e.IsDir() && strings.HasPrefix(e.Name(), quarantinePrefix) {
			out = append(out, filepath.Join(dir, e.Name()))
		}
	}
	return out, nil
}
