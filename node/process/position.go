package process

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/atolldb/atoll/geo/jetstream"
	"github.com/atolldb/atoll/internal/wholefile"
)

// positions keep how far this node has pulled other regions' logs, one file a
// region beside what was learned of it: regions/<name>.position, in jetstream's
// encoding.
type positions struct{ dir string }

var _ jetstream.Positions = positions{}

func (p positions) file(origin string) string { return filepath.Join(p.dir, origin+".position") }

// Load returns the zero position where there is none.
func (p positions) Load(origin string) (jetstream.Position, error) {
	b, err := os.ReadFile(p.file(origin))
	if errors.Is(err, os.ErrNotExist) {
		return jetstream.Position{}, nil
	}
	if err != nil {
		return jetstream.Position{}, fmt.Errorf("read position in the log of %s: %w", origin, err)
	}
	at, err := jetstream.DecodePosition(b)
	if err != nil {
		return jetstream.Position{}, fmt.Errorf("read position in the log of %s: %w", origin, err)
	}
	return at, nil
}

// Save replaces the position of origin.
func (p positions) Save(origin string, at jetstream.Position) error {
	err := os.MkdirAll(p.dir, 0o750)
	if err == nil {
		err = wholefile.Rewrite(p.file(origin), jetstream.EncodePosition(at))
	}
	if err != nil {
		return fmt.Errorf("keep position in the log of %s: %w", origin, err)
	}
	return nil
}
