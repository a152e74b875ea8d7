// Package topology holds the versioned description of who is in a region and
// who owns what, and the seams to whoever keeps it.
//
// In this version membership is static: every node of a region derives the
// same topology from the same configuration, at epoch 1. Every internal
// request carries the epoch all the same, so that changes of topology need no
// change of the wire.
package topology

import (
	"context"
	"errors"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
)

// NodeID names a node, unique over all regions, 1..63 bytes of [a-z0-9-].
type NodeID string

// Epoch numbers the versions of a region's topology, from 1.
type Epoch uint64

// Region names a region: 1..32 bytes of [a-z0-9-].
type Region string

// RegionID is the small number that a region keeps for ever; it is the low
// bits of the region's actors. 1..63.
type RegionID uint8

// Member is one node of a region.
type Member struct {
	ID     NodeID
	Rack   string
	Weight int
	// PeerAddr and ClientAddr are host:port.
	PeerAddr, ClientAddr string
}

// Topology of one region; immutable once published.
type Topology struct {
	Region   Region
	RegionID RegionID
	Epoch    Epoch
	Members  []Member
	// Table maps each partition to its owners, primary first.
	Table hashring.Table
}

// Owners returns the owners of p, the primary first. The slice is shared.
func (t *Topology) Owners(p hashring.Partition) []string { return t.Table.Owners(p) }

// Identity is what a node must hold before it may mint: an actor, and the
// nonce with which it may resume that actor exactly once.
type Identity struct {
	Actor crdt.Actor
	Nonce string
}

// ErrNonceSpent says that a node offered a nonce that is not the one handed
// out last for its actor: its data directory is a copy or an old snapshot.
var ErrNonceSpent = errors.New("nonce was spent: this data directory is a copy or was rolled back")

// Registry is the part of a region's metadata store that hands out actors.
// It is linearizable.
type Registry interface {
	// Allocate returns an identity whose actor no node of the region ever
	// had. The actor's sequence is also above that of floor, the highest
	// actor of the region that the caller has ever seen (0: none), so that a
	// registry that lost its state cannot re-use one.
	Allocate(ctx context.Context, node NodeID, floor crdt.Actor) (Identity, error)
	// Resume spends id.Nonce and returns the same actor with a fresh nonce,
	// or ErrNonceSpent.
	Resume(ctx context.Context, node NodeID, id Identity) (Identity, error)
}
