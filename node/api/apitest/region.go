package apitest

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/geo/regionmap"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/internal/freeport"
	"github.com/atolldb/atoll/node/api"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/overload"
	"github.com/atolldb/atoll/node/topology"
)

// Fault is what becomes of one operation.
type Fault struct {
	// Err is how the operation fails, after it was applied when Applied is set.
	Err     error
	Applied bool
	// Hold delays the answer until it is closed; nil does not.
	Hold <-chan struct{}
}

// Op is what a fault function sees: one of the two.
type Op struct {
	Get *coord.Get
	Put *coord.Put
}

// Node is a coordinator of a region in memory, and its server.
type Node struct {
	ID    topology.NodeID
	Actor crdt.Actor
	Addr  string
	KV    *api.KVService

	region *Region
	fault  atomic.Pointer[func(Op) Fault]
	held   atomic.Pointer[regionmap.Map] // the map it goes by; nil for the newest
	gets   atomic.Int64
	puts   atomic.Int64
	mu     sync.Mutex
	server *grpc.Server
}

// Region is some nodes over one store.
type Region struct {
	Name  topology.Region
	Store *Store
	Nodes []*Node
	// Limits of the rim of nodes that start: none to speak of, because tests
	// hold many operations on purpose.
	Limits      overload.Config
	Members     *Members
	repairs     repairs
	collections collections
	links       links
	topology    atomic.Pointer[topology.Topology]
	id          topology.RegionID
	world       *World // nil for none
}

// TB is what this package needs of testing.TB. Examples bring their own.
type TB interface {
	Cleanup(f func())
	Fatalf(format string, args ...any)
}

const (
	partitions = 16
	replicas   = 3
	regionID   = 1
)

// RegionName names regions as the tests' siblings show them.
func RegionName(id topology.RegionID) topology.Region {
	if id == regionID {
		return "eu"
	}
	return topology.Region(fmt.Sprintf("region-%d", id))
}

// NewRegion starts n nodes, which end with the test.
func NewRegion(t TB, n int) *Region {
	return newRegion(t, RegionName(regionID), regionID, NewStore(), nil, n)
}

func newRegion(t TB, name topology.Region, id topology.RegionID, store *Store, w *World, n int) *Region {
	r := &Region{Name: name, id: id, world: w, Store: store, Limits: overload.Config{Start: 1 << 20, Min: 1 << 20, Max: 1 << 20}}
	r.Members, r.repairs.region, r.collections.region = newMembers(r), r, r
	for i := range n {
		node := &Node{
			ID:     topology.NodeID(fmt.Sprintf("n%d", i+1)),
			Actor:  crdt.MakeActor(uint32(i+1), uint8(id)),
			region: r,
		}
		r.Nodes = append(r.Nodes, node)
		node.listen(t, freeport.For(t, 1)[0])
	}
	r.Publish(1)
	t.Cleanup(r.Close)
	return r
}

// Publish makes all nodes the members of the topology at an epoch, which is
// stored anew.
func (r *Region) Publish(epoch topology.Epoch) {
	t := &topology.Topology{
		Region: r.Name, RegionID: r.id, Epoch: epoch,
		Rules: hashring.Rules{Partitions: partitions, Replicas: replicas},
	}
	for _, n := range r.Nodes {
		t.Members = append(t.Members, topology.Member{ID: n.ID, Weight: 1, ClientAddr: n.Addr})
	}
	rows := make([][]string, partitions)
	for p := range rows {
		for i := range min(replicas, len(r.Nodes)) {
			rows[p] = append(rows[p], string(r.Nodes[(p+i)%len(r.Nodes)].ID))
		}
	}
	t.Table = hashring.MakeTable(rows)
	r.topology.Store(t)
	r.Members.begin(t)
}

// Owners of a key in the default bucket, the primary first.
func (r *Region) Owners(key string) []*Node {
	t := r.Topology()
	hash := hashring.KeyHash([]byte(fullKey("", []byte(key))))
	var out []*Node
	for _, id := range t.Owners(hashring.PartitionOf(hash, t.Table.Partitions())) {
		for _, n := range r.Nodes {
			if string(n.ID) == id {
				out = append(out, n)
			}
		}
	}
	return out
}

// Close stops all servers.
func (r *Region) Close() {
	for _, n := range r.Nodes {
		n.Kill()
	}
}

// Topology implements api.Cluster.
func (r *Region) Topology() *topology.Topology { return r.topology.Load() }

// Status implements api.Cluster.
func (r *Region) Status(context.Context) (api.Status, error) {
	var st api.Status
	for _, n := range r.Nodes {
		st.Nodes = append(st.Nodes, api.NodeStatus{ID: n.ID, Actor: n.Actor, Ready: true, Epoch: r.Topology().Epoch})
	}
	return st, nil
}

// Export implements api.Cluster.
func (r *Region) Export(ctx context.Context, bucket string, yield func(api.ExportedRecord) error) error {
	return r.Store.export(ctx, bucket, yield)
}

func (n *Node) listen(t TB, addr string) {
	lis, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatalf("listen: %v", err)
	}
	log := hclog.NewNullLogger()
	n.Addr = lis.Addr().String()
	n.KV = api.NewKVService(n, n.region.Name, RegionName, log)
	n.KV.SetLimits(n.region.Limits)
	ops := n.region.operations()
	if w := n.region.world; w != nil {
		ops.Directory = func() api.Directory { return w.directory(n.regionMap()) }
		n.KV.SetRegionMap(func() uint64 { return n.regionMap().N })
	}
	srv := grpc.NewServer(api.ServerOptions(log)...)
	api.Register(srv, n.KV, api.NewClusterService(n.region, ops), api.NewBucketsService(n.region.Store.Buckets))
	n.mu.Lock()
	n.server = srv
	n.mu.Unlock()
	go srv.Serve(lis) // it ends with Stop
}

// Kill stops the server at once, as a crash does.
func (n *Node) Kill() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.server.Stop()
}

// Restart listens again where the node was before Kill.
func (n *Node) Restart(t TB) { n.listen(t, n.Addr) }

// SetFault decides the fate of the operations from now on; nil lets all pass.
func (n *Node) SetFault(f func(Op) Fault) {
	if f == nil {
		n.fault.Store(nil)
		return
	}
	n.fault.Store(&f)
}

// Gets and Puts count operations that the node was asked for.
func (n *Node) Gets() int64 { return n.gets.Load() }
func (n *Node) Puts() int64 { return n.puts.Load() }

// Get implements api.Coordinator.
func (n *Node) Get(g coord.Get, done func(coord.GetResult, error)) {
	n.gets.Add(1)
	run(n, Op{Get: &g}, done, func() (coord.GetResult, error) {
		res, err := n.region.Store.get(g)
		if err == nil {
			res.Achieved, err = achieved(n.region.Topology(), n.ID, fullKey(g.Bucket, g.Key), g.Level, g.R, g.Regions)
		}
		return res, err
	})
}

// Put implements api.Coordinator.
func (n *Node) Put(p coord.Put, done func(coord.PutResult, error)) {
	n.puts.Add(1)
	run(n, Op{Put: &p}, done, func() (coord.PutResult, error) {
		a, err := achieved(n.region.Topology(), n.ID, fullKey(p.Bucket, p.Key), p.Level, p.W, p.Regions)
		if err == nil {
			err = n.refuses()
		}
		if err != nil {
			return coord.PutResult{}, err
		}
		res, err := n.region.Store.put(n.Actor, p)
		res.Achieved = a
		return res, err
	})
}

// Outcome implements api.Coordinator.
func (n *Node) Outcome(o coord.OutcomeQuery, done func(coord.OutcomeResult, error)) {
	if o.RequestID.IsZero() {
		done(coord.OutcomeResult{}, &coord.Error{Code: coord.CodeInvalid, Field: "request_id", Detail: "no request id"})
		return
	}
	done(n.region.Store.outcome(o), nil)
}

// Await implements api.Coordinator: there is one region, which has everything.
func (n *Node) Await(_ coord.Await, done func([]coord.RegionAchieved, error)) {
	done([]coord.RegionAchieved{{Region: n.region.Name, State: coord.RegionReached, Replicas: 2, Needed: 2}}, nil)
}

func run[R any](n *Node, op Op, done func(R, error), do func() (R, error)) {
	var f Fault
	if decide := n.fault.Load(); decide != nil {
		f = (*decide)(op)
	}
	finish := func() {
		var res R
		var err error
		if f.Err == nil || f.Applied {
			res, err = do()
		}
		if f.Err != nil {
			var none R
			res, err = none, f.Err
		}
		done(res, err)
	}
	if f.Hold == nil {
		finish()
		return
	}
	go func() {
		<-f.Hold
		finish()
	}()
}
