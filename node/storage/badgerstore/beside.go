package badgerstore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/atolldb/atoll/internal/wholefile"
	"github.com/atolldb/atoll/node/storage"
)

// WriteBeside implements storage.Engine. The committer's file is written about every
// second.
func (s *Store) WriteBeside(name string, data []byte) error {
	if err := storage.CheckBeside(name, data); err != nil {
		return err
	}
	if err := s.enter(); err != nil {
		return err
	}
	defer s.gate.leave()
	if err := wholefile.Rewrite(filepath.Join(s.cfg.besideDir(), name), data); err != nil {
		return fmt.Errorf("write %s beside the store: %w", name, err)
	}
	return nil
}

// ReadBeside implements storage.Engine.
func (s *Store) ReadBeside(name string) ([]byte, error) {
	if err := storage.CheckBeside(name, nil); err != nil {
		return nil, err
	}
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.gate.leave()
	data, err := os.ReadFile(filepath.Join(s.cfg.besideDir(), name))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, storage.ErrNotFound
	case err != nil:
		return nil, fmt.Errorf("read %s beside the store: %w", name, err)
	}
	return data, nil
}
