//go:build linux

package machine

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// proxy stands in front of one host's service. Who dialled it, it learns from
// the kernel's table of sockets. It owns a goroutine that accepts and two for
// each connection; close ends them all and waits.
type proxy struct {
	net      *loopback
	host     string
	target   string
	listener net.Listener
	wg       sync.WaitGroup

	mu     sync.Mutex
	closed bool
	conns  map[net.Conn]bool
	done   chan struct{}
}

func newProxy(l *loopback, host, target string) (*proxy, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{net: l, host: host, target: target, listener: listener, conns: map[net.Conn]bool{}, done: make(chan struct{})}
	p.wg.Go(p.accept)
	return p, nil
}

func (p *proxy) addr() string { return p.listener.Addr().String() }

func (p *proxy) accept() {
	for {
		in, err := p.listener.Accept()
		if err != nil {
			return // closed
		}
		p.wg.Go(func() { p.serve(in) })
	}
}

func (p *proxy) serve(in net.Conn) {
	defer p.forget(in)
	if !p.keep(in) {
		return
	}
	from := p.net.dialer(in.RemoteAddr().(*net.TCPAddr).Port)
	p.await(link{from, p.host})
	out, err := net.Dial("tcp", p.target)
	if err != nil {
		return // as a refused connection, a little later
	}
	defer p.forget(out)
	if !p.keep(out) {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { p.copy(out, in, link{from, p.host}) })
	both.Go(func() { p.copy(in, out, link{p.host, from}) })
	both.Wait()
}

// copy hands bytes on while the link is whole. When one side is gone it closes
// the other.
func (p *proxy) copy(to, from net.Conn, at link) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		p.await(at)
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// await returns when the link is whole or the proxy closes.
func (p *proxy) await(at link) {
	for {
		healed := p.net.cut(at)
		if healed == nil {
			return
		}
		select {
		case <-healed:
		case <-p.done:
			return
		}
	}
}

func (p *proxy) keep(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.conns[c] = true
	return true
}

func (p *proxy) forget(c net.Conn) {
	p.mu.Lock()
	delete(p.conns, c)
	p.mu.Unlock()
	c.Close()
}

func (p *proxy) close() error {
	err := p.listener.Close()
	p.mu.Lock()
	p.closed = true
	close(p.done)
	for c := range p.conns {
		c.Close()
	}
	p.mu.Unlock()
	p.wg.Wait()
	return err
}

// dialer is the host whose process has a socket bound to the port, "" if none
// has.
func (l *loopback) dialer(port int) string {
	inode := inodeOf(port)
	if inode == "" {
		return ""
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for pid, host := range l.pids {
		files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid)) // none when it is gone
		for _, f := range files {
			if to, _ := os.Readlink(f); to == "socket:["+inode+"]" {
				return host
			}
		}
	}
	return ""
}

// inodeOf finds the socket of 127.0.0.1:port in /proc/net/tcp: there addresses
// are hexadecimal, and the tenth field is the inode.
func inodeOf(port int) string {
	f, err := os.Open("/proc/net/tcp")
	if err != nil {
		return ""
	}
	defer f.Close()
	want := fmt.Sprintf("0100007F:%04X", port)
	for scan := bufio.NewScanner(f); scan.Scan(); {
		if fields := strings.Fields(scan.Text()); len(fields) > 9 && fields[1] == want {
			return fields[9]
		}
	}
	return ""
}
