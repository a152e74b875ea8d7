// Package topology holds the versioned description of who is in a region and
// who owns what, and the seams to whoever keeps it.
//
// A Topology is an immutable value with an epoch. Every change makes a new one
// with a higher epoch (transition.go); a Store keeps the newest by
// compare-and-swap; every node has a copy on its disk and goes on by that when
// the Store is down. A node never goes back to a lower epoch.
//
// Ownership moves slot by slot. A partition has as many slots as replicas; a
// slot is stable, or in transition from one node to another (slot.go). At most
// one slot of a partition is in transition at a time.
//
// Every request between the nodes of a region carries the sender's epoch, and
// each partition has the epoch of its last change: who is asked refuses a read
// or a write of a sender that does not know of that change yet.
package topology

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"sync/atomic"

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

// State of a member, as people decided it. Being down is no state: it is seen
// by each node for itself and moves no data.
type State uint8

// The states of a member. The numbers are disk format.
const (
	Up       State = 0 // may own partitions
	Joining  State = 1 // known, and owns nothing before a plan is committed
	Draining State = 2 // gives away all it owns
	Left     State = 3 // owns nothing and may not come back under this id
)

func (s State) String() string {
	switch s {
	case Up:
		return "up"
	case Joining:
		return "joining"
	case Draining:
		return "draining"
	case Left:
		return "left"
	}
	return "state " + strconv.Itoa(int(s))
}

// Member is one node of a region.
type Member struct {
	ID     NodeID
	Rack   string
	Weight int
	// PeerAddr and ClientAddr are host:port.
	PeerAddr, ClientAddr string
	State                State
}

// Topology of one region; immutable once published. Make a changed one with
// Clone.
type Topology struct {
	Region   Region
	RegionID RegionID
	Epoch    Epoch
	Members  []Member
	// Rules that plans of this region follow.
	Rules hashring.Rules
	// Table maps each partition to its owners, primary first. A slot in
	// transition still has its old owner here.
	Table hashring.Table
	// Since is, per partition, the epoch of the last change of its owners or of
	// a stage of its moves; nil stands for 1 everywhere.
	Since []Epoch
	// Moves that are planned or under way, in the order of their ids.
	Moves []Move
	// Tasks that the moves belong to, and those done last (see MaxDone).
	Tasks []Task
	// Pace bounds what all moves of the region take.
	Pace Pace

	rows atomic.Pointer[[]Row] // made when first asked for
}

// Pace of moves.
type Pace struct {
	// BytesPerSecond that one node receives for its moves; 0 is 64 MiB.
	BytesPerSecond uint64
	// Concurrent partitions in transition in the region; 0 is 16.
	Concurrent int
}

// Owners returns the owners of p in the table, the primary first. The slice is
// shared. What holds while a slot is in transition is in Row.
func (t *Topology) Owners(p hashring.Partition) []string { return t.Table.Owners(p) }

// SinceOf returns the epoch of the last change of p.
func (t *Topology) SinceOf(p hashring.Partition) Epoch {
	if int(p) >= len(t.Since) {
		return 1
	}
	return t.Since[p]
}

// Member returns the member of that id, nil for none.
func (t *Topology) Member(id NodeID) *Member {
	for i := range t.Members {
		if t.Members[i].ID == id {
			return &t.Members[i]
		}
	}
	return nil
}

// Present are the ids of the members that have not left, in order.
func (t *Topology) Present() []NodeID {
	ids := make([]NodeID, 0, len(t.Members))
	for _, m := range t.Members {
		if m.State != Left {
			ids = append(ids, m.ID)
		}
	}
	slices.Sort(ids)
	return ids
}

// Clone returns a copy with slices of its own, to be changed before it is
// published. (Tables are immutable.)
func (t *Topology) Clone() *Topology {
	return &Topology{
		Region: t.Region, RegionID: t.RegionID, Epoch: t.Epoch,
		Members: slices.Clone(t.Members), Rules: t.Rules, Table: t.Table, Since: slices.Clone(t.Since),
		Moves: slices.Clone(t.Moves), Tasks: slices.Clone(t.Tasks), Pace: t.Pace,
	}
}

// Identity is what a node must hold before it may mint: an actor, and the
// nonce with which it may resume that actor exactly once.
type Identity struct {
	Actor crdt.Actor
	Nonce string
	// Before is the actor that the node had before this one, which nobody has any
	// more; 0 where that is not known. Only of Allocate.
	Before crdt.Actor
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
