//go:build linux

package deployment

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/atolldb/atoll/e2e/chaos/machine"
)

// Node is one node and its process, if it runs.
type Node struct {
	ID, Region string
	Disk       *machine.Disk

	network     machine.Network
	binary      string
	rack        string
	meta        bool // runs a NATS server
	late        bool // was not there when the region was made
	gone        bool // has left for good
	config, log string

	cmd    *exec.Cmd
	exited chan struct{}
	err    error // of the process, once exited
	starts int
}

func (n *Node) listen(service string) string { return n.network.Listen(n.ID, service) }

// Addr is where others reach a service of the node: client, peer, admin, nats.
func (n *Node) Addr(service string) string { return n.network.Reach(n.ID, service) }

// DataDir is the node's data directory, on its disk.
func (n *Node) DataDir() string { return filepath.Join(n.Disk.Dir, "data") }

// Start starts the process. It does not run.
func (n *Node) Start() error {
	if n.Running() {
		return fmt.Errorf("%s runs already", n.ID)
	}
	log, err := os.OpenFile(n.log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	defer log.Close()
	n.starts++
	fmt.Fprintf(log, "--- start %d of %s\n", n.starts, n.ID)
	cmd := exec.Command(n.binary, "start", "--config", n.config)
	cmd.Stdout, cmd.Stderr = log, log
	if err := n.network.Start(n.ID, cmd); err != nil {
		return fmt.Errorf("start %s: %w", n.ID, err)
	}
	n.cmd, n.exited, n.err = cmd, make(chan struct{}), nil
	go func(exited chan struct{}) {
		n.err = cmd.Wait()
		close(exited)
	}(n.exited)
	return nil
}

// Runs changes the program that the next Start runs.
func (n *Node) Runs(binary string) { n.binary = binary }

// Running says that there is a process that has not ended.
func (n *Node) Running() bool {
	if n.exited == nil {
		return false
	}
	select {
	case <-n.exited:
		return false
	default:
		return true
	}
}

// Exited is closed when the process that was started last has ended.
func (n *Node) Exited() <-chan struct{} { return n.exited }

// Pid of the process, which runs.
func (n *Node) Pid() int { return n.cmd.Process.Pid }

// Kill ends the process as kill -9 does, if there is one, and waits.
func (n *Node) Kill() error {
	if !n.Running() {
		return nil
	}
	if err := n.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill %s: %w", n.ID, err)
	}
	<-n.exited
	return nil
}

// Pause stops all threads of the process where they are, and returns when they
// stand; Resume lets them go.
func (n *Node) Pause() error { return machine.Stop(n.Pid()) }

// Resume ends Pause.
func (n *Node) Resume() error { return n.cmd.Process.Signal(syscall.SIGCONT) }

// Stop asks the process to end, and waits at most so long.
func (n *Node) Stop(within time.Duration) error {
	if !n.Running() {
		return nil
	}
	if err := n.cmd.Process.Signal(os.Interrupt); err != nil {
		return fmt.Errorf("interrupt %s: %w", n.ID, err)
	}
	select {
	case <-n.exited:
		if n.err != nil {
			return fmt.Errorf("%s ended: %w", n.ID, n.err)
		}
		return nil
	case <-time.After(within):
		return errors.Join(fmt.Errorf("%s does not stop within %v", n.ID, within), n.Kill())
	}
}

// Wipe removes all that the node has kept. It does not run.
func (n *Node) Wipe() error { return os.RemoveAll(n.DataDir()) }

// Tail is the end of the log: at most so many lines.
func (n *Node) Tail(lines int) string {
	all := strings.Split(strings.TrimSpace(n.read()), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// SinceStart is the log of the process that was started last.
func (n *Node) SinceStart() string {
	all := n.read()
	return all[max(0, strings.LastIndex(all, "--- start ")):]
}

func (n *Node) read() string {
	b, err := os.ReadFile(n.log)
	if err != nil {
		return err.Error()
	}
	return string(b)
}
