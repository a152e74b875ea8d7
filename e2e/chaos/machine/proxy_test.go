//go:build linux

package machine

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// pair is a connection through host b's proxy, dialled by this process, which
// stands for host a.
func pair(t *testing.T) (l *loopback, client, server net.Conn) {
	t.Helper()
	n, err := (&Run{}).NewLoopback()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	l = n.(*loopback)
	for _, h := range []string{"a", "b"} {
		if err := l.Add(h); err != nil {
			t.Fatal(err)
		}
	}
	l.mu.Lock()
	l.pids[os.Getpid()] = "a"
	l.mu.Unlock()
	service, err := net.Listen("tcp", l.Listen("b", "peer"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { service.Close() })
	if client, err = net.Dial("tcp", l.Reach("b", "peer")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	if server, err = service.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	return l, client, server
}

// passes says whether a byte gets from one end to the other.
func passes(t *testing.T, from, to net.Conn, within time.Duration) bool {
	t.Helper()
	if _, err := from.Write([]byte{7}); err != nil {
		t.Fatal(err)
	}
	if err := to.SetReadDeadline(time.Now().Add(within)); err != nil {
		t.Fatal(err)
	}
	_, err := io.ReadFull(to, make([]byte, 1))
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	return err == nil
}

func TestProxyCutsOneDirectionAndHeals(t *testing.T) {
	const long, short = 10 * time.Second, 50 * time.Millisecond
	l, a, b := pair(t)
	if !passes(t, a, b, long) || !passes(t, b, a, long) {
		t.Fatal("nothing passes a whole link")
	}
	l.Cut("a", "b")
	if passes(t, a, b, short) {
		t.Error("a byte passed the cut")
	}
	if !passes(t, b, a, long) {
		t.Error("the other way is cut, too")
	}
	l.Cut("b", "a")
	if passes(t, b, a, short) {
		t.Error("a byte passed the other cut")
	}
	l.Heal()
	for _, c := range []net.Conn{a, b} { // what was held back
		c.SetReadDeadline(time.Now().Add(long))
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Errorf("what was held back did not come: %v", err)
		}
	}
	if !passes(t, a, b, long) || !passes(t, b, a, long) {
		t.Error("not healed")
	}
}

func TestProxyPassesTheEndOn(t *testing.T) {
	_, a, b := pair(t)
	a.Close()
	if _, err := b.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("got %v, want EOF", err)
	}
}
