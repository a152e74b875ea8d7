package process_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/atolldb/atoll/node/process"
	"github.com/atolldb/atoll/node/storage"
)

// The ballast is made at a start, and goes when the configuration has none any more.
func TestBallastFile(t *testing.T) {
	c := single(t.TempDir())
	var st unix.Statfs_t
	if err := unix.Statfs(c.DataDir, &st); err != nil {
		t.Fatal(err)
	}
	u := storage.Usage{Free: int64(st.Bavail) * st.Bsize, Total: int64(st.Blocks) * st.Bsize}
	if u.Free < 2*storage.DefaultWatermark.Needs(u)+64<<20 {
		t.Skip("NOT JUDGED: the disk has no room for a ballast")
	}
	for _, size := range []process.Size{4 * process.MiB, 0} {
		c.Ballast = size
		if err := runOnce(t, c, nothing); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(filepath.Join(c.DataDir, "ballast"))
		if size > 0 && (err != nil || info.Size() != int64(size)) || size == 0 && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("of %v: %v, %v", size, info, err)
		}
	}
}
