package jetstream

import (
	"errors"
	"net"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// Gate is a dialer whose connections can be cut, for tests and drills.
type Gate struct {
	mu    sync.Mutex
	shut  bool
	conns map[*gated]struct{}
}

var _ nats.CustomDialer = (*Gate)(nil)

var errShut = errors.New("gate is shut")

// Shut breaks all connections and refuses new ones, or opens the gate.
func (g *Gate) Shut(shut bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = shut
	if shut {
		for c := range g.conns {
			_ = c.Conn.Close()
		}
		clear(g.conns)
	}
}

// Dial connects unless the gate is shut.
func (g *Gate) Dial(network, address string) (net.Conn, error) {
	if g.isShut() {
		return nil, errShut
	}
	c, err := net.DialTimeout(network, address, 5*time.Second)
	if err != nil {
		return nil, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut {
		_ = c.Close()
		return nil, errShut
	}
	if g.conns == nil {
		g.conns = make(map[*gated]struct{})
	}
	passed := &gated{Conn: c, gate: g}
	g.conns[passed] = struct{}{}
	return passed, nil
}

func (g *Gate) isShut() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.shut
}

type gated struct {
	net.Conn
	gate *Gate
}

func (c *gated) Close() error {
	c.gate.mu.Lock()
	delete(c.gate.conns, c)
	c.gate.mu.Unlock()
	return c.Conn.Close()
}
