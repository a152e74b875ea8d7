// Package fleet runs a whole deployment in one operating system process: real
// nodes with real disks, gRPC and NATS on loopback, and links between them that
// can be cut and are slow. It is what the demo and the tests of users' programs
// (client/kvtest) stand on.
//
// It knows nothing of data. What it adds to package process is addresses, a
// network with faults, and stopping and starting.
//
// Invariants:
//
//	F1  Everything listens on loopback, on ports that were free, and that the fleet
//	    has to itself as long as it is there (internal/freeport).
//	F2  Every connection between nodes, and from a node to the NATS of another
//	    region, can be cut. The routes between the NATS servers of one region
//	    cannot.
//	F3  Stop ends all that Start began.
package fleet

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/atolldb/atoll/internal/freeport"
	"github.com/atolldb/atoll/node/process"
	"github.com/atolldb/atoll/node/topology"
)

// Config of a fleet.
type Config struct {
	// Regions by name, at least one.
	Regions []topology.Region
	// Nodes of each region, at least one; 3 by default.
	Nodes int
	// Here, if set, is the one region whose nodes run in this fleet: those of the
	// others run in fleets of other processes, which have the same Dir, Addrs and
	// regions. A cut is one only when both sides make it.
	Here topology.Region
	// Addrs are where the nodes listen, AddrsPerNode of each, region by region; nil
	// finds free ones. Whoever gives them has them to itself.
	Addrs []string
	// Dir holds all nodes' directories; it must exist.
	Dir string
	// Partitions of the key space; 64 by default.
	Partitions int
	// Latency between regions, one way; 0 by default.
	Latency time.Duration
	// NATSServers of each region: 1 or 3; 1 by default. With 3 (and as many
	// nodes) a region goes on shipping while one of them is down, and starts
	// some seconds later.
	NATSServers int
	// LogBytes bounds each region's log; see process.Geo.
	LogBytes process.Size
	// Memtable of each node's store; 16 MiB by default.
	Memtable process.Size
	// Buckets as in a node's configuration.
	Buckets map[string]process.Bucket
	Version string
	Logger  hclog.Logger
}

// Fleet is a deployment.
type Fleet struct {
	cfg     Config
	wan     *wan
	regions []process.Region
	nextID  topology.RegionID       // of a region to be added
	made    map[topology.Region]int // nodes that a region of a name began with, ever

	mu    sync.Mutex
	nodes map[topology.NodeID]*place
	order []topology.NodeID
	ports []*freeport.Claim
}

// place is where a node runs, or does not.
type place struct {
	region  topology.Region
	cfg     process.Config
	running *running
}

type running struct {
	process *process.Process
	stop    context.CancelFunc
	done    chan struct{}
	err     error // of Run, once done is closed
}

func (r *running) ended() bool {
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}

// New finds addresses and writes the secret. Nothing runs before Start.
func New(cfg Config) (*Fleet, error) {
	if len(cfg.Regions) == 0 {
		return nil, errors.New("a fleet needs a region")
	}
	if cfg.Nodes == 0 {
		cfg.Nodes = 3
	}
	if cfg.Partitions == 0 {
		cfg.Partitions = 64
	}
	if cfg.NATSServers == 0 || cfg.Nodes < 3 {
		cfg.NATSServers = 1
	}
	if cfg.Memtable == 0 {
		cfg.Memtable = 16 * process.MiB
	}
	if cfg.Logger == nil {
		cfg.Logger = hclog.NewNullLogger()
	}
	f := &Fleet{cfg: cfg, wan: newWAN(cfg.Latency), nodes: map[topology.NodeID]*place{}, made: map[topology.Region]int{}, nextID: topology.RegionID(len(cfg.Regions) + 1)}
	if err := f.writeSecret(); err != nil {
		return nil, err
	}
	if err := f.layOut(); err != nil {
		return nil, err
	}
	return f, nil
}

func (f *Fleet) secretFile() string { return filepath.Join(f.cfg.Dir, "secret") }

func (f *Fleet) writeSecret() error {
	if _, err := os.Stat(f.secretFile()); err == nil {
		return nil
	}
	secret := make([]byte, 32)
	if _, err := rand.Read(secret); err != nil {
		return fmt.Errorf("make a secret: %w", err)
	}
	if err := os.WriteFile(f.secretFile(), []byte(hex.EncodeToString(secret)+"\n"), 0o600); err != nil {
		return fmt.Errorf("write the secret: %w", err)
	}
	return nil
}

// layOut gives every node its addresses and configuration.
func (f *Fleet) layOut() error {
	for r, name := range f.cfg.Regions {
		if err := f.layRegion(name, topology.RegionID(r+1)); err != nil {
			return err
		}
	}
	for _, p := range f.nodes {
		p.cfg.Regions = f.regions
	}
	return nil
}

// AddrsPerNode is how many addresses a node of a fleet needs.
const AddrsPerNode = 5

// layRegion gives the nodes of a region their addresses, and a configuration that
// knows of the regions so far.
func (f *Fleet) layRegion(name topology.Region, id topology.RegionID) error {
	ports, err := f.addrs(f.cfg.Nodes * AddrsPerNode)
	if err != nil {
		return err
	}
	type addrs struct{ client, peer, admin, nats, cluster string }
	var all []addrs
	var routes []string
	region := process.Region{Name: name, ID: id}
	for n := range f.cfg.Nodes {
		a := addrs{ports[0], ports[1], ports[2], ports[3], ports[4]}
		ports = ports[AddrsPerNode:]
		all = append(all, a)
		f.made[name]++
		id := topology.NodeID(fmt.Sprintf("%s-%d", name, f.made[name]))
		region.Members = append(region.Members, process.Member{
			ID: id, Rack: fmt.Sprintf("rack-%d", n%3+1), Weight: 1, Client: a.client, Peer: a.peer,
		})
		f.wan.own(a.peer, end{id, name})
		if n < f.cfg.NATSServers {
			region.NATS = append(region.NATS, "nats://"+a.nats)
			routes = append(routes, a.cluster)
			f.wan.own(a.nats, end{id, name})
		}
	}
	f.regions = append(slices.Clone(f.regions), region)
	if f.cfg.Here != "" && f.cfg.Here != name {
		return nil
	}
	for n, m := range region.Members {
		a := all[n]
		c := f.config(name, m.ID, process.Listen{Client: a.client, Peer: a.peer, Admin: a.admin})
		if n < f.cfg.NATSServers {
			c.NATS.Listen = a.nats
			if f.cfg.NATSServers > 1 {
				c.NATS.Cluster = &process.Cluster{Listen: a.cluster, Routes: routes}
			}
		}
		f.nodes[m.ID] = &place{region: name, cfg: c}
		f.order = append(slices.Clone(f.order), m.ID)
	}
	return nil
}

// config of a node without NATS server.
func (f *Fleet) config(region topology.Region, id topology.NodeID, at process.Listen) process.Config {
	c := process.Default()
	c.Node, c.Region, c.Regions, c.Listen = id, region, f.regions, at
	c.DataDir = filepath.Join(f.cfg.Dir, string(id))
	c.SecretFile, c.Version, c.Buckets = f.secretFile(), f.cfg.Version, f.cfg.Buckets
	c.Partitions, c.Replicas = f.cfg.Partitions, min(3, f.cfg.Nodes)
	c.LoneWrites = true // to be tried
	c.Memory = process.Memory{Memtable: f.cfg.Memtable, BlockCache: 16 * process.MiB}
	c.NATS.MaxStore, c.Geo.MaxBytes = 512*process.MiB, f.cfg.LogBytes
	return c
}

// AddNode starts a node that joins a region while it runs, and waits until it
// serves clients. It owns nothing before a plan gives it its share. From then
// on it is as any other node of the fleet.
func (f *Fleet) AddNode(ctx context.Context, region topology.Region, id topology.NodeID, rack string) error {
	if regions := f.Regions(); !slices.Contains(regions, region) {
		return fmt.Errorf("no region %q; there are %v", region, regions)
	}
	f.mu.Lock()
	at, err := f.addrs(3)
	f.mu.Unlock()
	if err != nil {
		return err
	}
	c := f.config(region, id, process.Listen{Client: at[0], Peer: at[1], Admin: at[2]})
	c.Join = &process.Join{Rack: rack, Weight: 1, Client: at[0], Peer: at[1]}
	f.mu.Lock()
	taken := f.nodes[id] != nil
	if !taken {
		f.nodes[id] = &place{region: region, cfg: c}
		f.order = append(slices.Clone(f.order), id)
	}
	f.mu.Unlock()
	if taken {
		return fmt.Errorf("there is a node %s already", id)
	}
	f.wan.own(at[1], end{id, region})
	return f.StartNode(ctx, id)
}

// addrs claims addresses on loopback. The caller has the lock.
func (f *Fleet) addrs(n int) ([]string, error) {
	if given := f.cfg.Addrs; len(given) > 0 {
		if len(given) < n {
			return nil, fmt.Errorf("%d addresses are left, %d are needed", len(given), n)
		}
		f.cfg.Addrs = given[n:]
		return given[:n], nil
	}
	c, err := freeport.Take(n)
	if err != nil {
		return nil, err
	}
	f.ports = append(f.ports, c)
	return c.Addrs, nil
}

// Release gives back the addresses of a fleet that was stopped and will not be
// started again.
func (f *Fleet) Release() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.ports {
		c.Release()
	}
	f.ports = nil
}

// Start starts all nodes that are down and waits until they take writes.
func (f *Fleet) Start(ctx context.Context) error {
	for _, id := range f.Nodes() {
		if err := f.launch(ctx, id); err != nil {
			return err
		}
	}
	for _, id := range f.Nodes() {
		if err := f.await(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// StartNode starts one node and waits until it takes writes.
func (f *Fleet) StartNode(ctx context.Context, id topology.NodeID) error {
	if err := f.launch(ctx, id); err != nil {
		return err
	}
	return f.await(ctx, id)
}

func (f *Fleet) launch(ctx context.Context, id topology.NodeID) error {
	if !f.Up(id) {
		freeport.AwaitChildren(ctx, f.listens(id)...) // it may have listened there before
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.nodes[id]
	if p == nil {
		return f.unknown(id)
	}
	if p.running != nil && !p.running.ended() {
		return nil
	}
	made, err := process.New(p.cfg, process.Hooks{Logger: f.cfg.Logger, Dial: f.wan.dialer(end{id, p.region})})
	if err != nil {
		return fmt.Errorf("make node %s: %w", id, err)
	}
	ctx, stop := context.WithCancel(context.Background())
	r := &running{process: made, stop: stop, done: make(chan struct{})}
	p.running = r
	// What a node starts inherits the labels, so that a profile of the whole fleet
	// tells whose processor time it is.
	go pprof.Do(ctx, pprof.Labels("region", string(p.region), "node", string(id)), func(ctx context.Context) {
		r.err = made.Run(ctx)
		close(r.done)
	})
	return nil
}

// listens are the addresses of a node's servers.
func (f *Fleet) listens(id topology.NodeID) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.nodes[id]
	if p == nil {
		return nil
	}
	addrs := []string{p.cfg.Listen.Client, p.cfg.Listen.Peer, p.cfg.Listen.Admin}
	if p.cfg.NATS.Listen != "" {
		addrs = append(addrs, p.cfg.NATS.Listen)
	}
	if c := p.cfg.NATS.Cluster; c != nil {
		addrs = append(addrs, c.Listen)
	}
	return addrs
}

func (f *Fleet) await(ctx context.Context, id topology.NodeID) error {
	r := f.at(id)
	if r == nil {
		return fmt.Errorf("node %s is down", id)
	}
	select {
	case <-r.process.Ready():
		return nil
	case <-r.done:
		f.forget(id, r)
		return fmt.Errorf("node %s: %w", id, r.err)
	case <-ctx.Done():
		return fmt.Errorf("wait for node %s: %w", id, ctx.Err())
	}
}

// forget a node whose failure to start was told.
func (f *Fleet) forget(id topology.NodeID, r *running) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if p := f.nodes[id]; p.running == r {
		p.running = nil
	}
}

func (f *Fleet) at(id topology.NodeID) *running {
	f.mu.Lock()
	defer f.mu.Unlock()
	if p := f.nodes[id]; p != nil {
		return p.running
	}
	return nil
}

func (f *Fleet) unknown(id topology.NodeID) error {
	return fmt.Errorf("no node %q; there are %v", id, f.order) // with the lock held
}

// StopNode stops a node in order: it leaves a clean-stop marker.
func (f *Fleet) StopNode(id topology.NodeID) error { return f.end(id, false) }

// Kill ends a node as if its process had died: its connections break, and it
// leaves no clean-stop marker, so that it comes back with a new actor.
func (f *Fleet) Kill(id topology.NodeID) error { return f.end(id, true) }

func (f *Fleet) end(id topology.NodeID, kill bool) error {
	f.mu.Lock()
	p := f.nodes[id]
	if p == nil {
		defer f.mu.Unlock()
		return f.unknown(id)
	}
	r := p.running
	p.running = nil
	f.mu.Unlock()
	if r == nil {
		return fmt.Errorf("node %s is down already", id)
	}
	if kill {
		if n := r.process.Node(); n != nil {
			n.Replica().Abandon()
		}
		f.wan.sever(id)
	}
	r.stop()
	<-r.done
	if kill {
		return nil // what a dying node says does not count
	}
	return r.err
}

// Stop stops all nodes.
func (f *Fleet) Stop() error {
	var wg sync.WaitGroup
	nodes := f.Nodes()
	errs := make([]error, len(nodes))
	for i, id := range nodes {
		if f.at(id) != nil {
			wg.Go(func() { errs[i] = f.StopNode(id) })
		}
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Partition cuts the links between two regions, or between two nodes.
func (f *Fleet) Partition(a, b string) error {
	if err := f.places(a, b); err != nil {
		return err
	}
	f.wan.set(a, b, true)
	return nil
}

// Heal mends what Partition cut.
func (f *Fleet) Heal(a, b string) error {
	if err := f.places(a, b); err != nil {
		return err
	}
	f.wan.set(a, b, false)
	return nil
}

// HealAll mends everything.
func (f *Fleet) HealAll() { f.wan.heal() }

func (f *Fleet) places(names ...string) error {
	nodes, regions := f.Nodes(), f.Regions()
	for _, n := range names {
		if !slices.Contains(nodes, topology.NodeID(n)) && !slices.Contains(regions, topology.Region(n)) {
			return fmt.Errorf("no region or node %q; there are %v and %v", n, regions, nodes)
		}
	}
	return nil
}

// Crossed is how many bytes nodes of different regions have exchanged, both ways:
// links between nodes, and what is pulled from the regions' logs.
func (f *Fleet) Crossed() uint64 { return f.wan.crossed.Load() }

// Nodes of all regions, in order; those that were added last.
func (f *Fleet) Nodes() []topology.NodeID {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.order
}

// Regions in order.
func (f *Fleet) Regions() []topology.Region {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.cfg.Regions
}

// Up reports whether a node runs: it was started, and has not failed since.
func (f *Fleet) Up(id topology.NodeID) bool {
	r := f.at(id)
	return r != nil && !r.ended()
}

// Process of a node, nil while it is down.
func (f *Fleet) Process(id topology.NodeID) *process.Process {
	if r := f.at(id); r != nil {
		return r.process
	}
	return nil
}

// Endpoints are the client addresses of a region's nodes, but for those that
// have left it.
func (f *Fleet) Endpoints(region topology.Region) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var now *topology.Topology // the newest of what its nodes go by
	for _, p := range f.nodes {
		if p.region != region || p.running == nil {
			continue
		}
		if n := p.running.process.Node(); n != nil && (now == nil || n.Topology().Epoch > now.Epoch) {
			now = n.Topology()
		}
	}
	var out []string
	for _, id := range f.order {
		p := f.nodes[id]
		if p.region != region {
			continue
		}
		if now != nil {
			if m := now.Member(id); m != nil && m.State == topology.Left {
				continue
			}
		}
		out = append(out, p.cfg.Listen.Client)
	}
	return out
}

// Admin is the address of a node's admin listener.
func (f *Fleet) Admin(id topology.NodeID) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if p := f.nodes[id]; p != nil {
		return p.cfg.Listen.Admin
	}
	return ""
}
