// Package wholefile replaces small files so that, whatever happens meanwhile, the old
// contents are there or the new ones, and the new ones for good once it has returned.
//
// A file that is not the whole one yet has a name that begins with Temporary, in the
// same directory. After a crash it may be left behind; it is good for nothing.
package wholefile

import (
	"errors"
	"os"
	"path/filepath"
)

// Temporary is what the names of files begin with that are not finished.
const Temporary = ".tmp-"

// Replace writes data to a new file, with the permissions 0600, and renames it to path.
func Replace(path string, data []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), Temporary+"*")
	if err != nil {
		return err
	}
	_, err = tmp.Write(data)
	if err == nil {
		err = tmp.Sync()
	}
	err = errors.Join(err, tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp.Name()))
	}
	return SyncDir(filepath.Dir(path))
}

// Rewrite does as Replace does, for a file that is written every second: what it had is
// not removed, but kept, under another name, to be overwritten the next time, and the
// two change places. So no blocks are given back and new ones taken each time. Where a
// file system tells its device at once of blocks that are free (ext4 mounted with
// discard), every commit of its journal waits for that, and with it whoever syncs
// anything else: 60 ms and more were seen, on a device that syncs in 0.3 ms.
//
// One at a time may rewrite a path, and who still reads what it had when it is rewritten
// twice may read a mixture: it is for what is read at the start. Where files cannot
// change places, it removes what it had after all.
func Rewrite(path string, data []byte) error {
	spare := filepath.Join(filepath.Dir(path), Temporary+filepath.Base(path))
	if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) {
		return Replace(path, data)
	} else if err != nil {
		return err
	}
	f, err := os.OpenFile(spare, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Truncate(int64(len(data)))
	}
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	switch err := exchange(spare, path); {
	case errors.Is(err, errors.ErrUnsupported):
		if err := os.Rename(spare, path); err != nil {
			return err
		}
	case err != nil:
		return &os.LinkError{Op: "exchange", Old: spare, New: path, Err: err}
	}
	return SyncDir(filepath.Dir(path))
}

// SyncDir makes the names in dir durable.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
