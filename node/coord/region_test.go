package coord_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/hint"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/peer/memnet"
	"github.com/atolldb/atoll/node/replica"
	"github.com/atolldb/atoll/node/storage/memstore"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/topology/memtopo"
	"github.com/atolldb/atoll/node/wire"
)

var secret = crdt.Secret("secret")

// region is some nodes with replica and coordinator each, on a perfect network,
// in a bubble. Anti-entropy is left out: what coord does not do stays undone.
type region struct {
	t        *testing.T
	top      *topology.Topology
	fabric   *memnet.Fabric
	registry *memtopo.Registry
	buckets  map[string]coord.Bucket
	nodes    map[topology.NodeID]*member

	// others are the other regions on the same network; see newRegions.
	others []*region

	mu   sync.Mutex
	dead map[topology.NodeID]bool // what all nodes believe
	late map[topology.NodeID]bool // whom all nodes find slow
}

type member struct {
	*coord.Coordinator
	deps    coord.Deps
	id      topology.NodeID
	replica *replica.Replica
	hints   *hint.Hints
	disk    *memstore.Disk
	skew    atomic.Int64 // nanoseconds that its clock is ahead
	wire    *tap
	homes   homes
	stop    context.CancelFunc
	ended   chan error
}

// newRegion starts n nodes of which each key has three owners (or n).
func newRegion(t *testing.T, n int) *region {
	return newRegionOn(t, n, memtopo.New(1), memstore.Config{})
}

func newRegionOn(t *testing.T, n int, registry *memtopo.Registry, disk memstore.Config) *region {
	r := makeRegion(t, n, registry, disk)
	for _, m := range r.nodes {
		r.catchUp(m)
	}
	return r
}

// newRegionBehind is newRegion before anybody has caught up.
func newRegionBehind(t *testing.T, n int) *region {
	return makeRegion(t, n, memtopo.New(1), memstore.Config{})
}

// catchUp has a node believe that it has all of its partitions.
func (r *region) catchUp(m *member) {
	for _, p := range m.replica.Owned() {
		m.replica.CaughtUp(p, m.replica.BehindMark(p))
	}
	r.settle()
}

func makeRegion(t *testing.T, n int, registry *memtopo.Registry, disk memstore.Config) *region {
	r := layOut(t, "east", 1, "", n, testFabric())
	r.registry = registry
	r.startAll(disk)
	return r
}

func testFabric() *memnet.Fabric {
	return memnet.New(1, memnet.Config{Faults: memnet.Faults{MinDelay: time.Millisecond, MaxDelay: time.Millisecond}})
}

// layOut is a region whose nodes do not run yet.
func layOut(t *testing.T, name topology.Region, id topology.RegionID, prefix string, n int, fabric *memnet.Fabric) *region {
	var members []topology.Member
	for i := range n {
		members = append(members, topology.Member{ID: topology.NodeID(fmt.Sprint(prefix, "n", i+1)), Rack: fmt.Sprint("r", i), Weight: 1})
	}
	top, err := topology.Static(name, id, members, hashring.Rules{Partitions: 8, Replicas: min(n, 3)})
	if err != nil {
		t.Fatal(err)
	}
	return &region{
		t: t, top: top, registry: memtopo.New(id), nodes: map[topology.NodeID]*member{}, dead: map[topology.NodeID]bool{}, fabric: fabric,
		buckets: map[string]coord.Bucket{
			"lww":        {Kind: crdt.LWW},
			"small":      {MaxValue: 10},
			"large":      {MaxValue: 8 << 20},
			"loose":      {Sloppy: true},
			"strict":     {RequireContext: true},
			"strict-lww": {Kind: crdt.LWW, RequireContext: true},
			"few":        {MaxSiblings: 3, WarnSiblings: 2},
			"homed":      {Home: "a"},
			"away":       {Home: "b"},
			"brief":      {TTL: time.Second},
		},
	}
}

func (r *region) startAll(disk memstore.Config) {
	for _, m := range r.top.Members {
		r.start(m.ID, memstore.NewDisk(disk))
	}
	r.settle()
	r.t.Cleanup(r.close)
}

// foreign are the topologies of the other regions.
func (r *region) foreign() (tops []*topology.Topology) {
	for _, o := range r.others {
		tops = append(tops, o.top)
	}
	return tops
}

func (r *region) start(id topology.NodeID, disk *memstore.Disk) {
	engine, err := disk.Open()
	if err != nil {
		r.t.Fatal(err)
	}
	m := &member{id: id, disk: disk, ended: make(chan error, 1)}
	m.homes.otherwise = coord.HomeOf(coord.Static(r.buckets))
	cfg := replica.Config{Node: id, Topology: r.top, Home: m.homes.of}
	clock := hlc.New(func() time.Time { return time.Now().Add(time.Duration(m.skew.Load())) })
	if m.replica, err = replica.Open(cfg, engine, r.registry, clock, hclog.NewNullLogger()); err != nil {
		r.t.Fatal(err)
	}
	m.wire = &tap{t: r.t}
	m.wire.Transport = r.fabric.Node(id, func(_ topology.NodeID, req peer.Request, reply peer.Done) {
		if !m.replica.Handle(req, reply) && !m.hints.Handle(req, reply) && !m.Handle(req, reply) {
			r.t.Errorf("nobody serves verb %d", req.Verb)
		}
	})
	m.deps = coord.Deps{
		Bucket:  coord.Static(r.buckets),
		Replica: m.replica, Transport: m.wire, Topology: m.replica.Topology, Regions: r.foreign, Learn: r.learn(m), HLC: clock,
		Home: m.homes.of, Alive: r.alive, Observe: func(topology.NodeID, error) {}, Slow: r.slow,
	}
	m.Coordinator = coord.New(coord.Config{Self: id, Keys: crdt.Keys{secret}}, m.deps)
	m.hints, err = hint.Open(hint.Config{Self: id, Beat: time.Hour}, hint.Deps{
		Replica: m.replica, Engine: engine, Transport: m.wire, Alive: r.alive,
		Observe: func(topology.NodeID, error) {}, Learn: r.learn(m), Logger: hclog.NewNullLogger(),
	})
	if err != nil {
		r.t.Fatal(err)
	}
	var ctx context.Context
	ctx, m.stop = context.WithCancel(context.Background())
	go func() {
		handing := make(chan error)
		go func() { handing <- m.hints.Run(ctx) }()
		err := errors.Join(m.replica.Run(ctx), <-handing)
		engine.Close()
		m.ended <- err
	}()
	r.nodes[id] = m
}

func (r *region) close() {
	r.settle()
	for _, m := range r.nodes {
		m.wire.verify()
		m.stop()
		<-m.ended
	}
	time.Sleep(time.Minute) // whatever still waits has a deadline
	synctest.Wait()
}

// settle lets everything that is under way come to its end.
func (r *region) settle() {
	time.Sleep(100 * time.Millisecond)
	synctest.Wait()
}

func (r *region) alive(id topology.NodeID) bool {
	for _, o := range append([]*region{r}, r.others...) {
		o.mu.Lock()
		dead := o.dead[id]
		o.mu.Unlock()
		if dead {
			return false
		}
	}
	return true
}

// believe makes all nodes think that id is down, or up again.
func (r *region) believe(id topology.NodeID, dead bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dead[id] = dead
}

// kill takes a node off the network, and all know it.
func (r *region) kill(id topology.NodeID) {
	r.fabric.Down(id)
	r.believe(id, true)
}

// owners are the nodes that own a key of a bucket, in order.
func (r *region) owners(bucket, k string) []*member {
	var out []*member
	for _, id := range r.top.Owners(r.partition(bucket, k)) {
		out = append(out, r.nodes[topology.NodeID(id)])
	}
	return out
}

func (r *region) partition(bucket, k string) hashring.Partition {
	return hashring.PartitionOf(hashring.KeyHash(coord.FullKey(bucket, []byte(k))), 8)
}

// outsider is a node that does not own the key.
func (r *region) outsider(bucket, k string) *member {
	for _, m := range r.nodes {
		if !m.replica.Owns(r.partition(bucket, k)) {
			return m
		}
	}
	r.t.Fatal("every node owns the key")
	return nil
}

// held is what a node's own disk has of a key, whether or not the node would
// answer for it.
func (m *member) held(t *testing.T, bucket, k string) crdt.Record {
	t.Helper()
	full := coord.FullKey(bucket, []byte(k))
	hash := keyHash(full)
	p := hashring.PartitionOf(hash, 8)
	page, err := m.replica.Scan(wire.Scan{Partition: p, First: hash, Last: hash, MaxBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range page.Entries {
		if bytes.Equal(e.Key, full) {
			rec, err := crdt.DecodeRecord(hash, e.Record)
			if err != nil {
				t.Fatal(err)
			}
			return rec
		}
	}
	return crdt.Record{}
}

// copyTo gives a node what another one has of a key.
func (r *region) copyTo(to, from *member, k string) {
	r.t.Helper()
	full := coord.FullKey("default", []byte(k))
	record := crdt.AppendRecord(nil, keyHash(full), from.held(r.t, "default", k))
	to.replica.Apply([]wire.Entry{{Key: full, Record: record}}, func(_ int, err error) {
		if err != nil {
			r.t.Error(err)
		}
	})
	r.settle()
}

// once checks K1: an operation is answered once. Its value is what was said.
type once[R any] struct {
	t    *testing.T
	mu   sync.Mutex
	said int
	at   time.Time
	res  R
	err  *coord.Error
	ch   chan struct{}
}

func newOnce[R any](t *testing.T) *once[R] { return &once[R]{t: t, ch: make(chan struct{})} }

func (o *once[R]) done(res R, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.said++; o.said > 1 {
		o.t.Errorf("K1: answered %d times: %+v, %v", o.said, res, err)
		return
	}
	if err != nil && !errors.As(err, &o.err) {
		o.t.Errorf("not an *Error: %v", err)
	}
	o.res, o.at = res, time.Now()
	close(o.ch)
}

func (o *once[R]) wait() (R, *coord.Error) {
	<-o.ch
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.res, o.err
}

const patience = 2 * time.Second

func (m *member) startPut(t *testing.T, p coord.Put) *once[coord.PutResult] {
	if p.Deadline.IsZero() {
		p.Deadline = time.Now().Add(patience)
	}
	o := newOnce[coord.PutResult](t)
	m.Put(p, o.done)
	return o
}

func (m *member) startGet(t *testing.T, g coord.Get) *once[coord.GetResult] {
	if g.Deadline.IsZero() {
		g.Deadline = time.Now().Add(patience)
	}
	o := newOnce[coord.GetResult](t)
	m.Get(g, o.done)
	return o
}

func (m *member) put(t *testing.T, p coord.Put) (coord.PutResult, *coord.Error) {
	return m.startPut(t, p).wait()
}

func (m *member) get(t *testing.T, g coord.Get) (coord.GetResult, *coord.Error) {
	return m.startGet(t, g).wait()
}

func (m *member) mustPut(t *testing.T, p coord.Put) coord.PutResult {
	t.Helper()
	res, err := m.put(t, p)
	if err != nil {
		t.Fatalf("put %q: %v", p.Key, err)
	}
	return res
}

func (m *member) mustGet(t *testing.T, g coord.Get) coord.GetResult {
	t.Helper()
	res, err := m.get(t, g)
	if err != nil {
		t.Fatalf("get %q: %v", g.Key, err)
	}
	return res
}

func live(v crdt.View) (out []string) {
	for i := range v.Live {
		out = append(out, string(v.Live[i].Value))
	}
	slices.Sort(out)
	return out
}

// tap is a transport that counts what is sent, and lets a test answer in the
// network's place. It checks that nobody changes a body after it was handed
// over.
type tap struct {
	peer.Transport
	t *testing.T

	mu   sync.Mutex
	sent []message
	// doubled requests arrive twice; the replies to lossy ones are lost.
	doubled, lossy peer.Verb
	// answer, if it says true, is what becomes of a request, after a while.
	answer func(to topology.NodeID, req peer.Request) (after time.Duration, reply []byte, err error, ok bool)
}

type message struct {
	to   topology.NodeID
	verb peer.Verb
	body []byte
	copy []byte
}

func (w *tap) Send(to topology.NodeID, req peer.Request, done peer.Done) {
	w.mu.Lock()
	w.sent = append(w.sent, message{to, req.Verb, req.Body, bytes.Clone(req.Body)})
	answer, doubled, lossy := w.answer, w.doubled == req.Verb, w.lossy == req.Verb
	w.mu.Unlock()
	if req.Timeout <= 0 {
		w.t.Errorf("sent with a timeout of %v", req.Timeout)
	}
	if answer != nil {
		if after, reply, err, ok := answer(to, req); ok {
			time.AfterFunc(max(after, 1), func() { done(reply, err) })
			return
		}
	}
	if doubled {
		w.Transport.Send(to, req, func([]byte, error) {})
	}
	if lossy {
		w.Transport.Send(to, req, func([]byte, error) { done(nil, peer.ErrTimeout) })
		return
	}
	w.Transport.Send(to, req, done)
}

// twice has the requests of a verb arrive twice, 0 for none.
func (w *tap) twice(verb peer.Verb) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.doubled = verb
}

// loses the replies to the requests of a verb, 0 for none.
func (w *tap) loses(verb peer.Verb) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lossy = verb
}

func (w *tap) verify() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, m := range w.sent {
		if !bytes.Equal(m.body, m.copy) {
			w.t.Errorf("the body of a request (verb %d) was changed after it was sent", m.verb)
		}
	}
}

// to counts the requests of a verb, of all nodes or to one.
func (w *tap) count(verb peer.Verb, to ...topology.NodeID) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, m := range w.sent {
		if m.verb == verb && (len(to) == 0 || slices.Contains(to, m.to)) {
			n++
		}
	}
	return n
}

// requests are all that were sent, so far: others send while a test looks.
func (w *tap) requests() []message {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.sent)
}

func (w *tap) reset() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sent = nil
}

// clear has all requests go to the network again.
func (w *tap) clear() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answer = nil
}

// answers makes requests of a verb to a node (or "" for all) end with err.
func (w *tap) answers(verb peer.Verb, to topology.NodeID, after time.Duration, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	before := w.answer
	w.answer = func(id topology.NodeID, req peer.Request) (time.Duration, []byte, error, bool) {
		if req.Verb == verb && (to == "" || to == id) {
			return after, nil, err, true
		}
		if before != nil {
			return before(id, req)
		}
		return 0, nil, nil, false
	}
}

func keyHash(full []byte) uint64 { return hashring.KeyHash(full) }

// recordKey is where package replica keeps the record of a key.
func recordKey(full []byte) []byte {
	h := keyHash(full)
	k := []byte{'r'}
	for shift := 56; shift >= 0; shift -= 8 {
		k = append(k, byte(h>>shift))
	}
	return append(k, full...)
}
