package natsd

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// retiredDir is where the store of a standalone server ends up whose region has
// grown. Nobody opens it again.
const retiredDir = "js-solo-retired"

// ErrNothingToRetire says that a data directory has no standalone server's
// store.
var ErrNothingToRetire = errors.New("there is no store of a standalone nats server")

// HasSolo reports whether dataDir has the store of a standalone server.
func HasSolo(dataDir string) (bool, error) {
	found, err := os.ReadDir(filepath.Join(dataDir, soloDir))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for a standalone nats store: %w", err)
	}
	return len(found) > 0, nil
}

// Retire moves the store of a standalone server out of the way, so that a
// clustered one may be made beside it (N2), and returns where it is now. What
// is to be kept of it must have been exported.
func Retire(dataDir string) (string, error) {
	unlock, err := lockDir(dataDir)
	if err != nil {
		return "", err
	}
	defer unlock()
	has, err := HasSolo(dataDir)
	if err != nil {
		return "", err
	}
	if !has {
		return "", fmt.Errorf("%w in %s", ErrNothingToRetire, dataDir)
	}
	to := filepath.Join(dataDir, retiredDir)
	if _, err := os.Stat(to); !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("retire standalone nats store: %s is there already", to)
	}
	if err := os.Rename(filepath.Join(dataDir, soloDir), to); err != nil {
		return "", fmt.Errorf("retire standalone nats store: %w", err)
	}
	return to, nil
}
