package process

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/atolldb/atoll/geo/natsd"
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

// natsDialer dials NATS servers. It has the form that their client asks for.
type natsDialer struct {
	ctx  context.Context // ends all attempts
	hook func(ctx context.Context, network, addr string) (net.Conn, error)
	// own are the addresses that stand for the own server, whose real one is
	// known once it is up.
	own    map[string]bool
	server *natsd.Server
}

// Dial implements nats.CustomDialer.
func (d natsDialer) Dial(network, addr string) (net.Conn, error) {
	if d.own[addr] {
		return d.dialOwn(network)
	}
	ctx, cancel := context.WithTimeout(d.ctx, natsDialTimeout)
	defer cancel()
	return d.hook(ctx, network, addr)
}

func (d natsDialer) dialOwn(network string) (net.Conn, error) {
	select {
	case <-d.server.Ready():
	case <-d.ctx.Done():
		return nil, d.ctx.Err()
	}
	u, err := url.Parse(d.server.ClientURL())
	if err != nil {
		return nil, err
	}
	return new(net.Dialer).DialContext(d.ctx, network, u.Host)
}
