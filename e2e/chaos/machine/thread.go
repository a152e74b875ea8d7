//go:build linux

package machine

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// thread is an operating system thread that lives in one network namespace.
// What is started on it lives there too, and dies with it.
type thread struct{ jobs chan func() }

// newThread enters the namespace of the file, or stays where it is for "".
func newThread(namespace string) (*thread, error) {
	t := &thread{jobs: make(chan func())}
	entered := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		err := enter(namespace)
		entered <- err
		if err != nil {
			return
		}
		for job := range t.jobs {
			job()
		}
	}()
	return t, <-entered
}

func enter(namespace string) error {
	if namespace == "" {
		return nil
	}
	f, err := os.Open(namespace)
	if err != nil {
		return fmt.Errorf("open namespace: %w", err)
	}
	defer f.Close()
	if err := unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter namespace %s: %w", namespace, err)
	}
	return nil
}

func (t *thread) do(f func() error) error {
	done := make(chan error, 1)
	t.jobs <- func() { done <- f() }
	return <-done
}

// start starts a process that gets SIGKILL when this thread ends.
func (t *thread) start(cmd *exec.Cmd) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	return t.do(cmd.Start)
}

func (t *thread) run(name string, args ...string) error {
	return t.do(func() error { return command(name, args...) })
}

func (t *thread) close() { close(t.jobs) }
