package process

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/geo"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/topology/jskv"
)

// pending stands for the region's NATS until the connection to it is made,
// which may take a while where nothing answers (P1).
type pending struct {
	made     chan struct{} // closed when the rest is set
	registry topology.Registry
	store    topology.Store
	regions  topology.RegionStore
	// raise, facts and keepers are jskv's Registry.Raise, Store.Agree and Store.Servers.
	raise   func(ctx context.Context, floor crdt.Actor, by uint32) error
	facts   func(ctx context.Context, name, value string) (string, error)
	keepers func(ctx context.Context) (jskv.Servers, error)
	log     geo.Log
}

var errNotConnected = errors.New("not connected to the region's nats yet")

func (p *pending) wait(ctx context.Context) error {
	select {
	case <-p.made:
		return nil
	case <-ctx.Done():
		return errors.Join(errNotConnected, ctx.Err())
	}
}

// pendingRegistry waits for the registry.
type pendingRegistry struct {
	*pending
	// inForce is the topology that this node goes by.
	inForce func() *topology.Topology
}

var _ topology.Registry = pendingRegistry{}

func (r pendingRegistry) Allocate(ctx context.Context, id topology.NodeID, floor crdt.Actor) (topology.Identity, error) {
	if err := r.wait(ctx); err != nil {
		return topology.Identity{}, err
	}
	if err := r.whole(ctx); err != nil {
		return topology.Identity{}, err
	}
	return r.registry.Allocate(ctx, id, floor)
}

const wholeBeat = 200 * time.Millisecond

// whole waits until the metadata is no older than what this node knows. Where
// it was lost or put back, its count of actors was, too: until somebody has
// mended it (see Swap) it would hand out what others have.
func (r pendingRegistry) whole(ctx context.Context) error {
	for {
		t, _, err := r.store.Load(ctx)
		if err != nil {
			return err
		}
		if t != nil && t.Epoch >= r.inForce().Epoch {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for the region's metadata to be mended: %w", ctx.Err())
		case <-time.After(wholeBeat):
		}
	}
}

func (r pendingRegistry) Resume(ctx context.Context, id topology.NodeID, last topology.Identity) (topology.Identity, error) {
	if err := r.wait(ctx); err != nil {
		return topology.Identity{}, err
	}
	return r.registry.Resume(ctx, id, last)
}

// pendingStore waits for the store.
type pendingStore struct {
	*pending
	// mends reports whether storing t gives back what the store has lost, and
	// the highest actor that this node has heard of.
	mends func(t *topology.Topology) (bool, crdt.Actor)
}

var _ topology.Store = pendingStore{}

func (s pendingStore) Load(ctx context.Context) (*topology.Topology, topology.Revision, error) {
	if err := s.wait(ctx); err != nil {
		return nil, 0, err
	}
	return s.store.Load(ctx)
}

// lostActors is a bound of the actors that a region allocates and this node has
// not heard of: one for each crash of a node.
const lostActors = 1 << 16

// Swap also makes good, where a store lost its state or was put back, that its
// count of actors was, too: what it hands out from then on must be new.
func (s pendingStore) Swap(ctx context.Context, t *topology.Topology, at topology.Revision) (topology.Revision, error) {
	if err := s.wait(ctx); err != nil {
		return 0, err
	}
	if mends, heard := s.mends(t); mends {
		if err := s.raise(ctx, heard, lostActors); err != nil {
			return 0, err
		}
	}
	return s.store.Swap(ctx, t, at)
}

func (s pendingStore) Watch(ctx context.Context, each func(*topology.Topology, topology.Revision)) error {
	if err := s.wait(ctx); err != nil {
		return err
	}
	return s.store.Watch(ctx, each)
}

func (s pendingStore) Lead(ctx context.Context, id topology.NodeID, ttl time.Duration) (topology.NodeID, error) {
	if err := s.wait(ctx); err != nil {
		return "", err
	}
	return s.store.Lead(ctx, id, ttl)
}

func (s pendingStore) agree(ctx context.Context, name, value string) (string, error) {
	if err := s.wait(ctx); err != nil {
		return "", err
	}
	return s.facts(ctx, name, value)
}

// servers is metadataWatch.ask.
func (s pendingStore) servers(ctx context.Context) (jskv.Servers, error) {
	if err := s.wait(ctx); err != nil {
		return jskv.Servers{}, err
	}
	return s.keepers(ctx)
}

// pendingLog fails until there is a log: the pump tries again.
type pendingLog struct{ *pending }

var _ geo.Log = pendingLog{}

func (l pendingLog) up() bool {
	select {
	case <-l.made:
		return true
	default:
		return false
	}
}

func (l pendingLog) Append(b geo.Batch, done func(error)) {
	if !l.up() {
		go done(errNotConnected)
		return
	}
	l.log.Append(b, done)
}

// Wanted is true before there is a log: the pump learns of that from Append.
func (l pendingLog) Wanted() bool { return !l.up() || l.log.Wanted() }

// Silent knows nothing before there is a log.
func (l pendingLog) Silent() time.Duration {
	if !l.up() {
		return 0
	}
	return l.log.Silent()
}

// State implements geo.Stated.
func (l pendingLog) State() (geo.LogState, bool) {
	if !l.up() {
		return geo.LogState{}, false
	}
	stated, ok := l.log.(geo.Stated)
	if !ok {
		return geo.LogState{}, false
	}
	return stated.State()
}

// Release implements geo.Releasing: the node says it again and again.
func (l pendingLog) Release(regions []string) {
	if !l.up() {
		return
	}
	if r, ok := l.log.(geo.Releasing); ok {
		r.Release(regions)
	}
}

func (l pendingLog) Announce(data []byte) error {
	if !l.up() {
		return errNotConnected
	}
	return l.log.Announce(data)
}

// pendingRegions waits for the store of the map of regions.
type pendingRegions struct{ *pending }

var _ topology.RegionStore = pendingRegions{}

func (r pendingRegions) LoadRegions(ctx context.Context) ([]byte, topology.Revision, error) {
	if err := r.wait(ctx); err != nil {
		return nil, 0, err
	}
	return r.regions.LoadRegions(ctx)
}

func (r pendingRegions) SwapRegions(ctx context.Context, b []byte, at topology.Revision) error {
	if err := r.wait(ctx); err != nil {
		return err
	}
	return r.regions.SwapRegions(ctx, b, at)
}
