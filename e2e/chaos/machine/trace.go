//go:build linux

package machine

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

// Trace is a strace that makes system calls of a process fail.
type Trace struct {
	cmd   *exec.Cmd
	lines chan string
}

// SyncCalls are those by which a process makes files durable.
const SyncCalls = "fsync,fdatasync,msync,sync_file_range"

// Inject attaches to all threads of a process: the calls fail with the error
// (EIO), from the n-th call of each thread on (1: at once).
func Inject(pid int, calls, errno string, n int) (*Trace, error) {
	cmd := exec.Command("strace", "-f", "-o", "/dev/null", "-e", "trace="+calls,
		"-e", fmt.Sprintf("inject=%s:error=%s:when=%d+", calls, errno, n), "-p", strconv.Itoa(pid))
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start strace: %w", err)
	}
	t := &Trace{cmd: cmd, lines: make(chan string, 1024)}
	go func() {
		defer close(t.lines)
		scan := bufio.NewScanner(stderr)
		for scan.Scan() {
			t.lines <- scan.Text()
		}
	}()
	for line := range t.lines {
		if strings.Contains(line, "attached") {
			go func() { // nobody reads the rest
				for range t.lines {
				}
			}()
			return t, nil
		}
	}
	return nil, fmt.Errorf("strace did not attach to %d: %w", pid, cmd.Wait())
}

// Detach ends the strace; the process goes on, if it still does.
func (t *Trace) Detach() {
	_ = t.cmd.Process.Signal(os.Interrupt)
	_ = t.cmd.Wait() // it tells the signal
}
