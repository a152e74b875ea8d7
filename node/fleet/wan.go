package fleet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/atolldb/atoll/node/topology"
)

// wan is the network between the places of a fleet: links that can be cut and
// are slow. A place is a region, or a node for links inside one.
//
// Cutting a link breaks its connections and refuses new ones, as a router does
// that answers; it is noticed at once.
type wan struct {
	mu    sync.Mutex
	owner map[string]end // by listening address
	cuts  map[[2]string]bool
	delay time.Duration // one way, between regions
	conns map[*slowConn]struct{}
	// crossed counts the bytes between regions, both ways.
	crossed atomic.Uint64
}

// end is whose an address is.
type end struct {
	node   topology.NodeID
	region topology.Region
}

var errCut = errors.New("link is cut")

func newWAN(delay time.Duration) *wan {
	return &wan{owner: map[string]end{}, cuts: map[[2]string]bool{}, delay: delay, conns: map[*slowConn]struct{}{}}
}

func (w *wan) own(addr string, e end) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.owner[addr] = e
}

// key names a link, whichever way.
func key(a, b string) [2]string {
	if a > b {
		a, b = b, a
	}
	return [2]string{a, b}
}

// set cuts or heals the link between two places.
func (w *wan) set(a, b string, cut bool) {
	w.mu.Lock()
	var broken []*slowConn
	if cut {
		w.cuts[key(a, b)] = true
		for c := range w.conns {
			if w.isCut(c.from, c.to) {
				broken = append(broken, c)
			}
		}
	} else {
		delete(w.cuts, key(a, b))
	}
	w.mu.Unlock()
	for _, c := range broken {
		_ = c.Close() // it is broken on purpose
	}
}

// heal ends all cuts.
func (w *wan) heal() {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.cuts)
}

// isCut is called with the lock held.
func (w *wan) isCut(a, b end) bool {
	return w.cuts[key(string(a.region), string(b.region))] || w.cuts[key(string(a.node), string(b.node))]
}

// sever breaks every connection of a node.
func (w *wan) sever(node topology.NodeID) {
	w.mu.Lock()
	var broken []*slowConn
	for c := range w.conns {
		if c.from.node == node || c.to.node == node {
			broken = append(broken, c)
		}
	}
	w.mu.Unlock()
	for _, c := range broken {
		_ = c.Close() // it is broken on purpose
	}
}

// dialer returns the Dial of one node.
func (w *wan) dialer(from end) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		w.mu.Lock()
		to, known := w.owner[addr]
		cut := known && w.isCut(from, to)
		delay := time.Duration(0)
		if known && to.region != from.region {
			delay = w.delay
		}
		w.mu.Unlock()
		if cut {
			return nil, fmt.Errorf("dial %s: %w", addr, errCut)
		}
		var d net.Dialer
		conn, err := d.DialContext(ctx, network, addr)
		if err != nil {
			return nil, fmt.Errorf("dial %s: %w", addr, err)
		}
		if known && to.region != from.region {
			conn = &countedConn{conn, &w.crossed}
		}
		c := newSlowConn(conn, from, to, delay)
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.isCut(from, to) {
			_ = c.Close() // it was cut meanwhile
			return nil, fmt.Errorf("dial %s: %w", addr, errCut)
		}
		w.conns[c] = struct{}{}
		c.gone = func() {
			w.mu.Lock()
			delete(w.conns, c)
			w.mu.Unlock()
		}
		return c, nil
	}
}

// countedConn counts the bytes that it carries.
type countedConn struct {
	net.Conn
	crossed *atomic.Uint64
}

func (c *countedConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.crossed.Add(uint64(max(n, 0)))
	return n, err
}

func (c *countedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.crossed.Add(uint64(max(n, 0)))
	return n, err
}

// slowConn is a connection with a delay each way.
type slowConn struct {
	net.Conn
	from, to end
	out, in  *pipe // nil without a delay
	close    sync.Once
	gone     func()
}

func newSlowConn(conn net.Conn, from, to end, delay time.Duration) *slowConn {
	c := &slowConn{Conn: conn, from: from, to: to, gone: func() {}}
	if delay > 0 {
		c.out, c.in = newPipe(delay), newPipe(delay)
		go c.out.drain(conn)
		go c.in.fill(conn)
	}
	return c
}

func (c *slowConn) Write(b []byte) (int, error) {
	if c.out == nil {
		return c.Conn.Write(b)
	}
	return c.out.put(b)
}

func (c *slowConn) Read(b []byte) (int, error) {
	if c.in == nil {
		return c.Conn.Read(b)
	}
	return c.in.get(b)
}

func (c *slowConn) Close() error {
	err := c.Conn.Close()
	c.close.Do(func() {
		if c.out != nil {
			c.out.fail(net.ErrClosed)
			c.in.fail(net.ErrClosed)
		}
		c.gone()
	})
	return err
}

// SetReadDeadline and SetDeadline act on the delayed side, too.
func (c *slowConn) SetReadDeadline(t time.Time) error {
	if c.in != nil {
		c.in.deadline(t)
		return nil
	}
	return c.Conn.SetReadDeadline(t)
}

func (c *slowConn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}
