//go:build linux

package machine

import (
	"context"
	"errors"
	"net"
	"os/exec"
	"sync"
)

// loopback is a network for machines without namespaces: all hosts are
// 127.0.0.1, each service has a free port, and nothing can be cut.
type loopback struct {
	mu     sync.Mutex
	addrs  map[string]string // host and service
	thread *thread
}

// NewLoopback makes a network without hosts.
func (r *Run) NewLoopback() (Network, error) {
	t, err := newThread("")
	return &loopback{addrs: map[string]string{}, thread: t}, err
}

func (l *loopback) Add(host string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for service := range servicePorts {
		free, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer free.Close() // after all services have one: no two the same
		l.addrs[host+" "+service] = free.Addr().String()
	}
	return nil
}

func (l *loopback) Listen(host, service string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.addrs[host+" "+service]
}

func (l *loopback) Reach(host, service string) string { return l.Listen(host, service) }

func (l *loopback) Loopback() bool { return true }

func (l *loopback) Start(_ string, cmd *exec.Cmd) error { return l.thread.start(cmd) }

func (l *loopback) Dial(ctx context.Context, addr string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", addr)
}

var errCutting = errors.New("this network cannot be cut")

func (l *loopback) Cut(string, string) error       { return errCutting }
func (l *loopback) Lose(string, string, int) error { return errCutting }
func (l *loopback) Heal() error                    { return nil }

func (l *loopback) Close() error {
	l.thread.close()
	return nil
}
