//go:build linux

package machine

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

const blkio = "/sys/fs/cgroup/blkio"

// Throttle limits a process to so many writes per second on the disk. The
// function it returns undoes that; the process may be gone by then.
func (r *Run) Throttle(name string, pid int, d *Disk, writes int) (func() error, error) {
	var st unix.Stat_t
	if err := unix.Stat(d.Dir, &st); err != nil {
		return nil, fmt.Errorf("stat %s: %w", d.Dir, err)
	}
	group := filepath.Join(blkio, r.Prefix+"-"+name)
	if err := os.MkdirAll(group, 0o755); err != nil {
		return nil, fmt.Errorf("make cgroup: %w", err)
	}
	device := fmt.Sprintf("%d:%d", unix.Major(st.Dev), unix.Minor(st.Dev))
	set := func(n int) error {
		return os.WriteFile(filepath.Join(group, "blkio.throttle.write_iops_device"), []byte(device+" "+strconv.Itoa(n)), 0o600)
	}
	if err := set(writes); err != nil {
		return nil, fmt.Errorf("throttle %s: %w", device, err)
	}
	move := func(to string) error {
		return os.WriteFile(filepath.Join(to, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0o600)
	}
	if err := move(group); err != nil {
		return nil, fmt.Errorf("move %d into cgroup: %w", pid, err)
	}
	return func() error {
		if err := set(0); err != nil {
			return err
		}
		_ = move(blkio) // fails when the process is gone
		return os.Remove(group)
	}, nil
}
