package badgerstore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

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
	free, total, err := space(s.cfg.Dir)
	if err != nil {
		return storage.Usage{}, err
	}
	store, err := occupied(s.cfg.lsmDir(), "")
	if err != nil {
		return storage.Usage{}, err
	}
	return storage.Usage{Store: store, Free: free, Total: total}, nil
}

// space is how many bytes of the file system of dir are free, and how many there are.
func space(dir string) (free, total int64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, 0, fmt.Errorf("statfs %s: %w", dir, err)
	}
	block := int64(st.Bsize)
	free = int64(st.Bavail) * block
	return free, int64(st.Blocks-st.Bfree)*block + free, nil
}

// occupied sums the blocks of the files in dir whose names end so. Files come and go
// meanwhile.
func occupied(dir, ext string) (int64, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, fmt.Errorf("list %s: %w", dir, err)
	}
	total := int64(0)
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ext) {
			continue
		}
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

// openSpare is what opening a store may write beside the contents of its logs: the
// first pages of a new log, the manifest, some notes.
const openSpare = 8 << 20

// roomToOpen returns an error that wraps storage.ErrFull where the store in dir cannot be
// opened. Badger begins with writing what is in its logs to tables, through maps of
// files: without room for a page of these the kernel would end the process, by SIGBUS,
// and so again at each start.
func roomToOpen(dir string) error {
	free, _, err := space(dir)
	if err != nil {
		return err
	}
	logs, err := occupied(dir, ".mem")
	if err != nil {
		return err
	}
	return roomFor(free, logs)
}

func roomFor(free, logs int64) error {
	if need := logs + openSpare; free < need {
		return fmt.Errorf("%w: %d MiB are free, and opening the store may take %d", storage.ErrFull, free>>20, need>>20)
	}
	return nil
}

// EnsureBallast makes the ballast file in dir occupy n bytes, or removes it for 0. On a
// disk that is full in spite of the watermark a store cannot even be opened: then
// an operator removes the file, and has n bytes to start the node and free some
// space. It is made again at the next start that leaves spare bytes free beside it; at
// one that does not, there is none.
//
// An error, which wraps storage.ErrFull where there is no room for it, is no reason not to
// start.
func EnsureBallast(dir string, n, spare int64) (err error) {
	name := filepath.Join(dir, "ballast")
	if n <= 0 {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove ballast file: %w", err)
		}
		return nil
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o640)
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
	free, _, err := space(dir)
	if err != nil {
		return err
	}
	if left := free + info.Size() - n; left < spare {
		return fmt.Errorf("%w: no room for a ballast file of %d MiB that leaves %d free", storage.ErrFull, n>>20, spare>>20)
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
