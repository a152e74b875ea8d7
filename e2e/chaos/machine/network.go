//go:build linux

package machine

import (
	"context"
	"net"
	"os/exec"
)

// Network connects hosts, and the test's clients with them.
type Network interface {
	// Add makes a host.
	Add(host string) error
	// Listen is the address at which a service of the host listens, and
	// Reach the one by which other hosts find it.
	Listen(host, service string) string
	Reach(host, service string) string
	// Loopback says that all addresses are in 127.0.0.0/8.
	Loopback() bool
	// Start starts a process on the host.
	Start(host string, cmd *exec.Cmd) error
	// Dial connects as a client, who is on a host of its own, not cut off by
	// anything below.
	Dial(ctx context.Context, addr string) (net.Conn, error)
	// Cut drops everything that goes from one host to the other (on loopback:
	// between their peer services); the other way stays open.
	Cut(from, to string) error
	// CutPeer drops what a host sends to the other's peer service alone: it cannot ask
	// there, nor get an answer.
	CutPeer(from, to string) error
	// Lose drops a percentage of the packets that go from one to the other.
	// Not all networks can: see Probe.
	Lose(from, to string, percent int) error
	// Heal undoes all cuts and losses.
	Heal() error
	Close() error
}

// NewNetwork makes the best network that the machine can, by what Probe missed.
func (r *Run) NewNetwork(missing map[Ability]error) (Network, error) {
	if missing[Cutting] == nil {
		return r.NewNamespaces()
	}
	return r.NewLoopback()
}
