package handoff_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/handoff"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/peer/memnet"
	"github.com/atolldb/atoll/node/repair"
	"github.com/atolldb/atoll/node/replica"
	"github.com/atolldb/atoll/node/storage/memstore"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/topology/memtopo"
)

const partitions = 16

// world is one region of nodes with replica, repairer, keeper and all parts of
// handoff each, in a bubble.
type world struct {
	t        *testing.T
	fabric   *memnet.Fabric
	store    *memtopo.Store
	registry *memtopo.Registry
	first    *topology.Topology
	nodes    map[topology.NodeID]*member
	order    []*member
	rng      *rand.Rand
	cfg      handoff.Config
}

// member is a node's place; run is what is there while it is up.
type member struct {
	w    *world
	id   topology.NodeID
	disk *memstore.Disk
	run  atomic.Pointer[run]
}

type run struct {
	*replica.Replica
	copier  *handoff.Copier
	sweeper *handoff.Sweeper
	view    *handoff.View
	steward *handoff.Steward
	wire    peer.Transport
	stop    context.CancelFunc
	ended   sync.WaitGroup
	crashed atomic.Bool
	made    atomic.Bool // all of the above
}

// newWorld starts n nodes that are up, and spare ones that are members and have
// not joined.
func newWorld(t *testing.T, n, spare, replicas int) *world {
	w := &world{
		t: t, nodes: map[topology.NodeID]*member{}, rng: rand.New(rand.NewPCG(1, 2)),
		store: memtopo.NewStore(), registry: memtopo.New(1),
		fabric: memnet.New(1, memnet.Config{DialDelay: time.Millisecond, Faults: memnet.Faults{MinDelay: time.Millisecond, MaxDelay: 2 * time.Millisecond}}),
	}
	var members []topology.Member
	for i := range n + spare {
		members = append(members, topology.Member{ID: topology.NodeID(fmt.Sprint("n", i+1)), Rack: fmt.Sprint("r", i%3), Weight: 1})
	}
	top, err := topology.Static("a", 1, members[:n], hashring.Rules{Partitions: partitions, Replicas: replicas})
	if err != nil {
		t.Fatal(err)
	}
	for i, m := range members {
		if i >= n {
			m.State = topology.Joining
			top.Members = append(top.Members, m)
		}
		x := &member{w: w, id: m.ID, disk: memstore.NewDisk(memstore.Config{Seed: uint64(i), SyncMin: 100 * time.Microsecond, SyncMax: time.Millisecond})}
		w.nodes[m.ID] = x
		w.order = append(w.order, x)
	}
	w.first = top
	if _, err := w.store.Swap(t.Context(), top, 0); err != nil {
		t.Fatal(err)
	}
	for _, m := range w.order {
		m.start()
	}
	t.Cleanup(func() {
		w.store.SetDown(false)
		for _, m := range w.order {
			m.halt(false)
		}
		time.Sleep(time.Minute)
	})
	w.pass(3 * time.Second)
	return w
}

func (w *world) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (m *member) up() bool { return m.run.Load() != nil }

func (w *world) alive(id topology.NodeID) bool {
	m := w.nodes[id]
	return m != nil && m.up()
}

func (m *member) start() {
	t := m.w.t
	if m.up() {
		return
	}
	engine, err := m.disk.Open()
	if err != nil {
		t.Fatal(err)
	}
	r := &run{}
	if r.Replica, err = replica.Open(replica.Config{Node: m.id, Topology: m.w.first, DigestSeed: 7}, engine, m.w.registry, hlc.New(time.Now), hclog.NewNullLogger()); err != nil {
		t.Fatal(err)
	}
	deps := handoff.Deps{Replica: r.Replica, Exchange: r.exchange(m.id), Log: hclog.NewNullLogger()}
	r.wire = m.w.fabric.Node(m.id, func(_ topology.NodeID, req peer.Request, reply peer.Done) {
		switch {
		case !r.made.Load():
			reply(nil, &peer.Refusal{Code: peer.CodeStopping})
		case r.Handle(req, reply), r.copier.Handle(req, reply):
		case req.Verb == peer.VerbTopology:
			r.serveTopology(req, reply)
		default:
			reply(nil, &peer.Refusal{Code: peer.CodeInvalid})
		}
	})
	deps.Transport = r.wire
	cfg := m.w.cfg
	cfg.Self = m.id
	r.copier = handoff.NewCopier(cfg, deps)
	r.view = handoff.NewView(cfg, deps, r.copier)
	r.steward = handoff.NewSteward(cfg, deps, m.w.store, r.copier)
	r.made.Store(true)
	r.sweeper = handoff.NewSweeper(cfg, deps)
	keeper := topology.NewKeeper(topology.KeeperConfig{Store: m.w.store, Current: r.Topology, Adopt: r.adopt, Logger: hclog.NewNullLogger()})
	repairer := repair.New(repair.Config{Self: m.id}, repair.Deps{
		Replica: r.Replica, Transport: r.wire, Topology: r.Topology, Alive: m.w.alive,
		Up: make(chan topology.NodeID), Gap: make(chan struct{}),
		Rand: rand.New(rand.NewPCG(1, uint64(len(m.id)))), Log: hclog.NewNullLogger(),
	})
	ctx, stop := context.WithCancel(context.Background())
	r.stop = stop
	below, stopReplica := context.WithCancel(context.Background())
	var loops sync.WaitGroup
	for name, loop := range map[string]func(context.Context) error{
		"copier": r.copier.Run, "steward": r.steward.Run, "sweeper": r.sweeper.Run, "keeper": keeper.Run, "repair": repairer.Run,
	} {
		loops.Go(func() {
			if err := loop(ctx); err != nil {
				t.Errorf("%s of %s: %v", name, m.id, err)
			}
		})
	}
	r.ended.Go(func() {
		loops.Wait()
		stopReplica()
	})
	r.ended.Go(func() {
		if err := r.Run(below); err != nil && !r.crashed.Load() {
			t.Errorf("replica of %s: %v", m.id, err)
		}
		engine.Close()
	})
	m.run.Store(r)
}

// halt ends a node, in order or by a power cut.
func (m *member) halt(crash bool) {
	r := m.run.Swap(nil)
	if r == nil {
		return
	}
	m.w.fabric.Down(m.id)
	if crash {
		r.crashed.Store(true)
		m.disk.Crash(func() bool { return false })
	}
	r.stop()
	r.ended.Wait()
}

func (m *member) wipe() {
	m.halt(true)
	if err := m.disk.Wipe(); err != nil {
		m.w.t.Fatal(err)
	}
}

func (r *run) adopt(ctx context.Context, t *topology.Topology) error {
	done := make(chan error, 1)
	r.Adopt(t, func(err error) { done <- err })
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// serveTopology: the asker's epoch is left out, an offer is taken.
func (r *run) serveTopology(req peer.Request, reply peer.Done) {
	answer := func(err error) {
		if err != nil {
			reply(nil, err)
			return
		}
		reply(binary.BigEndian.AppendUint64(nil, uint64(r.Topology().Epoch)), nil)
	}
	if len(req.Body) == 0 {
		answer(nil)
		return
	}
	t, err := topology.Decode(req.Body)
	if err != nil {
		answer(err)
		return
	}
	r.Adopt(t, answer)
}

func (r *run) exchange(self topology.NodeID) func(context.Context, topology.NodeID, *topology.Topology) (topology.Epoch, error) {
	return func(ctx context.Context, with topology.NodeID, offer *topology.Topology) (topology.Epoch, error) {
		if with == self {
			if offer != nil {
				if err := r.adopt(ctx, offer); err != nil {
					return 0, err
				}
			}
			return r.Topology().Epoch, nil
		}
		var body []byte
		if offer != nil {
			body = topology.Encode(offer)
		}
		b, err := peer.Call(ctx, r.wire, with, peer.Request{Verb: peer.VerbTopology, Timeout: 2 * time.Second, Body: body})
		if err != nil {
			return 0, err
		}
		return topology.Epoch(binary.BigEndian.Uint64(b)), nil
	}
}

// stored is what the store has.
func (w *world) stored() *topology.Topology {
	t, _, err := w.store.Load(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	return t
}

// change swaps in what edit makes of the stored topology.
func (w *world) change(edit func(*topology.Topology) (*topology.Topology, error)) {
	w.t.Helper()
	for {
		t, rev, err := w.store.Load(context.Background())
		if err != nil {
			w.t.Fatal(err)
		}
		next, err := edit(t)
		if err != nil {
			w.t.Fatal(err)
		}
		if _, err = w.store.Swap(context.Background(), next, rev); err == nil {
			return
		} else if !errors.Is(err, topology.ErrConflict) {
			w.t.Fatal(err)
		}
	}
}

// commit plans a change and commits it.
func (w *world) commit(c topology.Change) topology.Proposal {
	w.t.Helper()
	return w.commitWith(c, topology.PlanOptions{})
}

func (w *world) commitWith(c topology.Change, opt topology.PlanOptions) topology.Proposal {
	w.t.Helper()
	var p topology.Proposal
	opt.Now = time.Now().UnixMilli()
	opt.Bytes = func(hashring.Partition) uint64 { return 1000 }
	w.change(func(t *topology.Topology) (*topology.Topology, error) {
		var err error
		p, err = topology.PlanChange(t, c, opt)
		return p.Next, err
	})
	return p
}

// leader is the node whose steward leads, nil for none.
func (w *world) leader() *member {
	for _, m := range w.order {
		if r := m.run.Load(); r != nil && r.steward.Leads() {
			return m
		}
	}
	return nil
}

// until waits for something.
func (w *world) until(what string, limit time.Duration, is func(*topology.Topology) bool) {
	w.t.Helper()
	for begun := time.Now(); !is(w.stored()); time.Sleep(10 * time.Millisecond) {
		if time.Since(begun) > limit {
			w.t.Fatalf("not within %v: %s", limit, what)
		}
	}
}

// stage reports whether a move is in a stage.
func stage(s topology.Stage) func(*topology.Topology) bool {
	return func(t *topology.Topology) bool {
		for _, m := range t.Moves {
			if m.Stage == s {
				return true
			}
		}
		return false
	}
}

// settle waits until no task runs.
func (w *world) settle(limit time.Duration) *topology.Topology {
	w.t.Helper()
	begun := time.Now()
	for {
		t := w.stored()
		busy := false
		for _, task := range t.Tasks {
			busy = busy || task.Ended == 0
		}
		if !busy {
			return t
		}
		if time.Since(begun) > limit {
			for _, m := range w.order {
				if r := m.run.Load(); r != nil {
					w.t.Fatalf("task does not end in %v: %+v", limit, r.view.Tasks(context.Background()))
				}
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
}
