// Package memtopo is the memory twin of a region's metadata store.
package memtopo

import (
	"context"
	"errors"
	"strconv"
	"sync"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/node/topology"
)

// ErrDown is returned while the registry is made unavailable.
var ErrDown = errors.New("registry is down")

// Registry hands out actors of one region. It is safe for concurrent use.
type Registry struct {
	region topology.RegionID

	mu    sync.Mutex
	seq   uint32
	nonce uint64
	last  map[topology.NodeID]topology.Identity
	down  bool
}

var _ topology.Registry = (*Registry)(nil)

// New returns an empty registry.
func New(region topology.RegionID) *Registry {
	return &Registry{region: region, last: map[topology.NodeID]topology.Identity{}}
}

// SetDown makes every call fail until it is taken back.
func (r *Registry) SetDown(down bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.down = down
}

// Allocate implements topology.Registry.
func (r *Registry) Allocate(_ context.Context, node topology.NodeID, floor crdt.Actor) (topology.Identity, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.down {
		return topology.Identity{}, ErrDown
	}
	r.seq = max(r.seq, floor.Seq()) + 1
	return r.hand(node, crdt.MakeActor(r.seq, uint8(r.region))), nil
}

// Resume implements topology.Registry.
func (r *Registry) Resume(_ context.Context, node topology.NodeID, id topology.Identity) (topology.Identity, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.down {
		return topology.Identity{}, ErrDown
	}
	if r.last[node] != id {
		return topology.Identity{}, topology.ErrNonceSpent
	}
	return r.hand(node, id.Actor), nil
}

func (r *Registry) hand(node topology.NodeID, a crdt.Actor) topology.Identity {
	r.nonce++
	id := topology.Identity{Actor: a, Nonce: strconv.FormatUint(r.nonce, 36)}
	r.last[node] = id
	return id
}
