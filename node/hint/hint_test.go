package hint_test

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
	"github.com/atolldb/atoll/node/hint"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/peer/memnet"
	"github.com/atolldb/atoll/node/replica"
	"github.com/atolldb/atoll/node/storage/memstore"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/topology/memtopo"
	"github.com/atolldb/atoll/node/wire"
)

// world is four nodes with hints each; every key is owned by three of them.
type world struct {
	t        *testing.T
	top      *topology.Topology
	fabric   *memnet.Fabric
	registry *memtopo.Registry
	cfg      hint.Config
	nodes    map[topology.NodeID]*node

	mu   sync.Mutex
	down map[topology.NodeID]bool
}

type node struct {
	w       *world
	id      topology.NodeID
	disk    *memstore.Disk
	replica *replica.Replica
	hints   *hint.Hints
	stop    context.CancelFunc
	ended   sync.WaitGroup
	// refuse is what the node says to an Apply, if anything.
	refuse atomic.Pointer[peer.Refusal]
	got    atomic.Int64 // Applies
}

const parts = 8

func newWorld(t *testing.T, cfg hint.Config, disk memstore.Config) *world {
	var members []topology.Member
	for i := range 4 {
		members = append(members, topology.Member{ID: topology.NodeID(fmt.Sprint("n", i+1)), Rack: fmt.Sprint("r", i), Weight: 1})
	}
	top, err := topology.Static("east", 1, members, hashring.Rules{Partitions: parts, Replicas: 3})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{
		t: t, top: top, cfg: cfg, registry: memtopo.New(1), nodes: map[topology.NodeID]*node{}, down: map[topology.NodeID]bool{},
		fabric: memnet.New(1, memnet.Config{Faults: memnet.Faults{MinDelay: time.Millisecond, MaxDelay: time.Millisecond}}),
	}
	for _, m := range members {
		w.start(m.ID, memstore.NewDisk(disk))
	}
	t.Cleanup(func() {
		for _, n := range w.nodes {
			n.end()
		}
	})
	w.settle()
	return w
}

func (w *world) start(id topology.NodeID, disk *memstore.Disk) *node {
	engine, err := disk.Open()
	if err != nil {
		w.t.Fatal(err)
	}
	n := &node{w: w, id: id, disk: disk}
	clock := hlc.New(time.Now)
	if n.replica, err = replica.Open(replica.Config{Node: id, Topology: w.top}, engine, w.registry, clock, hclog.NewNullLogger()); err != nil {
		w.t.Fatal(err)
	}
	var ready atomic.Bool
	transport := w.fabric.Node(id, func(_ topology.NodeID, req peer.Request, reply peer.Done) {
		if !ready.Load() {
			reply(nil, &peer.Refusal{Code: peer.CodeStopping, Detail: "starting"})
			return
		}
		if req.Verb == peer.VerbApply {
			n.got.Add(1)
			if no := n.refuse.Load(); no != nil {
				reply(nil, no)
				return
			}
		}
		if !n.hints.Handle(req, reply) && !n.replica.Handle(req, reply) {
			w.t.Errorf("nobody serves verb %d", req.Verb)
		}
	})
	cfg := w.cfg
	cfg.Self = id
	n.hints, err = hint.Open(cfg, hint.Deps{
		Replica: n.replica, Engine: engine, Transport: transport,
		Alive: w.alive, Observe: func(topology.NodeID, error) {}, Logger: hclog.NewNullLogger(),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	ready.Store(true)
	var ctx context.Context
	ctx, n.stop = context.WithCancel(context.Background())
	running, stopReplica := context.WithCancel(context.Background())
	n.ended.Go(func() {
		if err := n.hints.Run(ctx); err != nil {
			w.t.Error(err)
		}
		stopReplica()
	})
	n.ended.Go(func() {
		_ = n.replica.Run(running)
		engine.Close()
	})
	w.nodes[id] = n
	return n
}

func (n *node) end() {
	n.stop()
	n.ended.Wait()
}

// restart ends a node and starts it again on its disk.
func (w *world) restart(id topology.NodeID) *node {
	n := w.nodes[id]
	n.end()
	n = w.start(id, n.disk)
	w.settle()
	return n
}

func (w *world) settle() {
	time.Sleep(50 * time.Millisecond)
	synctest.Wait()
}

func (w *world) alive(id topology.NodeID) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.down[id]
}

// away takes a node off the network, and all know it; or has it come back.
func (w *world) away(id topology.NodeID, away bool) {
	w.mu.Lock()
	w.down[id] = away
	w.mu.Unlock()
	if away {
		w.fabric.Down(id)
		return
	}
	n := w.nodes[id]
	n.end()
	w.start(id, n.disk)
	for _, other := range w.nodes {
		other.hints.Up(id)
	}
}

// adopt has all nodes go by a topology.
func (w *world) adopt(t *topology.Topology) {
	w.top = t
	for _, n := range w.nodes {
		n.replica.Adopt(t, func(err error) {
			if err != nil {
				w.t.Error(err)
			}
		})
	}
	w.settle()
}

func partition(k string) hashring.Partition {
	return hashring.PartitionOf(hashring.KeyHash([]byte(k)), parts)
}

// roles are the owners of a key, and the node that is none.
func (w *world) roles(k string) (owners []*node, standIn *node) {
	takers := w.top.Takers(partition(k))
	for _, id := range takers {
		owners = append(owners, w.nodes[id])
	}
	for id, n := range w.nodes {
		if !slices.Contains(takers, id) {
			standIn = n
		}
	}
	return owners, standIn
}

// write is a version of a key as some minter made it.
func write(k string, actor crdt.Actor, n uint64, value string, follows crdt.VV) wire.Entry {
	v := crdt.Version{Dot: crdt.Dot{Actor: actor, N: n}, Stamp: hlc.FromMillis(time.Now().UnixMilli()), Value: []byte(value)}
	return wire.Entry{
		Key:    []byte(k),
		Record: crdt.AppendRecord(nil, hashring.KeyHash([]byte(k)), crdt.Write(crdt.Record{}, follows, v)),
	}
}

const minter = crdt.Actor(1<<crdt.RegionBits | 1)

// keep has n keep an entry for an owner, over the network as a coordinator
// would ask.
func (w *world) keep(n *node, owner topology.NodeID, e wire.Entry) error {
	return w.keepAt(n, w.top.Epoch, owner, e)
}

func (w *world) keepAt(n *node, epoch topology.Epoch, owner topology.NodeID, e wire.Entry) error {
	done := make(chan error, 1)
	body := wire.AppendHint(nil, &wire.Hint{Owner: string(owner), Entry: e})
	n.hints.Handle(peer.Request{Verb: peer.VerbHint, Epoch: epoch, Timeout: time.Second, Body: body},
		func(_ []byte, err error) { done <- err })
	return <-done
}

func (w *world) mustKeep(n *node, owner topology.NodeID, e wire.Entry) {
	w.t.Helper()
	if err := w.keep(n, owner, e); err != nil {
		w.t.Fatal(err)
	}
}

// held is what a node has of a key.
func (n *node) held(k string) crdt.Record {
	n.w.t.Helper()
	hash := hashring.KeyHash([]byte(k))
	page, err := n.replica.Scan(wire.Scan{Partition: partition(k), First: hash, Last: hash, MaxBytes: 1 << 20})
	if err != nil {
		n.w.t.Fatal(err)
	}
	for _, e := range page.Entries {
		if bytes.Equal(e.Key, []byte(k)) {
			rec, err := crdt.DecodeRecord(hash, e.Record)
			if err != nil {
				n.w.t.Fatal(err)
			}
			return rec
		}
	}
	return crdt.Record{}
}

func (n *node) owes() (count int, bytes int64) {
	for _, o := range n.hints.Owed() {
		count, bytes = count+o.Count, bytes+o.Bytes
	}
	return count, bytes
}

// A hint survives a restart of who keeps it, is handed over as soon as the owner
// is back, and is gone then.
func TestHandedOverOnReturn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, hint.Config{Beat: time.Hour}, memstore.Config{})
		owners, s := w.roles("k")
		o := owners[1].id
		w.away(o, true)
		began := time.Now()
		w.mustKeep(s, o, write("k", minter, 1, "v", nil))
		time.Sleep(time.Minute)
		s = w.restart(s.id)
		owed := s.hints.Owed()
		if len(owed) != 1 || owed[0].Owner != o || owed[0].Count != 1 || owed[0].Bytes == 0 || !owed[0].Oldest.Equal(began.Truncate(time.Millisecond)) {
			t.Fatalf("after a restart: %+v", owed)
		}
		if n := w.nodes[o].got.Load(); n != 0 {
			t.Errorf("%d sent to who is away", n)
		}
		w.away(o, false)
		w.settle()
		if len(w.nodes[o].held("k").Versions) != 1 {
			t.Error("the owner does not have it")
		}
		if n, b := s.owes(); n != 0 || b != 0 || s.hints.Stats().Handed.Load() != 1 {
			t.Errorf("%d hints of %d bytes are left", n, b)
		}
		if s = w.restart(s.id); len(s.hints.Owed()) != 0 {
			t.Errorf("found again: %+v", s.hints.Owed())
		}
	})
}

// An owner that is up from here gets its hints at the next beat, though nobody
// saw it come up.
func TestHandedOverRegularly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, hint.Config{Beat: time.Minute}, memstore.Config{})
		owners, s := w.roles("k")
		w.mustKeep(s, owners[0].id, write("k", minter, 1, "v", nil))
		time.Sleep(61 * time.Second)
		w.settle()
		if n, _ := s.owes(); n != 0 || len(owners[0].held("k").Versions) != 1 {
			t.Errorf("%d hints are left", n)
		}
	})
}

// A key has one hint, whatever came for it: siblings stay, what was followed
// goes, and its dots are delivered.
func TestHintsOfOneKeyAreJoined(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, hint.Config{}, memstore.Config{})
		owners, s := w.roles("k")
		o := owners[2].id
		w.away(o, true)
		w.mustKeep(s, o, write("k", minter, 1, "first", nil))
		w.mustKeep(s, o, write("k", minter, 2, "sibling", nil))
		w.mustKeep(s, o, write("k", minter, 3, "third", crdt.VV(nil).With(crdt.Dot{Actor: minter, N: 1})))
		if n, _ := s.owes(); n != 1 {
			t.Errorf("%d hints", n)
		}
		w.away(o, false)
		w.settle()
		var values []string
		for _, v := range w.nodes[o].held("k").Versions {
			values = append(values, string(v.Value))
		}
		if slices.Sort(values); !slices.Equal(values, []string{"sibling", "third"}) {
			t.Errorf("the owner has %q", values)
		}
		for n := range uint64(3) {
			if d := (crdt.Dot{Actor: minter, N: n + 1}); !w.nodes[o].replica.Clock(partition("k")).Contains(d) {
				t.Errorf("%v was not delivered", d)
			}
		}
	})
}

// What does not fit is refused, and what was taken stays (H2, H3).
func TestBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, hint.Config{MaxBytes: 10_000, MaxAge: time.Hour}, memstore.Config{})
		_, s := w.roles("k")
		var owner topology.NodeID
		taken := map[string]topology.NodeID{}
		var full int
		for i := range 100 {
			k := fmt.Sprint("k", i)
			owners, standIn := w.roles(k)
			if standIn != s {
				continue
			}
			owner = owners[0].id
			if !w.down[owner] {
				w.away(owner, true)
			}
			err := w.keep(s, owner, write(k, minter, uint64(i+1), string(make([]byte, 1000)), nil))
			var no *peer.Refusal
			switch {
			case err == nil:
				taken[k] = owner
			case errors.As(err, &no) && no.Code == peer.CodeFull:
				full++
			default:
				t.Fatal(err)
			}
		}
		n, b := s.owes()
		if full == 0 || n != len(taken) || n < 7 || b > 10_000 {
			t.Errorf("%d refused, %d of %d bytes taken", full, n, b)
		}
		if s.hints.Stats().Refused.Load() != uint64(full) || s.hints.Stats().Taken.Load() != uint64(n) {
			t.Errorf("counted %d and %d", s.hints.Stats().Refused.Load(), s.hints.Stats().Taken.Load())
		}
		time.Sleep(2 * time.Hour)
		if after, _ := s.owes(); after != n {
			t.Errorf("%d are left after two hours", after)
		}
		for id := range w.down {
			w.away(id, false)
		}
		time.Sleep(time.Minute)
		w.settle()
		if n, b := s.owes(); n != 0 || b != 0 {
			t.Errorf("%d of %d bytes are left", n, b)
		}
		for k, o := range taken {
			if len(w.nodes[o].held(k).Versions) != 1 {
				t.Errorf("%s does not have %s", o, k)
			}
		}
	})
}

// An owner that has been away for too long gets no more hints, and those that
// it has stay.
func TestTooOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, hint.Config{MaxAge: time.Hour}, memstore.Config{})
		owners, s := w.roles("k")
		w.away(owners[0].id, true)
		w.mustKeep(s, owners[0].id, write("k", minter, 1, "v", nil))
		time.Sleep(59 * time.Minute)
		w.mustKeep(s, owners[0].id, write("k", minter, 2, "v", nil))
		time.Sleep(2 * time.Minute)
		var no *peer.Refusal
		if err := w.keep(s, owners[0].id, write("k", minter, 3, "v", nil)); !errors.As(err, &no) || no.Code != peer.CodeFull {
			t.Errorf("%v", err)
		}
		if err := w.keep(s, owners[1].id, write("k", minter, 4, "v", nil)); err != nil {
			t.Errorf("for another owner: %v", err)
		}
		w.away(owners[0].id, false)
		w.settle()
		if n := len(w.nodes[owners[0].id].held("k").Versions); n != 2 {
			t.Errorf("%d versions came home", n)
		}
	})
}

// What cannot be kept is refused as bad input.
func TestBadHints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, hint.Config{}, memstore.Config{})
		owners, s := w.roles("k")
		good := write("k", minter, 1, "v", nil)
		bad := good
		bad.Record = bytes.Clone(good.Record)
		bad.Record[6] ^= 1
		for name, err := range map[string]error{
			"for itself":       w.keep(s, s.id, good),
			"not a record":     w.keep(s, owners[0].id, bad),
			"a name too long":  w.keep(s, topology.NodeID(make([]byte, 64)), good),
			"a record of none": w.keep(s, owners[0].id, wire.Entry{Key: []byte("k")}),
		} {
			var no *peer.Refusal
			if !errors.As(err, &no) || no.Code != peer.CodeInvalid {
				t.Errorf("%s: %v", name, err)
			}
		}
		if n, _ := s.owes(); n != 0 {
			t.Errorf("%d were kept", n)
		}
	})
}
