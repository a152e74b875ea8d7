//go:build linux

package machine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
)

// namespaces is a network of one namespace for each host, all plugged into a
// bridge, which is in one more. The root namespace has no part in it.
type namespaces struct {
	prefix string
	mu     sync.Mutex
	hosts  map[string]*host
	gate   *thread // of the switch
}

type host struct {
	name   string // of the namespace
	ip     string
	thread *thread
}

// clients is the host that the test itself dials from.
const clients = "clients"

// servicePorts are the same on every host.
var servicePorts = map[string]int{"client": 7400, "peer": 7401, "admin": 7402, "nats": 7403, "routes": 7404}

// NewNamespaces makes a network without hosts.
func (r *Run) NewNamespaces() (Network, error) {
	r.mu.Lock()
	r.networks++
	n := &namespaces{prefix: fmt.Sprintf("%sn%d", r.Prefix, r.networks), hosts: map[string]*host{}}
	r.mu.Unlock()
	gate, err := n.namespace(n.prefix + "sw")
	if err != nil {
		return nil, err
	}
	n.gate = gate
	for _, args := range [][]string{
		{"link", "add", "br0", "type", "bridge", "forward_delay", "0"},
		{"link", "set", "br0", "up"},
	} {
		if err := gate.run("ip", args...); err != nil {
			return nil, errors.Join(err, n.Close())
		}
	}
	if err := n.Add(clients); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

func (n *namespaces) namespace(name string) (*thread, error) {
	if err := command("ip", "netns", "add", name); err != nil {
		return nil, err
	}
	t, err := newThread("/var/run/netns/" + name)
	if err != nil {
		return nil, errors.Join(err, command("ip", "netns", "del", name))
	}
	return t, nil
}

func (n *namespaces) Add(name string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	i := len(n.hosts) + 1
	h := &host{name: n.prefix + "h" + strconv.Itoa(i), ip: fmt.Sprintf("10.77.0.%d", i)}
	t, err := n.namespace(h.name)
	if err != nil {
		return err
	}
	h.thread = t
	n.hosts[name] = h
	port := "p" + strconv.Itoa(i)
	for _, args := range [][]string{
		{"link", "add", "eth0", "type", "veth", "peer", "name", port, "netns", n.prefix + "sw"},
		{"addr", "add", h.ip + "/24", "dev", "eth0"},
		{"link", "set", "lo", "up"},
		{"link", "set", "eth0", "up"},
	} {
		if err := t.run("ip", args...); err != nil {
			return err
		}
	}
	for _, args := range [][]string{{"link", "set", port, "master", "br0"}, {"link", "set", port, "up"}} {
		if err := n.gate.run("ip", args...); err != nil {
			return err
		}
	}
	return nil
}

// Close kills nothing: whoever started processes has ended them.
func (n *namespaces) Close() error {
	var errs []error
	for _, h := range n.hosts {
		h.thread.close()
		errs = append(errs, command("ip", "netns", "del", h.name))
	}
	n.gate.close()
	return errors.Join(append(errs, command("ip", "netns", "del", n.prefix+"sw"))...)
}

func (n *namespaces) of(name string) *host {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.hosts[name]
}

func (n *namespaces) Listen(host, service string) string {
	return net.JoinHostPort(n.of(host).ip, strconv.Itoa(servicePorts[service]))
}

func (n *namespaces) Reach(host, service string) string { return n.Listen(host, service) }

func (n *namespaces) Loopback() bool { return false }

func (n *namespaces) Start(host string, cmd *exec.Cmd) error { return n.of(host).thread.start(cmd) }

// Dial makes the socket on a thread of its own inside the clients' namespace;
// connecting may take long when hosts are cut off, and must not delay others.
func (n *namespaces) Dial(ctx context.Context, addr string) (net.Conn, error) {
	type dialed struct {
		conn net.Conn
		err  error
	}
	done := make(chan dialed, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: see thread
		if err := enter("/var/run/netns/" + n.of(clients).name); err != nil {
			done <- dialed{err: err}
			return
		}
		var d net.Dialer
		conn, err := d.DialContext(ctx, "tcp", addr)
		done <- dialed{conn, err}
	}()
	d := <-done
	return d.conn, d.err
}

// rule adds a rule for what comes from a host, at the receiving end.
func (n *namespaces) rule(from, to, what string) error {
	text := fmt.Sprintf(`add table ip atoll
add chain ip atoll in { type filter hook input priority 0; }
add rule ip atoll in ip saddr %s %s
`, n.of(from).ip, what)
	return n.of(to).thread.run("nft", text)
}

func (n *namespaces) Cut(from, to string) error { return n.rule(from, to, "drop") }

func (n *namespaces) CutPeer(from, to string) error {
	return n.rule(from, to, fmt.Sprintf("tcp dport %d drop", servicePorts["peer"]))
}

func (n *namespaces) Lose(from, to string, percent int) error {
	return n.rule(from, to, fmt.Sprintf("numgen random mod 100 < %d drop", percent))
}

func (n *namespaces) Heal() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	var errs []error
	for _, h := range n.hosts {
		errs = append(errs, h.thread.run("nft", "flush ruleset"))
	}
	return errors.Join(errs...)
}
