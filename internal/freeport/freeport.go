// Package freeport finds loopback ports for servers whose addresses others must
// know before they listen: the members of a region, the routes of a NATS cluster.
// A server that can listen on port 0 and be asked afterwards needs nothing of it.
//
// A port that was listened on and closed again is a poor promise. If the kernel
// chose it, it is one of those that it also gives to outgoing connections, so any
// of these may have it a moment later; and two processes that look at the same time
// find the same. Here a port
//
//	P1  is outside of the range from which the kernel takes ports by itself,
//	P2  had no listener on loopback when it was handed out, and
//	P3  is handed out once, on the whole machine, until it is released or the
//	    process that has it ends.
//
// For P3 whoever has a port for TCP holds the UDP port of the same number, which
// nothing here uses otherwise: the kernel gives it to one process only, and takes it
// back when that ends, however it does. There is no file that could be left behind.
//
// A process that knows nothing of this package may still listen on such a port.
package freeport

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/atolldb/atoll/internal/pause"
)

// Claim is some ports that nobody else is given. It costs a file descriptor a port.
type Claim struct {
	// Addrs are the addresses, as "127.0.0.1:12345", all different.
	Addrs []string

	once sync.Once
	held []net.PacketConn
}

// Take claims n ports.
func Take(n int) (*Claim, error) {
	kernel, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		kernel = nil // another system
	}
	from, to := span(string(kernel))
	return take(n, from, to)
}

// Release gives the ports back, once their servers have stopped. Without it they
// come back when the process ends.
func (c *Claim) Release() {
	c.once.Do(func() {
		for _, h := range c.held {
			h.Close() // nothing was sent
		}
	})
}

// TB is what For needs of a test.
type TB interface {
	Cleanup(f func())
	Fatalf(format string, args ...any)
}

// For claims n ports until a test has ended and what it starts from now on has
// stopped, and returns their addresses.
func For(t TB, n int) []string {
	c, err := Take(n)
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(c.Release)
	return c.Addrs
}

// take claims n of the ports in [from, to). It begins somewhere by chance: if all
// began at the same place, each would try all that others have, and a port that was
// given back would soon serve again, while clients of its last server still call it.
func take(n, from, to int) (*Claim, error) {
	c := &Claim{}
	first := rand.IntN(to - from)
	for i := 0; i < to-from && len(c.Addrs) < n; i++ {
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(from+(first+i)%(to-from)))
		if held := claim(addr); held != nil {
			c.Addrs, c.held = append(c.Addrs, addr), append(c.held, held)
		}
	}
	if len(c.Addrs) < n {
		c.Release()
		return nil, fmt.Errorf("claim %d ports from %d to %d: %d are free", n, from, to-1, len(c.Addrs))
	}
	return c, nil
}

// childPatience is how long at most a child has what its parent has closed; some
// microseconds on a machine with nothing else to do.
const childPatience = 5 * time.Second

// AwaitChildren waits until nobody listens on addresses where servers of this process
// did that have stopped: a child that was forked before has their listeners until it is
// another program, and who listens there again finds the address in use. It gives up,
// and leaves it to the server to say so, when ctx ends or after five seconds.
func AwaitChildren(ctx context.Context, addrs ...string) {
	ctx, cancel := context.WithTimeout(ctx, childPatience)
	defer cancel()
	for _, addr := range addrs {
		_ = pause.Until(ctx, time.Millisecond, func() error { return look(addr) }) // the server says so
	}
}

// look fails if somebody listens. No child is forked meanwhile: until it becomes another
// program it has what is open here, and a listener that only it still has keeps the one
// to whom the port is given from listening.
func look(addr string) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	return l.Close()
}

// claim returns nil if somebody has the port.
func claim(addr string) net.PacketConn {
	held, err := net.ListenPacket("udp", addr)
	if err != nil {
		return nil
	}
	if look(addr) != nil {
		held.Close()
		return nil
	}
	return held
}
