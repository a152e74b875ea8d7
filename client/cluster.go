package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	adminv1 "github.com/atolldb/atoll/proto/atoll/admin/v1"
)

const (
	refreshEvery = 10 * time.Second
	refreshSoon  = 500 * time.Millisecond // at most that often when links break
	refreshTries = time.Second            // for one node's answer
	sweepEvery   = 20 * time.Millisecond

	maxReceive = 272 << 20 // what a node may send: 256 siblings of 1 MiB
	maxSend    = 9 << 20   // what a node accepts
)

// cluster owns the connections and everything that runs.
type cluster struct {
	ctx    context.Context // the life of the goroutines
	cancel context.CancelFunc
	wg     sync.WaitGroup
	view   atomic.Pointer[view]
	kick   chan struct{} // capacity 1: refresh the topology soon

	follow *follower

	calls  callPool
	active atomic.Int64  // calls in links, about
	stir   chan struct{} // capacity 1: there are calls again

	mu      sync.Mutex
	connect func(addr string) (*grpc.ClientConn, error)
	seeds   []*node
	nodes   map[string]*node // by address
	retired []*node          // gone from the topology, closed at the next refresh
	closed  bool
}

func newCluster() *cluster {
	c := &cluster{
		kick: make(chan struct{}, 1), stir: make(chan struct{}, 1), nodes: make(map[string]*node),
		follow: newFollower(&config{}),
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c
}

func connector(cfg *config) func(string) (*grpc.ClientConn, error) {
	creds := insecure.NewCredentials()
	if cfg.tls != nil {
		creds = credentials.NewTLS(cfg.tls)
	}
	opts := append([]grpc.DialOption{
		grpc.WithTransportCredentials(creds),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxReceive), grpc.MaxCallSendMsgSize(maxSend)),
		// Retries are this package's business; two layers multiply.
		grpc.WithDisableRetry(),
		grpc.WithDisableServiceConfig(),
		grpc.WithUserAgent("atoll-go"),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{
				BaseDelay: linkBackoff, Multiplier: 2, Jitter: 0.2, MaxDelay: linkBackoffMax,
			},
			MinConnectTimeout: linkConnect,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 3 * time.Second}),
	}, cfg.dial...)
	return func(addr string) (*grpc.ClientConn, error) { return grpc.NewClient(addr, opts...) }
}

// nodeAt returns the node at addr, new if need be. Called with mu held.
func (c *cluster) nodeAt(addr string) (*node, error) {
	if n := c.nodes[addr]; n != nil {
		return n, nil
	}
	cc, err := c.connect(addr)
	if err != nil {
		return nil, fmt.Errorf("address %q: %w", addr, err)
	}
	return c.addNode(addr, cc, cc.Close), nil
}

// addNode is called with mu held.
func (c *cluster) addNode(addr string, cc grpc.ClientConnInterface, end func() error) *node {
	n := &node{addr: addr, cc: cc, close: end}
	n.link = newLink(cc, func(up bool) {
		if v := c.view.Load(); !up && (v == nil || slices.Contains(v.nodes, n)) {
			c.refreshSoon()
		}
	})
	n.link.heardMap = c.heardMap
	c.nodes[addr] = n
	return n
}

func (c *cluster) refreshSoon() {
	select {
	case c.kick <- struct{}{}:
	default:
	}
}

// addSeeds parses host:port,host:port.
func (c *cluster) addSeeds(target string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for addr := range strings.SplitSeq(target, ",") {
		addr = strings.TrimSpace(addr)
		if addr == "" {
			continue
		}
		// gRPC would take a default port; a URL of its own (dns:///...) is its to judge.
		if _, port, err := net.SplitHostPort(addr); (err != nil || port == "") && !strings.Contains(addr, ":///") {
			return fmt.Errorf("%q is not host:port", addr)
		}
		n, err := c.nodeAt(addr)
		if err != nil {
			return err
		}
		c.seeds = append(c.seeds, n)
	}
	if len(c.seeds) == 0 {
		return errors.New("no address")
	}
	return nil
}

// submit starts n's link if need be and queues a call there.
func (c *cluster) submit(n *node, k *call, patient bool) *Error {
	if !n.started.Load() {
		c.startLink(n)
	}
	n.inFlight.Add(1)
	if c.active.Add(1) == 1 {
		select {
		case c.stir <- struct{}{}:
		default:
		}
	}
	err := n.link.submit(k, patient)
	if err != nil {
		c.ended(n)
	}
	return err
}

// ended is called once for each call that submit accepted.
func (c *cluster) ended(n *node) {
	n.inFlight.Add(-1)
	c.active.Add(-1)
}

func (c *cluster) startLink(n *node) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n.started.Swap(true) || c.closed {
		return
	}
	var ctx context.Context
	ctx, n.cancel = context.WithCancel(c.ctx)
	c.wg.Go(func() { n.link.run(ctx) })
}

// sweepAll finishes overdue calls of all links while there are calls.
func (c *cluster) sweepAll() {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		left := 0
		select {
		case now := <-tick.C:
			c.mu.Lock()
			nodes := make([]*node, 0, len(c.nodes)+1)
			for _, n := range c.nodes {
				nodes = append(nodes, n)
			}
			c.mu.Unlock()
			for _, n := range nodes {
				left += n.link.sweep(now)
			}
		case <-c.ctx.Done():
			return
		}
		if left > 0 || c.active.Load() > 0 {
			continue
		}
		// Idle: no ticks until there is a call again.
		tick.Stop()
		select {
		case <-c.stir:
			tick.Reset(sweepEvery)
		case <-c.ctx.Done():
			return
		}
	}
}

// refresh asks nodes of the region in random order for the topology until one
// answers, and goes to another region if the map of regions says so.
func (c *cluster) refresh(ctx context.Context) error {
	var err error
	if c.lost() {
		c.askElsewhere(ctx)
		if c.settle(ctx) == nil && !c.lost() {
			return nil
		}
	}
	if err = c.refreshHere(ctx); err != nil && c.view.Load() != nil {
		c.askElsewhere(ctx)
	}
	if c.view.Load() == nil {
		return err
	}
	if gone := c.settle(ctx); gone != nil && c.follow.pin {
		return gone
	}
	return err
}

// lost reports whether no node of the region is live.
func (c *cluster) lost() bool {
	v := c.view.Load()
	return v != nil && v.region != "" && !slices.ContainsFunc(v.nodes, func(n *node) bool { return n.link.live() })
}

// refreshHere learns the topology of the region, of any as long as there is none.
func (c *cluster) refreshHere(ctx context.Context) error {
	here := c.region()
	var nodes []*node
	c.mu.Lock()
	for _, n := range c.seeds {
		if here == "" || n.region == "" || n.region == here {
			nodes = append(nodes, n)
		}
	}
	c.mu.Unlock()
	if v := c.view.Load(); v != nil {
		for _, n := range v.nodes {
			if !slices.Contains(nodes, n) {
				nodes = append(nodes, n)
			}
		}
	}
	rand.Shuffle(len(nodes), func(i, j int) { nodes[i], nodes[j] = nodes[j], nodes[i] })
	last := errors.New("no node of the region is known")
	for _, n := range nodes {
		t, err := c.askNode(ctx, n)
		if status.Code(err) == codes.Unimplemented {
			// A node or a proxy that does not tell: any node answers any key.
			c.adoptSeeds()
			return nil
		}
		if err == nil {
			err = c.adopt(t)
		}
		if err == nil {
			return nil
		}
		last = err
	}
	return last
}

func (c *cluster) adoptSeeds() {
	if c.view.Load() == nil {
		c.view.Store(&view{nodes: c.seeds})
	}
}

// adopt routes by t from now on, unless it is older than what is in force. Of
// another region it is an error.
func (c *cluster) adopt(t *adminv1.GetTopologyResponse) error {
	if err := checkTopology(t); err != nil {
		return err
	}
	if here := c.region(); here != "" && here != t.Region {
		return fmt.Errorf("that is a node of region %s, not of %s", t.Region, here)
	}
	c.follow.belongs(t.Region)
	return c.enter(t)
}

// enter is adopt for a topology of any region.
func (c *cluster) enter(t *adminv1.GetTopologyResponse) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.view.Load()
	if c.closed || (old != nil && len(old.rows) > 0 && old.region == t.Region && t.Epoch < old.epoch) {
		return nil
	}
	v := &view{
		region: t.Region, epoch: t.Epoch, rows: rowsOf(t), nodes: make([]*node, len(t.Members)),
	}
	keep := make(map[*node]bool, len(t.Members)+len(c.seeds))
	for i, m := range t.Members {
		n, err := c.nodeAt(m.ClientAddr)
		if err != nil {
			return err
		}
		v.nodes[i] = n
		keep[n] = true
	}
	for _, n := range c.seeds {
		keep[n] = true
	}
	c.view.Store(v)
	// A node that is gone may still be answering, now and at the next refresh.
	for _, n := range c.retired {
		if !keep[n] && n.inFlight.Load() == 0 {
			c.drop(n)
		}
	}
	c.retired = c.retired[:0]
	for _, n := range c.nodes {
		if !keep[n] {
			c.retired = append(c.retired, n)
		}
	}
	return nil
}

var errDropped = errors.New("the node has left the topology")

// drop ends a node. Called with mu held.
func (c *cluster) drop(n *node) {
	delete(c.nodes, n.addr)
	if n.started.Swap(true) {
		n.cancel()
	} else {
		n.link.fail(errDropped)
	}
	n.close() // nothing can be done about it
}

// refreshAll keeps the view fresh.
func (c *cluster) refreshAll() {
	for {
		timer := time.NewTimer(c.follow.rest(c.region(), time.Now()))
		select {
		case <-timer.C:
		case <-c.kick:
			soon := refreshSoon
			if c.follow.urgent.Swap(false) {
				soon = mapBeat / 2
			}
			timer.Reset(rand.N(soon)) // not all clients at once
			select {
			case <-timer.C:
			case <-c.ctx.Done():
			}
		case <-c.ctx.Done():
		}
		timer.Stop()
		if c.ctx.Err() != nil {
			return
		}
		// What fails is tried again; meanwhile the old view serves.
		c.refresh(c.ctx) // see above
	}
}

// goLive runs f until close, which waits for it; false when it is too late.
func (c *cluster) goLive(f func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.wg.Go(f)
	return true
}

func (c *cluster) close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.cancel()
	c.wg.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range c.nodes {
		n.close() // nothing can be done about it
	}
}
