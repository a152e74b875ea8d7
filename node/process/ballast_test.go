package process_test

import (
	"context"
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
		p, err := process.New(c, process.Hooks{Logger: logger(t)})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithTimeout(t.Context(), waitLimit)
		defer stop()
		done := make(chan error, 1)
		go func() { done <- p.Run(ctx) }()
		<-p.Ready()
		info, err := os.Stat(filepath.Join(c.DataDir, "ballast"))
		if size > 0 && (err != nil || info.Size() != int64(size)) || size == 0 && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("of %v: %v, %v", size, info, err)
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
