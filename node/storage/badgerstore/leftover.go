package badgerstore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/atolldb/atoll/internal/wholefile"
)

// lockDir takes Badger's lock of its directory; ErrInUse when a process has it.
func lockDir(dir string) (unlock func() error, err error) {
	lock, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	switch err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); {
	case errors.Is(err, unix.EWOULDBLOCK):
		return nil, errors.Join(ErrInUse, lock.Close())
	case err != nil:
		return nil, errors.Join(fmt.Errorf("lock %s: %w", dir, err), lock.Close())
	}
	return lock.Close, nil
}

// removeLeftovers removes from Badger's directory files that are good for
// nothing, and over some of which it would refuse to open:
//
//   - Logs of no bytes. A crash leaves one behind when it comes between the
//     creation of a file and its sizing, or between the truncation and the
//     removal of a log that was flushed (Badger's issue 2207, in 4.9.6).
//   - What was to become another file and was not (temporary files of ours).
//   - A key registry that is not that of a store without encryption, which has
//     no keys and is always the same but for 16 bytes: it is damaged.
//
// It takes Badger's lock, since a running process has such files too, for a
// moment.
func removeLeftovers(dir string) (err error) {
	unlock, err := lockDir(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if err := removeBadRegistry(filepath.Join(dir, "KEYREGISTRY")); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		temporary := strings.HasPrefix(e.Name(), wholefile.Temporary)
		if ext := filepath.Ext(e.Name()); !temporary && ext != ".mem" && ext != ".vlog" {
			continue
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		if info.Size() > 0 && !temporary {
			continue
		}
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

func removeBadRegistry(name string) error {
	b, err := os.ReadFile(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if len(b) == 16+len(sanityText) && string(b[16:]) == sanityText {
		return nil
	}
	return os.Remove(name)
}

// sanityText is what follows 16 random bytes in a key registry.
const sanityText = "Hello Badger"
