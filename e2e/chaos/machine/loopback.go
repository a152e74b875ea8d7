//go:build linux

package machine

import (
	"context"
	"errors"
	"net"
	"os/exec"
	"sync"

	"github.com/atolldb/atoll/internal/freeport"
)

// loopback is a network for machines without namespaces: all hosts are
// 127.0.0.1, and each service has a free port. Only the links between peers
// can be cut, one way or both: they go through proxies in this process, which
// hold back what they would drop, as TCP would send it again anyway. Nothing
// can be lost, and NATS is not cut.
type loopback struct {
	thread *thread

	mu      sync.Mutex
	addrs   map[string]string // host and service
	reach   map[string]string // the same, where it is not addrs
	pids    map[int]string    // of processes started, and their hosts
	cuts    map[link]chan struct{}
	proxies []*proxy
	ports   []*freeport.Claim
}

// link is one direction between two hosts.
type link struct{ from, to string }

// proxied is the service that is reached through proxies.
const proxied = "peer"

// NewLoopback makes a network without hosts.
func (r *Run) NewLoopback() (Network, error) {
	t, err := newThread("")
	return &loopback{
		addrs: map[string]string{}, reach: map[string]string{}, pids: map[int]string{},
		cuts: map[link]chan struct{}{}, thread: t,
	}, err
}

func (l *loopback) Add(host string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	ports, err := freeport.Take(len(servicePorts))
	if err != nil {
		return err
	}
	l.ports = append(l.ports, ports)
	free := ports.Addrs
	for service := range servicePorts {
		l.addrs[host+" "+service], free = free[0], free[1:]
	}
	p, err := newProxy(l, host, l.addrs[host+" "+proxied])
	if err != nil {
		return err
	}
	l.proxies = append(l.proxies, p)
	l.reach[host+" "+proxied] = p.addr()
	return nil
}

func (l *loopback) Listen(host, service string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.addrs[host+" "+service]
}

func (l *loopback) Reach(host, service string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if addr := l.reach[host+" "+service]; addr != "" {
		return addr
	}
	return l.addrs[host+" "+service]
}

func (l *loopback) Loopback() bool { return true }

func (l *loopback) Start(host string, cmd *exec.Cmd) error {
	if err := l.thread.start(cmd); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pids[cmd.Process.Pid] = host
	return nil
}

func (l *loopback) Dial(ctx context.Context, addr string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", addr)
}

func (l *loopback) Cut(from, to string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if at := (link{from, to}); l.cuts[at] == nil {
		l.cuts[at] = make(chan struct{})
	}
	return nil
}

// CutPeer is Cut, by which nothing else is cut here.
func (l *loopback) CutPeer(from, to string) error { return l.Cut(from, to) }

// cut returns what is closed when the link is healed, nil when it is whole.
func (l *loopback) cut(at link) <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cuts[at]
}

func (l *loopback) Lose(string, string, int) error {
	return errors.New("this network loses nothing: " + string(Cutting) + " is needed")
}

func (l *loopback) Heal() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.cuts {
		close(c)
	}
	clear(l.cuts)
	return nil
}

func (l *loopback) Close() error {
	errs := []error{l.Heal()}
	for _, p := range l.proxies {
		errs = append(errs, p.close())
	}
	for _, p := range l.ports {
		p.Release()
	}
	l.thread.close()
	return errors.Join(errs...)
}
