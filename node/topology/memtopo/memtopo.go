// Package memtopo is a topology registry and a topology store in memory, for
// simulation: they are lost with the process, and otherwise do what the real
// ones do. Neither has a goroutine, and time is the package time's, so that
// both work in a testing/synctest bubble.
package memtopo

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/node/topology"
)

// ErrDown is what a registry answers that a test has switched off; a store that
// is switched off does not answer, and says so when the caller gives up.
var ErrDown = errors.New("metadata store is down")

// Registry hands out the actors of one region. All nodes of the region share
// it.
type Registry struct {
	region topology.RegionID

	mu     sync.Mutex
	down   bool
	last   uint32 // highest sequence handed out
	nonces uint64 // handed out so far, never forgotten
	nodes  map[topology.NodeID]topology.Identity
}

var _ topology.Registry = (*Registry)(nil)

// New returns an empty registry of region.
func New(region topology.RegionID) *Registry {
	return &Registry{region: region, nodes: make(map[topology.NodeID]topology.Identity)}
}

// SetDown makes every call fail with ErrDown, or ends that.
func (r *Registry) SetDown(down bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.down = down
}

// Forget loses all state, as a registry whose disks died.
func (r *Registry) Forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = 0
	clear(r.nodes)
}

// Raise makes everything that is handed out from now on come behind floor.
func (r *Registry) Raise(floor crdt.Actor) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = max(r.last, floor.Seq())
}

// Allocate implements topology.Registry.
func (r *Registry) Allocate(ctx context.Context, node topology.NodeID, floor crdt.Actor) (topology.Identity, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.check(ctx); err != nil {
		return topology.Identity{}, fmt.Errorf("allocate actor for %s: %w", node, err)
	}
	actor, err := topology.NextActor(r.region, r.last, floor)
	if err != nil {
		return topology.Identity{}, fmt.Errorf("allocate actor for %s: %w", node, err)
	}
	r.last = actor.Seq()
	before := r.nodes[node].Actor
	id := r.handOut(node, actor)
	id.Before = before
	return id, nil
}

// Resume implements topology.Registry.
func (r *Registry) Resume(ctx context.Context, node topology.NodeID, id topology.Identity) (topology.Identity, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.check(ctx); err != nil {
		return topology.Identity{}, fmt.Errorf("resume actor of %s: %w", node, err)
	}
	if have, ok := r.nodes[node]; !ok || have.Actor != id.Actor || have.Nonce != id.Nonce {
		return topology.Identity{}, fmt.Errorf("resume actor %s of %s: %w", id.Actor, node, topology.ErrNonceSpent)
	}
	return r.handOut(node, id.Actor), nil
}

func (r *Registry) check(ctx context.Context) error {
	if r.down {
		return ErrDown
	}
	return ctx.Err()
}

func (r *Registry) handOut(node topology.NodeID, actor crdt.Actor) topology.Identity {
	r.nonces++
	id := topology.Identity{Actor: actor, Nonce: fmt.Sprintf("nonce-%d", r.nonces)}
	r.nodes[node] = id
	return id
}
