package machine

import (
	"bytes"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// stopTime bounds how long a process may take to stand still: a thread that
// waits for its disk stops when it has been served.
const stopTime = 30 * time.Second

// Stop stops all threads of a process where they are, and returns when every one
// of them stands. The signal alone is a request: the others go on until the thread
// that was chosen to take it has run, which takes a hundred milliseconds on a busy
// machine. SIGCONT lets them go on.
func Stop(pid int) error {
	if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
		return fmt.Errorf("stop process %d: %w", pid, err)
	}
	for deadline := time.Now().Add(stopTime); ; time.Sleep(time.Millisecond) {
		switch all, err := Stands(pid); {
		case err != nil:
			return err
		case all:
			return nil
		case time.Now().After(deadline):
			return fmt.Errorf("process %d does not stop within %v", pid, stopTime)
		}
	}
}

// Stands reports whether no thread of a process runs, nor will before SIGCONT.
func Stands(pid int) (bool, error) {
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return false, fmt.Errorf("list threads: %w", err)
	}
	for _, t := range tasks {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/stat", pid, t.Name()))
		if err != nil || !stands(stat) {
			return false, nil // one that has just ended is not listed the next time
		}
	}
	return len(tasks) > 0, nil
}

// stands reads the state of a thread from its stat. It is behind the name, which
// is in brackets and may hold any.
func stands(stat []byte) bool {
	rest := stat[bytes.LastIndexByte(stat, ')')+1:]
	return bytes.HasPrefix(rest, []byte(" T")) || bytes.HasPrefix(rest, []byte(" Z"))
}
