//go:build linux

package deployment

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"github.com/atolldb/atoll/e2e/chaos/machine"
	"github.com/atolldb/atoll/e2e/program"
)

// Node is one node and its process, if it runs.
type Node struct {
	*program.Process
	ID, Region string
	Disk       *machine.Disk

	network machine.Network
	binary  string
	rack    string
	meta    bool // runs a NATS server
	late    bool // was not there when the region was made
	gone    bool // has left for good
	config  string
}

func (n *Node) listen(service string) string { return n.network.Listen(n.ID, service) }

// Addr is where others reach a service of the node: client, peer, admin, nats.
func (n *Node) Addr(service string) string { return n.network.Reach(n.ID, service) }

// DataDir is the node's data directory, on its disk.
func (n *Node) DataDir() string { return filepath.Join(n.Disk.Dir, "data") }

// Start starts the process. It does not run.
func (n *Node) Start() error {
	return n.Process.Start(exec.Command(n.binary, "start", "--config", n.config), func(cmd *exec.Cmd) error { return n.network.Start(n.ID, cmd) })
}

// Runs changes the program that the next Start runs.
func (n *Node) Runs(binary string) { n.binary = binary }

// Configure adds a line to the node's configuration, for its next start.
func (n *Node) Configure(line string) error {
	f, err := os.OpenFile(n.config, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return fmt.Errorf("configure %s: %w", n.ID, err)
	}
	_, err = fmt.Fprintln(f, line)
	return errors.Join(err, f.Close())
}

// Pause stops all threads of the process where they are, and returns when they
// stand; Resume lets them go.
func (n *Node) Pause() error { return machine.Stop(n.Pid()) }

// Resume ends Pause.
func (n *Node) Resume() error { return n.Signal(syscall.SIGCONT) }

// Wipe removes all that the node has kept. It does not run.
func (n *Node) Wipe() error { return os.RemoveAll(n.DataDir()) }
