package badgerstore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/atolldb/atoll/node/storage"
)

// WriteBeside implements storage.Engine: write a temporary file, sync it,
// rename it, sync the directory.
func (s *Store) WriteBeside(name string, data []byte) error {
	if err := storage.CheckBeside(name, data); err != nil {
		return err
	}
	if err := s.enter(); err != nil {
		return err
	}
	defer s.gate.leave()
	if err := replaceFile(s.cfg.besideDir(), name, data); err != nil {
		return fmt.Errorf("write %s beside the store: %w", name, err)
	}
	return nil
}

// temporaryPrefix is what files begin with that are not finished.
const temporaryPrefix = ".tmp-"

func replaceFile(dir, name string, data []byte) (err error) {
	tmp, err := os.CreateTemp(dir, temporaryPrefix+"*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			tmp.Close()
			os.Remove(tmp.Name())
		}
	}()
	if _, err := tmp.Write(data); err != nil {
		return err
	}
	if err := tmp.Sync(); err != nil {
		return err
	}
	if err := tmp.Close(); err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), filepath.Join(dir, name)); err != nil {
		return err
	}
	return syncDir(dir)
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

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	return errors.Join(err, d.Close())
}
