package wholefile

import (
	"errors"

	"golang.org/x/sys/unix"
)

// exchange lets two files change places at once. The error is errors.ErrUnsupported
// where the kernel or the file system has no such thing.
func exchange(a, b string) error {
	err := unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
	if errors.Is(err, unix.EINVAL) { // what a file system says that cannot
		return errors.ErrUnsupported
	}
	return err
}
