package badgerstore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/atolldb/atoll/node/storage"
)

// Usage implements storage.Engine. Store is what the files occupy (Badger
// creates its logs larger than it fills them); Free and Total are as df shows
// them to an ordinary user, without the blocks reserved for root.
func (s *Store) Usage() (storage.Usage, error) {
	if err := s.enter(); err != nil {
		return storage.Usage{}, err
	}
	defer s.gate.leave()
	var st unix.Statfs_t
	if err := unix.Statfs(s.cfg.Dir, &st); err != nil {
		return storage.Usage{}, fmt.Errorf("statfs %s: %w", s.cfg.Dir, err)
	}
	store, err := occupied(s.cfg.lsmDir())
	if err != nil {
		return storage.Usage{}, err
	}
	block := int64(st.Bsize)
	free := int64(st.Bavail) * block
	return storage.Usage{Store: store, Free: free, Total: int64(st.Blocks-st.Bfree)*block + free}, nil
}

// occupied sums the blocks of the files in dir. Files come and go meanwhile.
func occupied(dir string) (int64, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, fmt.Errorf("list %s: %w", dir, err)
	}
	total := int64(0)
	for _, e := range entries {
		var st unix.Stat_t
		err := unix.Stat(filepath.Join(dir, e.Name()), &st)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return 0, fmt.Errorf("stat %s: %w", e.Name(), err)
		default:
			total += st.Blocks * 512
		}
	}
	return total, nil
}

// EnsureBallast makes the ballast file in dir occupy n bytes; 0 leaves things
// as they are. On a disk that is full in spite of the watermark Badger cannot
// even open: then an operator removes the file, and has n bytes to start the
// node and free some space. It is made again at the next start that has room
// for it. The default is none, for development; 1 GiB for production.
//
// It returns an error when the disk has no room for the ballast, which is no
// reason not to start.
func EnsureBallast(dir string, n int64) (err error) {
	if n <= 0 {
		return nil
	}
	f, err := os.OpenFile(filepath.Join(dir, "ballast"), os.O_CREATE|os.O_RDWR, 0o640)
	if err != nil {
		return fmt.Errorf("open ballast file: %w", err)
	}
	defer func() {
		err = errors.Join(err, f.Close())
		if err != nil {
			os.Remove(f.Name()) // a part of it would only fill the disk
		}
	}()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("stat ballast file: %w", err)
	}
	if info.Size() == n {
		return nil
	}
	if err := f.Truncate(n); err != nil {
		return fmt.Errorf("size ballast file: %w", err)
	}
	switch err := unix.Fallocate(int(f.Fd()), 0, 0, n); {
	case errors.Is(err, unix.EOPNOTSUPP):
		if err := fill(f, n); err != nil {
			return fmt.Errorf("fill ballast file: %w", err)
		}
	case err != nil:
		return fmt.Errorf("allocate ballast file: %w", err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync ballast file: %w", err)
	}
	return nil
}

// fill writes n bytes, for file systems that cannot allocate.
func fill(f *os.File, n int64) error {
	block := make([]byte, 1<<20)
	for off := int64(0); off < n; off += int64(len(block)) {
		if _, err := f.WriteAt(block[:min(int64(len(block)), n-off)], off); err != nil {
			return err
		}
	}
	return nil
}
