package process

import (
	"cmp"
	"context"
	"net"
	"net/url"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/geo"
	"github.com/atolldb/atoll/geo/jetstream"
	"github.com/atolldb/atoll/geo/natsd"
	"github.com/atolldb/atoll/geo/regionmap"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/topology/jskv"
)

// natsParts are what the node gets from NATS.
type natsParts struct {
	registry topology.Registry
	store    pendingStore
	regions  pendingRegions
	// log and feeds are nil where there is one region only.
	log   geo.Log
	feeds map[topology.Region]geo.Feed
	// admit is node.Deps.Admit.
	admit func(regionmap.Region) (*topology.Topology, geo.Feed, error)
}

// ownURL stands for the own server where it is the region's only one: its port
// may be known only once it is up. The dialer replaces it.
const ownURL = "nats://127.0.0.1:1"

// startNATS starts the own server, if this member has one, and what speaks to
// the region's. It does not wait for either (P1).
func (p *Process) startNATS(s *stack) natsParts {
	server := p.ownServer()
	if server != nil {
		p.server = server
		s.run("nats server (nats.listen "+p.cfg.NATS.Listen+")", server.Run)
		s.watch(func(ctx context.Context) {
			select {
			case <-server.Ready():
				p.addrs.set(func(a *Addrs) { a.NATS = server.ClientURL() })
			case <-ctx.Done():
			}
		})
	}
	nats := &pending{made: make(chan struct{})}
	s.run("nats client", func(ctx context.Context) error { return p.speakNATS(ctx, nats, server) })
	p.metadata = newMetadataWatch(pendingStore{pending: nats}.servers)
	s.watch(p.metadata.Run)
	parts := natsParts{registry: pendingRegistry{nats, p.topology}, store: pendingStore{nats, p.mends}, regions: pendingRegions{nats}}
	if p.cfg.abroad() {
		parts.log = pendingLog{nats}
		dialer := natsDialer{ctx: s.stopping, hook: p.hooks.Dial}
		parts.feeds = p.feeds(dialer)
		parts.admit = func(r regionmap.Region) (*topology.Topology, geo.Feed, error) { return p.admit(r, dialer) }
	}
	return parts
}

// speakNATS holds the connection to the region's servers until ctx ends.
func (p *Process) speakNATS(ctx context.Context, to *pending, server *natsd.Server) error {
	dialer := natsDialer{ctx: ctx, hook: p.hooks.Dial}
	urls := p.cfg.own().NATS
	if server != nil {
		dialer.server = server
		dialer.own = map[string]bool{p.cfg.NATS.Listen: true}
		if p.cfg.runsAlone() {
			urls = []string{ownURL}
			dialer.own[hostOf(ownURL)] = true
		}
	}
	nc, err := jetstream.Dial("atoll "+string(p.cfg.Node), urls, p.cfg.own().access(), dialer, p.log.Named("nats"))
	if err != nil {
		return err
	}
	defer nc.Close()
	cfg := jskv.Config{Region: p.cfg.Region, RegionID: p.world.own.RegionID, Replicas: p.natsReplicas()}
	registry, err := jskv.New(cfg, nc)
	if err != nil {
		return err
	}
	store, err := jskv.NewStore(cfg, nc)
	if err != nil {
		return err
	}
	if err := p.takeCarried(func(data []byte) error { return jskv.Import(ctx, cfg, nc, data) }); err != nil {
		return err
	}
	to.registry, to.store, to.regions, to.raise, to.facts, to.keepers = registry, store, store, registry.Raise, store.Agree, store.Servers
	if !p.cfg.abroad() {
		close(to.made)
		<-ctx.Done()
		return nil
	}
	log, err := jetstream.NewLog(jetstream.LogConfig{
		Region: string(p.cfg.Region), Node: string(p.cfg.Node), Replicas: p.natsReplicas(),
		MaxBytes: p.cfg.logBytes(), MaxAge: time.Duration(p.cfg.Geo.MaxAge),
	}, nc, p.log.Named("geo-log"))
	if err != nil {
		return err
	}
	to.log = log
	close(to.made)
	return log.Run(ctx)
}

// mends reports whether storing t gives back what the store has lost: this node
// goes by it already, or by a newer one. It also returns the highest actor that
// the node has heard of.
func (p *Process) mends(t *topology.Topology) (bool, crdt.Actor) {
	n := p.node.Load()
	if n == nil || t.Epoch > n.Topology().Epoch {
		return false, 0
	}
	r := n.Replica()
	heard := r.Actor()
	for _, part := range r.Held() {
		for _, a := range r.Clock(part).Actors() {
			if a.Region() == uint8(t.RegionID) {
				heard = max(heard, a)
			}
		}
	}
	return true, heard
}

func hostOf(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return ""
	}
	return u.Host
}

// natsReplicas is how often the region's servers keep what they keep. All
// members come to the same number.
func (p *Process) natsReplicas() int {
	if len(p.cfg.own().NATS) >= 3 {
		return 3
	}
	return 1
}

// runsMetadata is node.Deps.Metadata.
func (p *Process) runsMetadata() func() (runs, behind bool, servers int) {
	if p.server == nil {
		return nil
	}
	return func() (runs, behind bool, servers int) {
		whole, servers := p.server.Whole(), p.server.Servers()
		return whole, !whole && servers > 0, servers
	}
}

func (p *Process) ownServer() *natsd.Server {
	n := p.cfg.NATS
	if n.Mode != NATSEmbedded || n.Listen == "" {
		return nil
	}
	cfg := natsd.Config{
		Name: cmp.Or(n.Name, string(p.cfg.Node)), Region: string(p.cfg.Region),
		DataDir: p.cfg.natsDir(), Listen: n.Listen, MaxStore: int64(n.MaxStore),
	}
	if n.Cluster != nil {
		cfg.Cluster = &natsd.Cluster{Listen: n.Cluster.Listen, Routes: n.Cluster.Routes}
	}
	return natsd.New(cfg, p.log.Named("natsd"))
}

// feeds are the other regions' logs.
func (p *Process) feeds(dialer natsDialer) map[topology.Region]geo.Feed {
	feeds := map[topology.Region]geo.Feed{}
	for _, r := range p.cfg.Regions {
		if r.Name == p.cfg.Region {
			continue
		}
		feeds[r.Name] = p.feed(string(r.Name), r.NATS, r.access(), dialer)
	}
	return feeds
}

func (p *Process) feed(origin string, urls []string, access jetstream.Access, dialer natsDialer) geo.Feed {
	return jetstream.NewFeed(jetstream.FeedConfig{
		Origin: origin, Region: string(p.cfg.Region), Node: string(p.cfg.Node),
		URLs: urls, Access: access, Dialer: dialer, Positions: positions{p.learnedDir()},
	}, p.log.Named("feed"))
}

// dialPeer opens a connection for a link.
func (p *Process) dialPeer(ctx context.Context, addr string) (net.Conn, error) {
	return p.hooks.Dial(ctx, "tcp", addr)
}
