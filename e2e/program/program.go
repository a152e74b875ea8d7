// Package program is Atoll's program as tests of real processes run it: it is built
// once, and started, killed and stopped, and what it says goes into files.
//
// Methods of one Process are called by one goroutine at a time. A goroutine waits for
// each process that runs, and ends with it.
package program

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// Build builds the program from the tree.
func Build(to string) error {
	build := exec.Command("go", "build", "-trimpath", "-o", to, "github.com/atolldb/atoll/cmd/atoll")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the binary: %w\n%s", err, out)
	}
	return nil
}

// Process is one after the other of the same name, which say what they say in one file.
type Process struct {
	name, log string

	cmd    *exec.Cmd
	exited chan struct{}
	err    error // of the process, once exited
	killed bool
	starts int
}

// New returns one that does not run yet.
func New(name, log string) *Process { return &Process{name: name, log: log} }

// Start starts a command, by (*exec.Cmd).Start unless told otherwise. None runs.
func (p *Process) Start(cmd *exec.Cmd, start func(*exec.Cmd) error) error {
	if p.Running() {
		return fmt.Errorf("%s runs already", p.name)
	}
	log, err := os.OpenFile(p.log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	defer log.Close() //nolint:errcheck // the process has its own
	p.starts++
	fmt.Fprintf(log, "--- start %d of %s\n", p.starts, p.name)
	cmd.Stdout, cmd.Stderr = log, log
	if start == nil {
		start = (*exec.Cmd).Start
	}
	if err := start(cmd); err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	p.cmd, p.exited, p.err, p.killed = cmd, make(chan struct{}), nil, false
	go func(exited chan struct{}) {
		p.err = cmd.Wait()
		close(exited)
	}(p.exited)
	return nil
}

// Running says that there is a process that has not ended.
func (p *Process) Running() bool {
	if p.exited == nil {
		return false
	}
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// Exited is closed when the process that was started last has ended.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// Pid of the process, which runs.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Signal sends the process, which runs, a signal.
func (p *Process) Signal(s os.Signal) error { return p.cmd.Process.Signal(s) }

// Kill ends the process as kill -9 does, if there is one, and waits.
func (p *Process) Kill() error {
	if !p.Running() {
		return nil
	}
	p.killed = true
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill %s: %w", p.name, err)
	}
	<-p.exited
	return nil
}

// Stop asks the process to end, if there is one, and waits at most so long; then it
// kills it. It is an error if it ends with one.
func (p *Process) Stop(within time.Duration) error {
	if !p.Running() {
		return nil
	}
	if err := p.Signal(os.Interrupt); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("interrupt %s: %w", p.name, err)
	}
	late := time.NewTimer(within)
	defer late.Stop()
	select {
	case <-p.exited:
		return p.Failure()
	case <-late.C:
		return errors.Join(fmt.Errorf("%s does not stop within %v", p.name, within), p.Kill())
	}
}

// Failure is the error with which the process ended that was started last, unless it
// was killed.
func (p *Process) Failure() error {
	if p.exited == nil || p.Running() || p.killed || p.err == nil {
		return nil
	}
	return fmt.Errorf("%s ended: %w", p.name, p.err)
}

// Tail is the end of what was said: at most so many lines.
func (p *Process) Tail(lines int) string { return Tail(p.said(), lines) }

// SinceStart is what the process that was started last has said.
func (p *Process) SinceStart() string {
	all := p.said()
	return all[max(0, strings.LastIndex(all, "--- start ")):]
}

func (p *Process) said() string {
	b, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// Tail is the end of a text: at most so many lines.
func Tail(text string, lines int) string {
	all := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
