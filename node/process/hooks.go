package process

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
)

// Hooks are what a node takes from whoever runs it. All may be nil.
type Hooks struct {
	// Logger gets all log lines; nil is silent.
	Logger hclog.Logger
	// Dial opens every connection to other nodes, and to NATS servers other
	// than the own one (P2); nil dials.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Listen opens the client, peer and admin listeners; nil listens. (The
	// NATS server opens its own.)
	Listen func(network, addr string) (net.Listener, error)
}

func (h Hooks) complete() Hooks {
	if h.Logger == nil {
		h.Logger = hclog.NewNullLogger()
	}
	if h.Dial == nil {
		h.Dial = new(net.Dialer).DialContext
	}
	if h.Listen == nil {
		h.Listen = net.Listen
	}
	return h
}

// listen opens a listener, or says which one could not be opened and why.
func (h Hooks) listen(field, purpose, addr string) (net.Listener, error) {
	l, err := h.Listen("tcp", addr)
	if err == nil {
		return l, nil
	}
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("listen for %s on %s (listen.%s): the port is in use by another process", purpose, addr, field)
	}
	return nil, fmt.Errorf("listen for %s on %s (listen.%s): %w", purpose, addr, field, err)
}

// Addrs are where a node listens in fact.
type Addrs struct {
	Client, Peer, Admin string
	// NATS is the URL of this member's own server, "" if it runs none or it is
	// not up yet.
	NATS string
}

type addrs struct {
	mu sync.Mutex
	Addrs
}

func (a *addrs) set(change func(*Addrs)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	change(&a.Addrs)
}

func (a *addrs) get() Addrs {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.Addrs
}

const natsDialTimeout = 5 * time.Second

// errOwnDown says that the own NATS server is not up yet.
var errOwnDown = errors.New("the own nats server is not up yet")

// natsDialer dials NATS servers. It has the form that their client asks for.
type natsDialer struct {
	ctx  context.Context // of the stack
	hook func(ctx context.Context, network, addr string) (net.Conn, error)
	// own are the addresses that stand for the own server, whose real one is
	// known once it is up.
	own  map[string]bool
	real func() (addr string, up bool)
}

// Dial implements nats.CustomDialer.
func (d natsDialer) Dial(network, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(d.ctx, natsDialTimeout)
	defer cancel()
	if !d.own[addr] {
		return d.hook(ctx, network, addr)
	}
	addr, up := d.real()
	if !up {
		return nil, errOwnDown
	}
	return new(net.Dialer).DialContext(ctx, network, addr)
}
