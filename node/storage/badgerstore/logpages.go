package badgerstore

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Badger maps the log of a memtable into memory, writes entries there, and has
// the kernel write the pages that have changed. A page fault in a mapped file
// reads ahead, and where a file system has large folios (XFS since Linux 5.18,
// ext4 since 6.16) each read-ahead that was of use makes the next folio larger,
// up to what the disk's read-ahead is. A folio is dirty as a whole: with a
// read-ahead of 8 MiB, every sync of a few kilobytes wrote 2 MiB once a log had
// grown to 40 MiB. So the kernel is told that logs are not read in order, and
// uses single pages for them. What of a log was written before is little.

// adviseEvery is how many bytes are committed between two looks for a new log.
const adviseEvery = 1 << 20

// logPages advises the kernel on each new log. It belongs to the writer.
type logPages struct {
	dir   string
	next  int   // number of the log that comes after the newest known one
	wrote int64 // since the last look
}

func logName(n int) string { return fmt.Sprintf("%05d.mem", n) }

// opened finds the newest log of an open store and advises on it.
func (l *logPages) opened(dir string) error {
	l.dir = dir
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("list logs: %w", err)
	}
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".mem")
		if n, err := strconv.Atoi(name); ok && err == nil {
			l.next = max(l.next, n)
		}
	}
	return l.look()
}

// committed looks for a new log now and then.
func (l *logPages) committed(bytes int64) error {
	if l.wrote += bytes; l.wrote < adviseEvery {
		return nil
	}
	l.wrote = 0
	return l.look()
}

// look advises on the next log if there is one. Errors concern speed alone.
func (l *logPages) look() error {
	name := logName(l.next)
	var st unix.Stat_t
	switch err := unix.Stat(filepath.Join(l.dir, name), &st); {
	case errors.Is(err, unix.ENOENT):
		return nil
	case err != nil:
		return fmt.Errorf("stat %s: %w", name, err)
	}
	l.next++
	return adviseRandom(name, st.Ino)
}

// adviseRandom advises on what this process has mapped of a file. The base name
// is compared besides the inode, and no device: some file systems give several.
func adviseRandom(name string, inode uint64) error {
	found := false
	err := mappings(func(m mapping) error {
		if m.inode != inode || filepath.Base(m.path) != name {
			return nil
		}
		found = true
		// If it has been unmapped since, this does no harm: advice changes no
		// contents, whatever is there by now.
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, m.lo, m.hi-m.lo, unix.MADV_RANDOM); errno != 0 {
			return fmt.Errorf("advise on %s: %w", name, errno)
		}
		return nil
	})
	if err == nil && !found {
		err = fmt.Errorf("%s is not mapped", name)
	}
	return err
}

// mapping is a line of /proc/self/maps.
type mapping struct {
	lo, hi uintptr
	inode  uint64
	path   string
}

// parseMapping reads a line; false for one without a file.
func parseMapping(line string) (m mapping, ok bool) {
	fields := strings.Fields(line)
	if len(fields) < 6 {
		return m, false
	}
	a, b, _ := strings.Cut(fields[0], "-")
	lo, err1 := strconv.ParseUint(a, 16, strconv.IntSize)
	hi, err2 := strconv.ParseUint(b, 16, strconv.IntSize)
	inode, err3 := strconv.ParseUint(fields[4], 10, 64)
	if err1 != nil || err2 != nil || err3 != nil || hi <= lo {
		return m, false
	}
	return mapping{uintptr(lo), uintptr(hi), inode, strings.Join(fields[5:], " ")}, true
}

// mappings calls each for every file that this process has mapped.
func mappings(each func(mapping) error) (err error) {
	f, err := os.Open("/proc/self/maps")
	if err != nil {
		return fmt.Errorf("look for mapped files: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	scan := bufio.NewScanner(f)
	for scan.Scan() {
		if m, ok := parseMapping(scan.Text()); ok {
			if err := each(m); err != nil {
				return err
			}
		}
	}
	return scan.Err()
}
