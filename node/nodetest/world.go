// Package nodetest is the World: many real nodes in several regions, over
// memory twins of store, network and geo log, in one testing/synctest bubble,
// driven by one seed. It injects faults, runs clients, lets everything heal and
// then checks what must hold.
//
// Time is fake, so minutes of faults take a second. A seed fixes every draw of
// the harness; the order in which goroutines that wake at the same instant run
// is the scheduler's, so a seed is a strong hint and not a recording.
//
// Checked, by the names used in the documents:
//
//	I1   no acknowledged write lost: live at the end, or covered by a write
//	     whose client had seen it
//	I2   convergence: equal clocks, digests (kept and recomputed) and records
//	I3   no resurrection: what an acknowledged write replaced is not live
//	I6   honest outcomes: what was reported as not applied never appears
//	I8   available: of full disks, one costs no write at a quorum, its owner
//	     catches up when it has room, and with all of a region full reads go on
//	I7   integrity: a read shows only values that were written to that key
//	I9   bounded: nobody keeps for ever what moved away from it
//	I10  a dot never names two payloads
//	I12  an owner gives up a version only for what had seen it
//	D1   what a failover prints as missing is missing, and all that was told of is
//	D2   when a failover has ended survivors have the same of the lost region
//	D3   what comes late with a region is what was missing without it
//	F1   who knows that its region is fenced takes no write
//	G1   a region ships what it minted itself
//	G2   what a region acknowledges of another one's log a quorum of owners has
//	M1   nobody's map of regions goes back
//	M2   operations on regions end, and all nodes by one map
//	R2   a map is contested only after force, or when a store lost its state
//	A1   accounts: what regions tell to be missing in each other is what is, and
//	     nothing at the end
//	L1   operations on a key at LOCAL_SERIAL are linearizable in their region, and
//	     those at SERIAL everywhere
//	E1   a version comes into a record in one step with an event that it travels by,
//	     and at rest its holders have that in their clocks; what consensus is said
//	     to have decided a majority of disks has accepted; see events.go
//	S1   a session with a token reads its writes, reads and writes
//	     monotonically, and its writes follow its reads, at LOCAL_ONE, at any
//	     node of any region
//	Q2   a quorum read meets every quorum write of its region that was
//	     acknowledged before it began, wiped disks included
package nodetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/geo"
	"github.com/atolldb/atoll/geo/memlog"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node"
	"github.com/atolldb/atoll/node/bucket"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/peer/memnet"
	"github.com/atolldb/atoll/node/storage/memstore"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/topology/memtopo"
)

var secret = crdt.Secret("world")

// Shape of a World.
type Shape struct {
	Regions    int
	Nodes      int // of each region
	Partitions int
	// Churn: members come and go all the time, and little else goes wrong.
	Churn bool
	// Settled: the members stay who they are.
	Settled bool
	// Sessions: clients that roam with tokens, and without.
	Sessions bool
	// Collect tombstones after seconds, and have messages that arrive after that.
	Collect bool
	// Daily: rounds of collection are a day apart.
	Daily bool
	// Parted: some buckets are in some of the regions only.
	Parted bool
	// Index, if not 0, is a budget of each node's dot index, in bytes, that is looked
	// at every few seconds.
	Index uint64
	// Beat at which regions compare themselves when nothing makes them; 0 is the
	// default.
	Beat time.Duration
	// Disasters befall whole regions; see disaster.go.
	Disasters bool
	// Rivals are keys that two clients write, each by his own answers; see rivals.go.
	Rivals int
	// Watch is how often a watcher looks whether any read could miss what was
	// promised; 0 is never. See watch.go.
	Watch time.Duration
	// Focus, if not nil, takes the place of the faults that the seed draws.
	Focus *Focus
}

// World is nodes, their network, their disks and what clients did to them.
type World struct {
	t      testing.TB
	seed   uint64
	shape  Shape
	rng    *rand.Rand
	fabric *memnet.Fabric
	cloud  *memlog.Cloud
	// tops are what the regions began with, and stores what they have become.
	tops   []*topology.Topology
	stores []*memtopo.Store
	// nodes are all that ever were; the list is only added to.
	places sync.Mutex
	nodes  []*member
	hist   *history
	events *events
	serial *serialBook
	log    hclog.Logger
	start  time.Time
	faults faultCount
	noise  memnet.Faults // on all links, while faults are injected
	// resting counts who waits for the World to be at rest: while somebody does,
	// deciders do nothing, if there are many.
	resting atomic.Int32
	// probers were made; see full.go.
	probers int
	// disasters, if not nil, are under way.
	disasters *disasters
	// calm: no rounds of collection are begun any more.
	calm atomic.Bool
	// lost are the full keys of records that a disk lost silently. A minter
	// that has lost a key's record no longer knows which of its own dots the
	// key has, so a context that it gives out may cover one unseen: the one
	// loss that dotted version vectors concede to a disk that lies (I1 of such
	// a key is counted, not failed).
	lost map[string]bool
	mu   sync.Mutex // over lost, and faults.rollbacks
	// logged is what befell; see watch.go.
	logged logged
}

// member is a node's place: what survives its crashes.
type member struct {
	id       topology.NodeID
	region   int
	disk     *memstore.Disk
	ear      *ear
	registry *memtopo.Registry
	skew     atomic.Int64 // in nanoseconds
	gone     atomic.Bool  // dead for good
	// running is nil while the node is down.
	running  atomic.Pointer[run]
	forwards twice
	// kept is the map of regions on the node's disk.
	kept atomic.Pointer[[]byte]
	// back, if not nil, is told before another map takes the place of one.
	back func(m *member, was, now []byte)
}

func (m *member) keep(b []byte) error {
	if was, _ := m.recall(); was != nil && m.back != nil {
		m.back(m, was, b)
	}
	b = bytes.Clone(b)
	m.kept.Store(&b)
	return nil
}

func (m *member) recall() ([]byte, error) {
	if b := m.kept.Load(); b != nil {
		return *b, nil
	}
	return nil, nil
}

type run struct {
	node *node.Node
	stop context.CancelFunc
	done chan error
}

// New builds a World and starts all nodes.
func New(t testing.TB, seed uint64, shape Shape, log hclog.Logger) *World {
	w := &World{
		t: t, seed: seed, shape: shape, log: log,
		rng:    rand.New(rand.NewPCG(seed, 1)),
		fabric: memnet.New(seed, memnet.Config{DialDelay: time.Millisecond, Doubt: 0.2}),
		cloud:  memlog.New(seed, memlog.Faults{DelayMin: time.Millisecond, DelayMax: 5 * time.Millisecond}),
		hist:   newHistory(shape.Partitions),
		events: newEvents(shape.Partitions),
		serial: &serialBook{keys: map[string]*serialKey{}},
		lost:   map[string]bool{},
		start:  time.Now(),
	}
	w.hist.collects = shape.Collect
	for r := range shape.Regions {
		w.tops = append(w.tops, w.topology(r))
		w.stores = append(w.stores, memtopo.NewStore())
		registry := memtopo.New(topology.RegionID(r + 1))
		for _, m := range w.tops[r].Members {
			w.nodes = append(w.nodes, w.place(m.ID, r, registry))
		}
	}
	for _, m := range w.nodes {
		w.Start(m)
	}
	return w
}

// place makes a node that does not run yet.
func (w *World) place(id topology.NodeID, region int, registry *memtopo.Registry) *member {
	// Some disks are slow, so that a crash finds more unsynced.
	slowest := 3 * time.Millisecond
	if w.rng.IntN(4) == 0 {
		slowest = 200 * time.Millisecond
	}
	if f := w.shape.Focus; f != nil {
		slowest = max(f.sync, 100*time.Microsecond)
	}
	return &member{
		id: id, region: region, registry: registry, ear: &ear{Store: w.stores[region]},
		disk: memstore.NewDisk(memstore.Config{
			Seed: w.rng.Uint64(), SyncMin: 100 * time.Microsecond, SyncMax: slowest,
		}),
	}
}

// all nodes that ever were.
func (w *World) all() []*member {
	w.places.Lock()
	defer w.places.Unlock()
	return w.nodes
}

func (w *World) topology(r int) *topology.Topology {
	region := topology.Region(string(rune('a' + r)))
	var members []topology.Member
	for i := range w.shape.Nodes {
		id := topology.NodeID(fmt.Sprintf("%s%d", region, i+1))
		members = append(members, topology.Member{ID: id, Rack: fmt.Sprint("r", i%3), Weight: 1})
	}
	t, err := topology.Static(region, topology.RegionID(r+1), members, hashring.Rules{Partitions: w.shape.Partitions, Replicas: 3})
	if err != nil {
		w.t.Fatal(err)
	}
	return t
}

// Start starts a node on its disk.
func (w *World) Start(m *member) {
	if m.running.Load() != nil {
		return
	}
	engine, err := m.disk.Open()
	if err != nil {
		w.t.Fatalf("open disk of %s: %v", m.id, err)
	}
	var n atomic.Pointer[node.Node]
	transport := w.fabric.Node(m.id, func(from topology.NodeID, req peer.Request, reply peer.Done) {
		if req.Verb == peer.VerbForward || req.Verb == peer.VerbHomePut {
			var again func(func())
			if reply, again = m.forwards.meet(&req, reply); again != nil {
				again(func() {
					if n := n.Load(); n != nil {
						n.Handle(from, req, reply)
					}
				})
				return
			}
		}
		if n := n.Load(); n != nil {
			n.Handle(from, req, reply)
			return
		}
		reply(nil, &peer.Refusal{Code: peer.CodeStopping, Detail: "starting"})
	})
	top := w.tops[m.region]
	cfg := node.Config{ID: m.id, Topology: w.known(m.region), Keys: crdt.Keys{secret}, ScrubPass: 10 * time.Second, RegionBeat: w.shape.Beat, LittleLate: 4, Grace: 3 * time.Second,
		Buckets: w.partedBuckets().With(bucket.Definition{Name: homedBucket, Home: w.name(homeRegion)}),
		Collect: collecting(w.shape.Collect && !w.calm.Load())}
	if w.shape.Daily {
		cfg.Collect.Every = 24 * time.Hour
	}
	if w.shape.Index > 0 {
		cfg.IndexBytes, cfg.PruneBeat = w.shape.Index, 2*time.Second
	}
	deps := node.Deps{
		Engine: &overheard{engine, w.events, string(m.id)}, Registry: m.registry, Store: m.ear, RegionStore: w.stores[m.region], Transport: transport,
		RecallRegions: m.recall, KeepRegions: m.keep,
		HLC:    hlc.New(func() time.Time { return time.Now().Add(time.Duration(m.skew.Load())) }),
		Rand:   rand.New(rand.NewPCG(w.rng.Uint64(), 2)),
		Logger: w.log.With("on", string(m.id)),
	}
	if w.shape.Regions > 1 {
		var others []*topology.Topology
		deps.GeoLog = w.cloud.Log(string(top.Region))
		deps.Feeds = map[topology.Region]geo.Feed{}
		for r, other := range w.tops {
			if r != m.region {
				others = append(others, other)
				deps.Feeds[other.Region] = w.cloud.Feed(string(other.Region), string(top.Region))
			}
		}
		deps.Others = topology.NewBook(others...)
	}
	made, err := node.New(cfg, deps)
	if err != nil {
		w.t.Fatalf("start %s: %v", m.id, err)
	}
	n.Store(made)
	w.note(m.region, allRows, "%s starts, at epoch %d", m.id, made.Topology().Epoch)
	ctx, stop := context.WithCancel(context.Background())
	r := &run{node: made, stop: stop, done: make(chan error, 1)}
	m.running.Store(r)
	go func() {
		err := r.node.Run(ctx)
		if cerr := engine.Close(); err == nil && cerr != nil {
			err = cerr
		}
		r.done <- err
	}()
}

// Stop stops a node in order.
func (w *World) Stop(m *member) {
	r := m.running.Swap(nil)
	if r == nil {
		return
	}
	r.stop()
	if err := <-r.done; err != nil && !errors.Is(err, context.Canceled) {
		w.t.Errorf("stop %s: %v", m.id, err)
	}
	w.fabric.Down(m.id)
	w.note(m.region, allRows, "%s stopped", m.id)
}

// Crash ends a node at once: what its disk has not synced may be gone.
func (w *World) Crash(m *member) {
	r := m.running.Swap(nil)
	if r == nil {
		return
	}
	w.note(m.region, allRows, "%s crashes", m.id)
	w.fabric.Down(m.id)
	m.disk.Crash(func() bool { return w.rng.IntN(2) == 0 })
	r.stop()
	<-r.done
}

// Close stops everything.
func (w *World) Close() {
	for _, m := range w.all() {
		w.Stop(m)
	}
	for _, p := range w.events.take() {
		w.t.Errorf("%s", p)
	}
}
