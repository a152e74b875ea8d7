package grpcpeer

import (
	"context"
	"maps"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/topology"
)

// Config of a Client. Self, Region, Partitions and Addrs are needed.
type Config struct {
	Self topology.NodeID
	// Partitions must be the same on both sides of a link.
	Region     topology.Region
	Partitions uint32
	// RegionOf names the region that a node must be in, false for a node that
	// there should not be. Nil: every node is in Region.
	RegionOf func(topology.NodeID) (topology.Region, bool)
	// Addrs says where a node listens for peers, as host:port; false if there is
	// no such node. It is asked before each attempt to dial, and must not
	// block.
	Addrs func(topology.NodeID) (string, bool)
	// Handler serves sends to Self. Without it they end with ErrNotSent.
	Handler peer.Handler
	// Late is told of a peer whose reply came after its request was given up: it is
	// there, and slow. It must not block; nil is nobody.
	Late func(topology.NodeID)
	// Dial opens a connection; nil dials TCP.
	Dial func(ctx context.Context, addr string) (net.Conn, error)
	// Creds secure the connections; nil leaves them plain, which is for
	// loopback only.
	Creds credentials.TransportCredentials
	// Rand gives 0 <= x < 1, to spread attempts to dial; nil is math/rand.
	Rand func() float64
	// Logger is told when links come up and go down; nil is silent.
	Logger hclog.Logger
}

// Client is the peer.Transport of one node.
type Client struct {
	cfg  Config
	self *loopback // nil without a Handler

	// links is replaced as a whole, under mu; Send only reads it.
	links atomic.Pointer[map[topology.NodeID]*link]
	mu    sync.Mutex
	ctx   context.Context // of Run, nil before and after
	tasks sync.WaitGroup
	ready chan struct{}
}

// New returns a client without links. Sends before Run end with ErrNotSent.
func New(cfg Config) *Client {
	if cfg.Dial == nil {
		cfg.Dial = func(ctx context.Context, addr string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", addr)
		}
	}
	if cfg.Creds == nil {
		cfg.Creds = insecure.NewCredentials()
	}
	if cfg.Late == nil {
		cfg.Late = func(topology.NodeID) {}
	}
	if cfg.Rand == nil {
		cfg.Rand = rand.Float64
	}
	if cfg.Logger == nil {
		cfg.Logger = hclog.NewNullLogger()
	}
	c := &Client{cfg: cfg, ready: make(chan struct{})}
	if cfg.Handler != nil {
		c.self = newLoopback(cfg.Self, cfg.Handler)
	}
	c.links.Store(&map[topology.NodeID]*link{})
	return c
}

// Run keeps the links until ctx ends. When it returns, which is always with
// nil, every send has been told its outcome. It may be called once.
func (c *Client) Run(ctx context.Context) error {
	c.mu.Lock()
	c.ctx = ctx
	if c.self != nil {
		c.self.start()
		c.tasks.Go(func() { c.self.run(ctx) })
		c.tasks.Go(func() { c.self.sweep(ctx) })
	}
	c.mu.Unlock()
	close(c.ready)
	<-ctx.Done()
	c.mu.Lock()
	c.ctx = nil
	c.mu.Unlock()
	c.tasks.Wait()
	return nil
}

// Running is closed once Run takes sends.
func (c *Client) Running() <-chan struct{} { return c.ready }

// Send implements peer.Transport. The first send to a peer dials it; until
// that succeeds or fails, sends to it are queued. After a failure they end at
// once with ErrNotSent, while the client goes on dialling. A VerbPing is different: since
// it asks whether the peer is there, it does not take the last attempt's word
// for it, but makes for a fresh one and waits for it.
func (c *Client) Send(to topology.NodeID, req peer.Request, done peer.Done) {
	switch {
	case req.Timeout <= 0:
		refuse(done, errNoTime)
		return
	case len(req.Body) > peer.MaxMessage:
		refuse(done, errTooLarge)
		return
	case to == c.cfg.Self:
		if c.self == nil {
			refuse(done, errNoHandler)
			return
		}
		c.self.send(req, done)
		return
	}
	l := (*c.links.Load())[to]
	if l == nil {
		if l = c.open(to); l == nil {
			refuse(done, errNoNode)
			return
		}
	}
	l.send(req, done)
}

// open returns the link to a node, and makes it if the node is known.
func (c *Client) open(to topology.NodeID) *link {
	if _, known := c.cfg.Addrs(to); !known {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	links := *c.links.Load()
	if l := links[to]; l != nil {
		return l
	}
	if c.ctx == nil || c.ctx.Err() != nil {
		return nil
	}
	l := newLink(&c.cfg, to)
	links = maps.Clone(links)
	links[to] = l
	c.links.Store(&links)
	ctx := c.ctx
	c.tasks.Go(func() {
		l.run(ctx)
		c.drop(l)
	})
	return l
}

func (c *Client) drop(l *link) {
	c.mu.Lock()
	defer c.mu.Unlock()
	links := maps.Clone(*c.links.Load())
	if links[l.to] == l {
		delete(links, l.to)
	}
	c.links.Store(&links)
}

// Stats returns the counters of each link.
func (c *Client) Stats() map[topology.NodeID]Stats {
	all := map[topology.NodeID]Stats{}
	for id, l := range *c.links.Load() {
		all[id] = l.statsNow()
	}
	return all
}
