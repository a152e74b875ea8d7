//go:build linux

package machine

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Run is one run's share of the machine. It is safe for concurrent use.
type Run struct {
	// Prefix of all names, and Dir of all files.
	Prefix, Dir string

	mu       sync.Mutex
	mounts   []string // in the order they were mounted
	networks int      // so far
}

const namePrefix = "atc"

// NewRun sweeps what dead runs left, and makes a directory.
func NewRun() (*Run, error) {
	// Where tools for root are; a login shell has them in its path, others not.
	if err := os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin"); err != nil {
		return nil, err
	}
	Sweep()
	r := &Run{Prefix: namePrefix + strconv.Itoa(os.Getpid())}
	r.Dir = filepath.Join(os.TempDir(), "atoll-chaos-"+strconv.Itoa(os.Getpid()))
	if err := os.MkdirAll(r.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("make directory of the run: %w", err)
	}
	return r, nil
}

// Close unmounts and removes everything of the run.
func (r *Run) Close() error {
	var errs []error
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range slices.Backward(r.mounts) {
		errs = append(errs, command("umount", m))
	}
	r.mounts = nil
	return errors.Join(append(errs, os.RemoveAll(r.Dir))...)
}

func (r *Run) mounted(dir string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mounts = append(r.mounts, dir)
}

func (r *Run) unmount(dir string) error {
	if err := command("umount", dir); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mounts = slices.DeleteFunc(r.mounts, func(m string) bool { return m == dir })
	return nil
}

// Sweep removes the namespaces, mounts, cgroups and files of runs whose
// process is gone. Their nodes died with them (M3).
func Sweep() {
	names, _ := filepath.Glob("/var/run/netns/" + namePrefix + "*")
	for _, n := range names {
		if dead(strings.TrimPrefix(filepath.Base(n), namePrefix)) {
			_ = command("ip", "netns", "del", filepath.Base(n))
		}
	}
	groups, _ := filepath.Glob(filepath.Join(blkio, namePrefix+"*"))
	for _, g := range groups {
		if dead(strings.TrimPrefix(filepath.Base(g), namePrefix)) {
			_ = os.Remove(g)
		}
	}
	dirs, _ := filepath.Glob(filepath.Join(os.TempDir(), "atoll-chaos-*"))
	for _, d := range dirs {
		if !dead(strings.TrimPrefix(filepath.Base(d), "atoll-chaos-")) {
			continue
		}
		table, _ := os.ReadFile("/proc/self/mounts")
		for _, line := range slices.Backward(strings.Split(string(table), "\n")) {
			if f := strings.Fields(line); len(f) > 1 && strings.HasPrefix(f[1], d+"/") {
				_ = command("umount", f[1])
			}
		}
		_ = os.RemoveAll(d)
	}
}

// dead says that the process whose number text begins with is gone.
func dead(text string) bool {
	digits := text
	for i, c := range text {
		if c < '0' || c > '9' {
			digits = text[:i]
			break
		}
	}
	pid, err := strconv.Atoi(digits)
	return err == nil && errors.Is(unix.Kill(pid, 0), unix.ESRCH)
}

// command runs a tool to its end.
func command(name string, args ...string) error { return finish(exec.Command(name, args...)) }

func finish(cmd *exec.Cmd) error {
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, strings.TrimSpace(out.String()))
	}
	return nil
}
