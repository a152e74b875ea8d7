// Package node puts a node together: replica, coordinator, anti-entropy,
// failure detector, geo pump and drains, over whatever engine, transport and
// log it is given. It decides nothing itself.
//
// A simulated node (nodetest) and a real one (process) differ in their Deps
// only.
//
// Run owns every long-lived goroutine; run.go is the table of them and the
// order in which they stop.
package node

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/geo"
	"github.com/atolldb/atoll/geo/regionmap"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/bucket"
	"github.com/atolldb/atoll/node/catalog"
	"github.com/atolldb/atoll/node/collect"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/handoff"
	"github.com/atolldb/atoll/node/hint"
	"github.com/atolldb/atoll/node/hotkey"
	"github.com/atolldb/atoll/node/liveness"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/regions"
	"github.com/atolldb/atoll/node/repair"
	"github.com/atolldb/atoll/node/replica"
	"github.com/atolldb/atoll/node/storage"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/wire"
	"github.com/atolldb/atoll/node/yield"
)

// Config of a node.
type Config struct {
	ID topology.NodeID
	// Topology of the own region to start with, unless the data directory has a
	// newer one.
	Topology *topology.Topology
	// Keys authenticate what clients hold; the same on all nodes of all regions,
	// but while they are replaced (SetKeys).
	Keys crdt.Keys
	// DigestSeed keys the digests; the same on all nodes of all regions, for ever.
	DigestSeed uint64
	// TwoAcks refuses writes that one owner alone acknowledges; see coord.Config.
	TwoAcks bool
	// Buckets that are there where the store does not say otherwise.
	Buckets bucket.Table
	// Committer bounds the group committer.
	Committer storage.CommitterConfig
	// Beat and RegionBeat of anti-entropy; see repair.Config.
	Beat, RegionBeat time.Duration
	// ScrubPass is how long a recount of everything takes; see repair.Config.
	ScrubPass time.Duration
	// RepairBytes that repair fetches in a second; see repair.Config.
	RepairBytes uint64
	// ClaimBytes a second at most are fetched of each other region's large records;
	// 0 does not bound them.
	ClaimBytes uint64
	// PruneBeat between looks at the dot index, and IndexBytes, its budget; see
	// repair.Config.
	PruneBeat  time.Duration
	IndexBytes uint64
	// LittleLate is up to how many overdue writes of another region are fetched at once;
	// see repair.Config.
	LittleLate uint64
	// Hints bounds those that are kept here; its Self is not read.
	Hints hint.Config
	// Grace for partitions that were given away; see handoff.Config.
	Grace time.Duration
	// Collect bounds the rounds of tombstone collection, which this node begins
	// only if Collect.Rounds says so. Self is filled in.
	Collect collect.Config
	// Version of the program, for status.
	Version string
}

// Deps are what a node works with.
type Deps struct {
	Engine   storage.Engine
	Registry topology.Registry
	// Store of the own region's topology; nil where membership never changes.
	Store topology.Store
	// Others has the topologies of the other regions; the node learns newer ones
	// of them. Nil where there is one region.
	Others *topology.Book
	// RegionStore keeps the own region's part in the map of all regions; nil where
	// the map never changes. RecallRegions and KeepRegions are the node's own copy.
	RegionStore   topology.RegionStore
	RecallRegions func() ([]byte, error)
	KeepRegions   func([]byte) error
	// Transport reaches the nodes of all regions.
	Transport peer.Transport
	// GeoLog is the own region's delivery log, and Feeds those of the others
	// by name. Both are nil where there is one region. All nodes have them; who
	// pulls is decided as members come and go.
	GeoLog geo.Log
	// Admit makes what is needed of a region that came in by the map of regions and
	// is not among Others and Feeds; it is called once for each number, and nil where
	// no region can come in. Reach tries to open a connection to host:port.
	Admit func(r regionmap.Region) (*topology.Topology, geo.Feed, error)
	Reach func(ctx context.Context, at string) error
	// Metadata says whether this process runs one of the servers that keep the region's
	// metadata, which has what the others have, or was started and does not yet, and how
	// many there are as far as that one knows, those that are away included; nil where it
	// never does.
	Metadata func() (runs, behind bool, servers int)
	Feeds    map[topology.Region]geo.Feed
	// HLC is on the physical source that this node believes.
	HLC *hlc.Clock
	// Rand is drawn from in New only: each goroutine gets a source of its own.
	Rand   *rand.Rand
	Logger hclog.Logger
}

// Node is one node of a region.
type Node struct {
	cfg  Config
	deps Deps
	log  hclog.Logger

	replica *replica.Replica
	coord   *coord.Coordinator
	buckets *catalog.Catalog
	alive   *liveness.Detector
	afar    *liveness.Detector // of the other regions' nodes
	repair  *repair.Repairer
	hints   *hint.Hints
	pump    *geo.Pump
	abroad  *abroad // nil where there is one region
	herald  *geo.Announcer
	world   *regions.Regions // nil where there is one region
	steer   *regions.Steer   // nil where there is one region, or no store
	lag     *geo.Lag         // nil without feeds
	fresh   *geo.Fresh       // nil without feeds
	keeper  *topology.Keeper // nil without a store
	copier  *handoff.Copier
	steward *handoff.Steward // nil without a store
	sweeper *handoff.Sweeper
	view    *handoff.View
	dead    *collect.Collector

	yield  *yield.Governor
	giving yield.Pacer // what others copy from here

	gossips *rand.Rand
	news    *news
	asking  asking
	// hot counts keys, once somebody does.
	hot atomic.Pointer[func(int) hotkey.Report]
	gap chan struct{}
	// clockAhead in nanoseconds; see Clock.
	clockAhead atomic.Int64
	started    time.Time // by New: peers may ask for the status before Run
}

// New opens the node's state. Nothing runs before Run, except that peers'
// questions can be answered.
func New(cfg Config, deps Deps) (*Node, error) {
	n := &Node{cfg: cfg, deps: deps, log: deps.Logger.Named("node").With("node", string(cfg.ID)), gap: make(chan struct{}, 1), started: time.Now()}
	n.gossips = n.rand()
	n.yield = yield.New()
	n.giving.Governor = n.yield
	var err error
	n.replica, err = replica.Open(replica.Config{
		Node: cfg.ID, Topology: cfg.Topology,
		DigestSeed: cfg.DigestSeed,
		Ship:       deps.GeoLog != nil,
		Home:       n.home,
		Committer:  cfg.Committer,
	}, deps.Engine, deps.Registry, deps.HLC, deps.Logger.Named("replica"))
	if err != nil {
		return nil, fmt.Errorf("open state: %w", err)
	}
	n.yield.Urgent = func() bool { return n.replica.BehindCount() > 0 }
	n.news = newNews(n)
	if deps.Store != nil {
		n.deps.Store = heardStore{deps.Store, n.news}
	}
	up := make(chan topology.NodeID, maxUp)
	n.alive = liveness.New(liveness.Config{
		Self: cfg.ID, Transport: deps.Transport, Nodes: n.peers,
		Rand: n.chance(), Logger: deps.Logger.Named("liveness"),
	})
	n.afar = n.watchAfar()
	n.alive.OnUp(func(id topology.NodeID) {
		select {
		case up <- id:
		default: // repair is behind; its next beat will do
		}
		n.hints.Up(id)
	})
	hints := cfg.Hints
	hints.Self = cfg.ID
	n.hints, err = hint.Open(hints, hint.Deps{
		Replica: n.replica, Engine: deps.Engine, Transport: deps.Transport, Learn: n.learn,
		Alive: n.alive.Alive, Observe: n.alive.Observe, Logger: deps.Logger.Named("hint"),
	})
	if err != nil {
		return nil, fmt.Errorf("open hints: %w", err)
	}
	if err := n.wireBuckets(); err != nil {
		return nil, err
	}
	n.replica.SetPlacement(n.buckets, n.otherRegions)
	n.coord = coord.New(coord.Config{Self: cfg.ID, Keys: cfg.Keys, TwoAcks: cfg.TwoAcks}, coord.Deps{
		Bucket: n.buckets.Bucket, Refresh: n.buckets.Refresh, Home: n.home,
		Replica: n.replica, Transport: deps.Transport, Topology: n.Topology, Learn: n.learn, Isolated: n.news.isolated, HLC: deps.HLC,
		Regions: n.deps.Others.All, Map: n.wireRegions(),
		Alive: n.up, Observe: n.observe, Slow: n.alive.Slow, Took: n.took,
	})
	n.repair = repair.New(repair.Config{Self: cfg.ID, Beat: cfg.Beat, RegionBeat: cfg.RegionBeat, ScrubPass: cfg.ScrubPass, RepairBytes: cfg.RepairBytes, PruneBeat: cfg.PruneBeat, IndexBytes: cfg.IndexBytes, LittleLate: cfg.LittleLate}, repair.Deps{
		Replica: n.replica, Transport: deps.Transport, Topology: n.Topology,
		Alive: n.alive.Alive, AliveAfar: n.afar.Alive, Up: up, Gap: n.gap, Hears: n.hears,
		Regions: n.regions, ApplyRemote: n.applyRemote,
		Busy: n.busy, Yield: n.yield,
		Rand: n.rand(), Log: deps.Logger.Named("repair"),
	})
	n.replica.SetFetch(n.repair.Want)
	if deps.Store != nil {
		n.keeper = topology.NewKeeper(topology.KeeperConfig{
			Store: n.deps.Store, Current: n.Topology, Adopt: n.adopt, Survey: n.survey,
			Logger: deps.Logger.Named("keeper"),
		})
	}
	n.wireHandoff()
	n.wireSteer()
	n.wireCollect()
	n.wireGeo()
	return n, nil
}

// maxUp bounds the returned peers that repair has not looked at yet.
const maxUp = 64

// rand returns a source of its own for one goroutine.
func (n *Node) rand() *rand.Rand {
	return rand.New(rand.NewPCG(n.deps.Rand.Uint64(), n.deps.Rand.Uint64()))
}

// chance returns a source for many goroutines.
func (n *Node) chance() func() float64 {
	var mu sync.Mutex
	r := n.rand()
	return func() float64 {
		mu.Lock()
		defer mu.Unlock()
		return r.Float64()
	}
}

// SetKeys replaces the keys that authenticate what clients hold.
func (n *Node) SetKeys(keys crdt.Keys) { n.coord.SetKeys(keys) }

// peers are the other nodes of the region that have not left it.
func (n *Node) peers() []topology.NodeID {
	return slices.DeleteFunc(n.Topology().Present(), func(id topology.NodeID) bool { return id == n.cfg.ID })
}

// wireGeo connects the outbox to the own log, and the other regions' logs to
// the coordinator.
func (n *Node) wireGeo() {
	if n.deps.GeoLog == nil {
		return
	}
	top := n.Topology()
	n.pump = geo.NewPump(geo.PumpConfig{
		Claims: true,
		Region: string(top.Region), Node: string(n.cfg.ID), Nodes: func() int { return len(n.Topology().Present()) },
		Delay: (&yield.Pacer{Governor: n.yield}).DelayAtLeast,
	}, n.replica.Outbox(), n.deps.GeoLog, n.deps.Logger.Named("pump"))
	n.herald = geo.NewAnnouncer(geo.AnnouncerConfig{
		Region: string(top.Region), Node: string(n.cfg.ID), RegionID: uint8(top.RegionID), EntryBytes: n.entryBytes,
		Changed: n.changed,
	}, n.replica, n.deps.GeoLog, n.deps.Logger.Named("announcer"))
	n.lag = geo.NewLag(time.Now(), geo.LagConfig{
		Region: string(top.Region), RegionID: uint8(top.RegionID),
		Owners: n.mintersOf, EntryBytes: n.entryBytes,
	}, n.replica)
	n.fresh = geo.NewFresh(n.replica, n.mintersOf)
	n.replica.SetFresh(n.freshness)
	n.abroad = newAbroad(n)
	n.abroad.follow(n.RegionMap().Map)
}

// wireHandoff makes what carries out the moves of the topology.
func (n *Node) wireHandoff() {
	cfg := handoff.Config{Self: n.cfg.ID, Grace: n.cfg.Grace}
	deps := handoff.Deps{
		Replica: n.replica, Transport: n.deps.Transport, Exchange: n.offer, Keeps: n.hints.Owners,
		Yield: n.yield, Log: n.deps.Logger.Named("handoff"),
	}
	n.copier = handoff.NewCopier(cfg, deps)
	n.sweeper = handoff.NewSweeper(cfg, deps)
	n.view = handoff.NewView(cfg, deps, n.copier)
	if n.deps.Store != nil {
		n.steward = handoff.NewSteward(cfg, deps, n.deps.Store, n.copier)
	}
}

// wireCollect makes what collects tombstones, and what tells of late writes.
func (n *Node) wireCollect() {
	cfg := n.cfg.Collect
	cfg.Self = n.cfg.ID
	n.dead = collect.New(cfg, collect.Deps{
		Replica: n.replica, Transport: n.deps.Transport, Alive: n.alive.Alive,
		Others: n.otherTopologies, Waiting: n.waits,
		Now: n.deps.HLC.Now, Rand: n.rand(), Boot: n.deps.Rand.Uint64(),
		Log: n.deps.Logger.Named("collect"),
	})
	n.replica.SetWitness(n.dead.Witness)
	n.replica.SetSought(n.dead.Sought)
}

// otherTopologies are those of the other regions; false while one is not known.
func (n *Node) otherTopologies() ([]*topology.Topology, bool) {
	var out []*topology.Topology
	all := true
	for _, g := range n.regions() {
		if g.Topology == nil || len(g.Topology.Members) == 0 {
			all = false
			continue
		}
		out = append(out, g.Topology)
	}
	return out, all
}

// waits reports whether something of a partition waits here that is not younger than
// floor: hints, or proposals that are undecided, which it has decided.
func (n *Node) waits(p hashring.Partition, floor hlc.Stamp) (bool, error) {
	if keys := n.replica.Undecided(p, floor); len(keys) > 0 {
		for _, key := range keys {
			n.coord.Settle(key, time.Now().Add(coord.DefaultTimeout), func() {})
		}
		return true, nil
	}
	return n.hints.Waiting(func(keyHash uint64) bool { return n.replica.Partition(keyHash) == p }, floor)
}

// entryBytes is the average size of what this node ships, 0 before the first.
func (n *Node) entryBytes() uint64 {
	s := n.pump.Stats()
	if s.Entries == 0 {
		return 0
	}
	return s.BytesRaw / s.Entries
}

func (n *Node) drainEvents(origin string) geo.DrainEvents {
	return geo.DrainEvents{
		Gap:       n.onGap(topology.Region(origin)),
		Announced: func(data []byte) { n.passOn(origin, data) },
		Link:      func(up bool) { n.log.Info("link to another region", "origin", origin, "up", up) },
	}
}

// applyRemote spreads what repair pulled from another region.
func (n *Node) applyRemote(ctx context.Context, origin string, entries []wire.Entry) error {
	out := make([]geo.Entry, len(entries))
	for i, e := range entries {
		p := e.Skip
		if !e.Skips() {
			p = n.replica.Partition(hashring.KeyHash(e.Key))
		}
		out[i] = geo.Entry{Partition: p, Key: e.Key, Record: e.Record, Dots: e.Dots, IDs: e.IDs}
	}
	return n.coord.ApplyRemote(ctx, origin, out)
}

// Handle serves a peer's request. It is a peer.Handler.
func (n *Node) Handle(from topology.NodeID, req peer.Request, reply peer.Done) {
	n.overtaken(from, req.Epoch)
	if n.refusesRemoved(from, req, reply) {
		return
	}
	reply = n.felt(req, reply)
	switch {
	case n.replica.HandleFrom(from, req, reply):
	case n.coord.Handle(req, reply):
	case n.hints.Handle(req, reply):
	case n.copier.Handle(req, reply):
	case n.dead.Handle(req, reply):
	case n.world != nil && n.world.Handle(req, reply):
	case req.Verb == peer.VerbPing:
		reply(binary.BigEndian.AppendUint64(nil, uint64(n.deps.HLC.Now())), nil)
	case req.Verb == peer.VerbOperate:
		n.serveOperate(req, reply)
	case req.Verb == peer.VerbAnnounce:
		n.serveAnnounce(req, reply)
	case req.Verb == peer.VerbGap:
		n.serveGap(req, reply)
	case req.Verb == peer.VerbTopology:
		n.serveTopology(req, reply)
	case req.Verb == peer.VerbStatus:
		reply(n.encodeStatus())
	default:
		reply(nil, &peer.Refusal{Code: peer.CodeInvalid, Detail: fmt.Sprintf("unknown verb %d", req.Verb)})
	}
}

// Coordinator runs clients' operations.
func (n *Node) Coordinator() *coord.Coordinator { return n.coord }

// Replica is the node's own state.
func (n *Node) Replica() *replica.Replica { return n.replica }

// Kept says why this node still has partitions that it has given away, of those that
// it should have deleted by now.
func (n *Node) Kept() map[hashring.Partition]error { return n.sweeper.Kept() }

// Hints that this node keeps for others.
func (n *Node) Hints() *hint.Hints { return n.hints }

// Collector of tombstones.
func (n *Node) Collector() *collect.Collector { return n.dead }

// Repair of this node.
func (n *Node) Repair() *repair.Repairer { return n.repair }

// Topology of the node's region that holds now.
func (n *Node) Topology() *topology.Topology { return n.replica.Topology() }

// Ready reports whether this node may mint, and why not.
func (n *Node) Ready() error {
	if n.replica.Actor() == 0 {
		return replica.ErrNoActor
	}
	if n.replica.BehindCount() > 0 {
		return replica.ErrBehind
	}
	return nil
}
