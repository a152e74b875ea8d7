package process

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/geo/natsd"
	"github.com/atolldb/atoll/node"
	"github.com/atolldb/atoll/node/admin"
	"github.com/atolldb/atoll/node/api"
	"github.com/atolldb/atoll/node/keyring"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/peer/grpcpeer"
	"github.com/atolldb/atoll/node/storage"
	"github.com/atolldb/atoll/node/storage/badgerstore"
	"github.com/atolldb/atoll/node/topology"
)

// Process is one node.
type Process struct {
	cfg   Config
	hooks Hooks
	log   hclog.Logger
	world *world

	ran   atomic.Bool
	ready chan struct{}
	addrs addrs
	// requests measures those of clients.
	requests *admin.Requests
	node     atomic.Pointer[node.Node]
	// kv is nil until clients are served.
	kv atomic.Pointer[api.KVService]
	// first is the topology that the node began with.
	first atomic.Pointer[topology.Topology]
	// isNew: there is no topology yet, not on this disk either. waits is what
	// the start waits for.
	isNew atomic.Bool
	// secrets are the marks of those in force.
	secrets atomic.Pointer[[]string]
	waits   atomic.Pointer[string]
	// These are set by Run, before node is.
	store  *badgerstore.Store
	server *natsd.Server // nil where this member runs none
	links  *grpcpeer.Client
	peers  *grpcpeer.Server
	// metadata knows how many of the servers of all members are up.
	metadata *metadataWatch
}

// New checks a configuration. Nothing is opened before Run.
func New(cfg Config, hooks Hooks) (*Process, error) {
	cfg.complete()
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	w, err := newWorld(&cfg)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	hooks = hooks.complete()
	p := &Process{
		cfg: cfg, hooks: hooks, world: w,
		log:   hooks.Logger.With("node", string(cfg.Node), "region", string(cfg.Region)),
		ready: make(chan struct{}), requests: admin.NewRequests(),
	}
	w.current = p.topology
	return p, nil
}

// topology is the own region's in force, nil before there is one.
func (p *Process) topology() *topology.Topology {
	if n := p.node.Load(); n != nil {
		return n.Topology()
	}
	return p.first.Load()
}

// Ready is closed when clients are served and the node may mint. Before that
// it may already serve reads. It stays open when Run fails.
func (p *Process) Ready() <-chan struct{} { return p.ready }

// Node is nil before Run has opened the store.
func (p *Process) Node() *node.Node { return p.node.Load() }

// Addrs are where the node listens, as far as it does already; all of them
// once it is ready.
func (p *Process) Addrs() Addrs { return p.addrs.get() }

// Config is the effective configuration.
func (p *Process) Config() Config { return p.cfg }

// Run works until ctx ends, or until something fails that the node cannot live
// without, and returns when everything has stopped. It may be called once.
func (p *Process) Run(ctx context.Context) error {
	if p.ran.Swap(true) {
		return errors.New("a process runs once")
	}
	if err := p.cfg.checkAccess(); err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	ring, err := loadSecrets(&p.cfg)
	if err != nil {
		return err
	}
	s := newStack(p.log)
	switch err := p.start(ctx, s, ring); {
	case ctx.Err() != nil:
		p.log.Info("stopping")
		return s.stop()
	case err != nil:
		return errors.Join(err, s.stop())
	}
	var failure error
	select {
	case <-ctx.Done():
		p.log.Info("stopping")
	case failure = <-s.failed:
		p.log.Error("stopping because of a failure", "error", failure)
	}
	return errors.Join(failure, s.stop())
}

// start starts everything, in the order of the package comment.
func (p *Process) start(ctx context.Context, s *stack, ring keyring.Ring) error {
	l, err := p.openListeners(s)
	if err != nil {
		return err
	}
	p.serveAdmin(s, l.admin)
	if err := p.openStore(s, ring); err != nil {
		return err
	}
	kept, err := p.recall()
	if err != nil {
		return err
	}
	if err := p.recallOthers(); err != nil {
		return err
	}
	nats := p.startNATS(s)
	p.startLinks(s)
	p.servePeers(s, l.peer)
	first, err := p.firstTopology(ctx, s, nats.store, ring)
	if err != nil {
		return err
	}
	p.first.Store(first)
	made, err := p.makeNode(nats, first, ring)
	if err != nil {
		return err
	}
	p.node.Store(made)
	s.run("node", made.Run)
	s.watch(func(ctx context.Context) { p.keepLearned(ctx, kept) })
	s.run("membership", func(ctx context.Context) error { return p.stayEnrolled(ctx, nats.store) })
	s.guard(p.store.Failed(), p.store.Err)
	p.serveClients(s, l.client)
	s.watch(p.watchReady)
	s.watch(func(ctx context.Context) { p.watchSecrets(ctx, ring) })
	return nil
}

func (p *Process) openStore(s *stack, ring keyring.Ring) error {
	began := time.Now()
	store, err := p.openOrSetAside(badgerstore.Config{
		Dir: p.storeDir(), MemTableSize: int64(p.cfg.Memory.Memtable), BlockCache: int64(p.cfg.Memory.BlockCache),
		Logger: p.log.Named("store"),
	})
	if err != nil {
		return err
	}
	s.onStop("store", store.Close)
	p.store = store
	if err := checkSeed(store, ring); err != nil {
		return fmt.Errorf("open %s: %w", p.cfg.DataDir, err)
	}
	p.log.Info("store is open", "dir", p.storeDir(), "took", time.Since(began).Round(time.Millisecond).String())
	p.keepBallast()
	return nil
}

// keepBallast makes the ballast file, which is to bring nobody near to the watermark.
func (p *Process) keepBallast() {
	u, err := p.store.Usage()
	if err == nil {
		err = badgerstore.EnsureBallast(p.cfg.DataDir, int64(p.cfg.Ballast), 2*watermark(p.cfg.Memory).Needs(u))
	}
	if err != nil {
		p.log.Warn("there is no ballast file: should the disk become full to the last byte, there is nothing to be given up", "dir", p.cfg.DataDir, "error", err)
	}
}

// startLinks starts what asks other nodes.
func (p *Process) startLinks(s *stack) {
	p.links = grpcpeer.New(grpcpeer.Config{
		Self: p.cfg.Node, Region: p.cfg.Region, RegionOf: p.world.regionOf,
		Partitions: uint32(p.cfg.Partitions),
		Addrs:      p.world.addrOf,
		Handler:    p.handle,
		Late: func(id topology.NodeID) {
			if n := p.node.Load(); n != nil {
				n.HeardLate(id)
			}
		},
		Dial:   p.dialPeer,
		Logger: p.log.Named("links"),
	})
	s.run("links", p.links.Run)
	<-p.links.Running()
}

// handle serves peers as soon as there is a node.
func (p *Process) handle(from topology.NodeID, req peer.Request, reply peer.Done) {
	if n := p.node.Load(); n != nil {
		n.Handle(from, req, reply)
		return
	}
	p.answerNew(req, reply)
}

func (p *Process) makeNode(n natsParts, first *topology.Topology, ring keyring.Ring) (*node.Node, error) {
	cfg := node.Config{
		ID: p.cfg.Node, Topology: first,
		Keys: ring.Keys, DigestSeed: ring.Seed, Buckets: p.cfg.floor(), TwoAcks: !p.cfg.LoneWrites, Version: p.cfg.Version,
		ScrubPass: time.Duration(p.cfg.Repair.ScrubPass), RepairBytes: uint64(p.cfg.Repair.BytesPerSecond), IndexBytes: uint64(p.cfg.Repair.IndexBytes), PruneBeat: time.Duration(p.cfg.Repair.IndexEvery), ClaimBytes: uint64(p.cfg.Repair.LargeBytesPerSecond),
		Hints: p.cfg.hintConfig(), Collect: p.cfg.collectConfig(),
		Committer: storage.CommitterConfig{
			Watermark: watermark(p.cfg.Memory),
			Logger:    p.log.Named("committer"),
		},
	}
	made, err := node.New(cfg, node.Deps{
		Engine: p.store, Registry: n.registry, Store: n.store, Transport: p.links,
		Others:      p.world.others,
		RegionStore: n.regions, RecallRegions: p.recallRegions, KeepRegions: p.keepRegions,
		GeoLog: n.log, Feeds: n.feeds, Admit: n.admit, Reach: p.reach, Metadata: p.runsMetadata(),
		HLC:    hlc.New(time.Now),
		Rand:   rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())),
		Logger: p.log,
	})
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", p.cfg.DataDir, err)
	}
	return made, nil
}

// watermark is the default one, but for memtables of another size.
func watermark(m Memory) storage.Watermark {
	w := storage.DefaultWatermark
	w.MinFree = 4 * int64(m.Memtable)
	return w
}

const readyBeat = 50 * time.Millisecond

// watchReady closes ready once the node may mint.
func (p *Process) watchReady(ctx context.Context) {
	beat := time.NewTicker(readyBeat)
	defer beat.Stop()
	for {
		if p.node.Load().Ready() == nil {
			p.log.Info("ready", "client", p.Addrs().Client)
			close(p.ready)
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-beat.C:
		}
	}
}
