package repair_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/geo"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/peer/memnet"
	"github.com/atolldb/atoll/node/repair"
	"github.com/atolldb/atoll/node/replica"
	"github.com/atolldb/atoll/node/storage/memstore"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/topology/memtopo"
	"github.com/atolldb/atoll/node/wire"
)

const partitions = 8

// world is regions of nodes with replica, coordinator and repairer each, in a
// bubble. Nothing ships between regions but repair.
type world struct {
	t      *testing.T
	fabric *memnet.Fabric
	tops   []*topology.Topology
	nodes  map[topology.NodeID]*member
	beat   time.Duration
	page   int
	scrub  time.Duration
	prune  time.Duration
	budget uint64 // bytes a second

	mu   sync.Mutex
	dead map[topology.NodeID]bool
	busy float64 // all nodes
	// hidden: nobody knows the topologies of other regions.
	hidden bool
	index  uint64 // budget of each node, in bytes

	// hears: heartbeats come by the logs, which are the test.
	hears atomic.Bool
}

type member struct {
	w        *world
	id       topology.NodeID
	region   int
	disk     *memstore.Disk
	registry *memtopo.Registry
	up       chan topology.NodeID
	gap      chan struct{}
	wire     *counter

	*replica.Replica // nil while stopped
	coord            *coord.Coordinator
	repair           *repair.Repairer
	stop             context.CancelFunc
	ended            *sync.WaitGroup
	// applyRemote, if not nil, is in the coordinator's place.
	applyRemote func(context.Context, string, []wire.Entry) error
}

// newWorld starts regions of three nodes each.
func newWorld(t *testing.T, regions int) *world {
	w := &world{
		t: t, nodes: map[topology.NodeID]*member{}, dead: map[topology.NodeID]bool{}, beat: time.Second, scrub: 10 * time.Second, prune: time.Hour,
		fabric: memnet.New(1, memnet.Config{DialDelay: time.Millisecond, Faults: memnet.Faults{MinDelay: time.Millisecond, MaxDelay: time.Millisecond}}),
	}
	for r := range regions {
		name := string(rune('a' + r))
		var members []topology.Member
		for i := range 3 {
			members = append(members, topology.Member{ID: topology.NodeID(fmt.Sprint(name, i+1)), Rack: fmt.Sprint("r", i), Weight: 1})
		}
		top, err := topology.Static(topology.Region(name), topology.RegionID(r+1), members, hashring.Rules{Partitions: partitions, Replicas: 3})
		if err != nil {
			t.Fatal(err)
		}
		w.tops = append(w.tops, top)
		registry := memtopo.New(topology.RegionID(r + 1))
		for _, m := range members {
			w.nodes[m.ID] = &member{w: w, id: m.ID, region: r, disk: memstore.NewDisk(memstore.Config{}), registry: registry}
		}
	}
	t.Cleanup(w.close)
	return w
}

func (w *world) startAll() {
	for _, m := range w.all() {
		m.start()
	}
	w.pass(2 * time.Second)
}

// all nodes, in order.
func (w *world) all() []*member {
	var out []*member
	for _, t := range w.tops {
		for _, m := range t.Members {
			out = append(out, w.nodes[m.ID])
		}
	}
	return out
}

// top is the topology of a region that is published.
func (w *world) top(region int) *topology.Topology {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.tops[region]
}

// join makes a new node a member of a region, without partitions.
func (w *world) join(region int, id topology.NodeID) *member {
	w.t.Helper()
	m := &member{w: w, id: id, region: region, disk: memstore.NewDisk(memstore.Config{}), registry: w.nodes[w.top(region).Members[0].ID].registry}
	w.nodes[id] = m
	w.change(region, func(t *topology.Topology) {
		t.Members = append(t.Members, topology.Member{ID: id, Rack: "new", Weight: 1})
	})
	m.start()
	return m
}

// change publishes a topology, which all running nodes of the region adopt.
func (w *world) change(region int, edit func(*topology.Topology)) {
	w.t.Helper()
	next := w.top(region).Clone()
	next.Epoch++
	edit(next)
	w.mu.Lock()
	w.tops[region] = next
	w.mu.Unlock()
	for _, m := range w.all() {
		if m.region != region || m.Replica == nil {
			continue
		}
		done := make(chan error, 1)
		m.Adopt(next, func(err error) { done <- err })
		if err := <-done; err != nil {
			w.t.Fatalf("%s adopts: %v", m.id, err)
		}
	}
}

func (w *world) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (w *world) close() {
	for _, m := range w.all() {
		if m.Replica != nil {
			m.halt()
		}
	}
	w.pass(time.Minute)
}

func (w *world) alive(id topology.NodeID) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.dead[id]
}

func (w *world) load() float64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.busy
}

func (w *world) setLoad(busy float64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.busy = busy
}

// hide keeps the topologies of other regions from everybody, or shows them.
func (w *world) hide(hidden bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hidden = hidden
}

func (w *world) believe(id topology.NodeID, dead bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dead[id] = dead
}

func (m *member) start() {
	t := m.w.t
	engine, err := m.disk.Open()
	if err != nil {
		t.Fatal(err)
	}
	cfg := replica.Config{Node: m.id, Topology: m.w.top(m.region), DigestSeed: 7}
	clock := hlc.New(time.Now)
	if m.Replica, err = replica.Open(cfg, engine, m.registry, clock, hclog.NewNullLogger()); err != nil {
		t.Fatal(err)
	}
	m.wire = newCounter()
	rep := m.Replica
	var co *coord.Coordinator
	m.wire.Transport = m.w.fabric.Node(m.id, func(_ topology.NodeID, req peer.Request, reply peer.Done) {
		if !rep.Handle(req, reply) {
			co.Handle(req, reply)
		}
	})
	co = coord.New(coord.Config{Self: m.id, Keys: crdt.Keys{crdt.Secret("s")}}, coord.Deps{
		Replica: m.Replica, Transport: m.wire, Topology: rep.Topology, HLC: clock,
		Alive: m.w.alive, Observe: func(topology.NodeID, error) {},
	})
	m.coord = co
	m.up, m.gap = make(chan topology.NodeID, 1), make(chan struct{}, 1)
	deps := repair.Deps{
		Replica: m.Replica, Transport: m.wire, Topology: rep.Topology, Alive: m.w.alive, Up: m.up, Gap: m.gap,
		Hears:       func(topology.Region) bool { return m.w.hears.Load() },
		ApplyRemote: m.spread, Busy: m.w.load, Rand: rand.New(rand.NewPCG(1, 2)), Log: hclog.NewNullLogger(),
	}
	deps.Regions = m.regions
	m.repair = repair.New(repair.Config{
		Self: m.id, Beat: m.w.beat, PageBytes: m.w.page, ScrubPass: m.w.scrub, PruneBeat: m.w.prune, RepairBytes: m.w.budget, IndexBytes: m.w.index, LittleLate: 8,
	}, deps)
	rep.SetFetch(m.repair.Want)
	ctx, stop := context.WithCancel(context.Background())
	repairing, stopRepair := context.WithCancel(context.Background())
	m.stop, m.ended = stop, &sync.WaitGroup{}
	repaired := make(chan struct{})
	m.ended.Go(func() {
		<-ctx.Done()
		stopRepair()
		<-repaired
	})
	go func() {
		defer close(repaired)
		if err := m.repair.Run(repairing); err != nil {
			t.Errorf("repair: %v", err)
		}
	}()
	m.ended.Go(func() {
		running, stopReplica := context.WithCancel(context.Background())
		go func() { <-repaired; stopReplica() }()
		if err := rep.Run(running); err != nil {
			t.Errorf("run %s: %v", m.id, err)
		}
		engine.Close()
	})
}

// regions that are not m's.
func (m *member) regions() []repair.Region {
	m.w.mu.Lock()
	defer m.w.mu.Unlock()
	var out []repair.Region
	for r, other := range m.w.tops {
		switch {
		case r == m.region:
		case m.w.hidden:
			out = append(out, repair.Region{Name: other.Region})
		default:
			out = append(out, repair.Region{Name: other.Region, Topology: other})
		}
	}
	return out
}

func (m *member) spread(ctx context.Context, origin string, entries []wire.Entry) error {
	if m.applyRemote != nil {
		return m.applyRemote(ctx, origin, entries)
	}
	out := make([]geo.Entry, len(entries))
	for i, e := range entries {
		out[i] = geo.Entry{Key: e.Key, Record: e.Record, Dots: e.Dots}
	}
	return m.coord.ApplyRemote(ctx, origin, out)
}

// halt stops a node in order; the others know.
func (m *member) halt() {
	m.w.believe(m.id, true)
	m.w.fabric.Down(m.id)
	m.stop()
	m.ended.Wait()
	m.Replica = nil
}

// back starts a node that was halted; the others know.
func (m *member) back() {
	m.start()
	m.w.believe(m.id, false)
}

// put writes through a node's coordinator and waits.
func (m *member) put(p coord.Put) (coord.PutResult, error) {
	type answer struct {
		res coord.PutResult
		err error
	}
	ch := make(chan answer, 1)
	p.Deadline = time.Now().Add(time.Second)
	m.coord.Put(p, func(res coord.PutResult, err error) { ch <- answer{res, err} })
	a := <-ch
	return a.res, a.err
}

func (m *member) get(g coord.Get) ([]string, error) {
	type answer struct {
		res coord.GetResult
		err error
	}
	ch := make(chan answer, 1)
	g.Deadline = time.Now().Add(time.Second)
	m.coord.Get(g, func(res coord.GetResult, err error) { ch <- answer{res, err} })
	a := <-ch
	var out []string
	for _, v := range a.res.View.Live {
		out = append(out, string(v.Value))
	}
	return out, a.err
}

// write has a node mint, and nobody hears of it: what repair is for.
func (m *member) write(key, value string) crdt.Dot {
	m.w.t.Helper()
	type answer struct {
		x   *replica.Minted
		err error
	}
	ch := make(chan answer, 1)
	full := fullKey(key)
	m.Mint(replica.Mint{
		Key: full, KeyHash: hashring.KeyHash(full), Value: []byte(value), Overwrite: true,
		Done: func(x *replica.Minted, err error) { ch <- answer{x, err} },
	})
	a := <-ch
	if a.err != nil {
		m.w.t.Fatalf("write at %s: %v", m.id, a.err)
	}
	return a.x.Dot
}

// entry is what a log brings of a write that m minted.
func (m *member) entry(key string, dot crdt.Dot) geo.Entry {
	m.w.t.Helper()
	full := fullKey(key)
	record, err := m.Read(0, hashring.KeyHash(full), full)
	if err != nil || len(record) == 0 {
		m.w.t.Fatalf("%s has no record of %s: %v", m.id, key, err)
	}
	return geo.Entry{Partition: partOf(key), Key: full, Record: record, Dots: []crdt.Dot{dot}}
}

// has is the value that a node's own disk holds, "" for none.
func (m *member) has(key string) string {
	m.w.t.Helper()
	full := fullKey(key)
	b, err := m.Read(0, hashring.KeyHash(full), full)
	if err != nil {
		return err.Error()
	}
	if len(b) == 0 {
		return ""
	}
	rec, err := crdt.DecodeRecord(hashring.KeyHash(full), b)
	if err != nil {
		m.w.t.Fatal(err)
	}
	out := ""
	for i := range rec.Versions {
		out += string(rec.Versions[i].Value)
	}
	return out
}

func (m *member) lose(key string) {
	m.w.t.Helper()
	if !m.disk.LoseRecord(recordKey(fullKey(key))) {
		m.w.t.Fatalf("%s has no record of %s", m.id, key)
	}
}

// equal fails unless all servers of all regions agree on clocks and digests, and
// these are those of their records.
func (w *world) equal() {
	w.t.Helper()
	for p := range hashring.Partition(partitions) {
		var first wire.Sum
		var of topology.NodeID
		for _, m := range w.all() {
			if w.top(m.region).Role(p, m.id) != topology.Serving {
				continue
			}
			sum := m.Sum(p)
			if of == "" {
				first, of = sum, m.id
			}
			if sum != first {
				w.t.Errorf("partition %d: %s has %+v, %s has %+v", p, of, first, m.id, sum)
			}
			if d, err := m.DigestFromStore(p); err != nil || d != sum.Digest {
				w.t.Errorf("partition %d of %s: kept digest %x, records give %x, %v", p, m.id, sum.Digest, d, err)
			}
		}
	}
}

func fullKey(k string) []byte { return coord.FullKey(coord.DefaultBucket, []byte(k)) }

func partOf(k string) hashring.Partition {
	return hashring.PartitionOf(hashring.KeyHash(fullKey(k)), partitions)
}

// keysIn returns n keys of a partition.
func keysIn(p hashring.Partition, n int) []string {
	var out []string
	for i := 0; len(out) < n; i++ {
		if k := fmt.Sprint("k", i); partOf(k) == p {
			out = append(out, k)
		}
	}
	return out
}

func recordKey(full []byte) []byte {
	h := hashring.KeyHash(full)
	k := []byte{'r'}
	for shift := 56; shift >= 0; shift -= 8 {
		k = append(k, byte(h>>shift))
	}
	return append(k, full...)
}

func indexKey(p hashring.Partition, d crdt.Dot) []byte {
	k := []byte{'i', byte(p >> 8), byte(p), byte(d.Actor >> 24), byte(d.Actor >> 16), byte(d.Actor >> 8), byte(d.Actor)}
	for shift := 56; shift >= 0; shift -= 8 {
		k = append(k, byte(d.N>>shift))
	}
	return k
}
