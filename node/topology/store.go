package topology

import (
	"context"
	"errors"
	"time"
)

// ErrConflict says that a Swap came too late: the topology has changed since
// it was loaded. Load it again and decide anew.
var ErrConflict = errors.New("the topology has changed since it was read")

// Revision numbers the states of a Store; 0 is that of an empty one.
type Revision uint64

// Store keeps the topology of one region. It is linearizable. All calls give
// up when ctx ends; until then they repeat what was not answered.
type Store interface {
	// Load returns what is stored; nil and 0 when nothing is.
	Load(ctx context.Context) (*Topology, Revision, error)
	// Swap stores t, which must be valid, if the revision still is at and what
	// is stored has a lower epoch, else it returns ErrConflict. After any other
	// error it is not known whether t was stored. (The epoch guards against
	// revisions of a store that has lost its state and counts anew.)
	Swap(ctx context.Context, t *Topology, at Revision) (Revision, error)
	// Watch calls each with what is stored, if anything is, and with what is
	// stored later, until ctx ends; it may leave out all but the newest. It
	// goes on through outages of the store.
	Watch(ctx context.Context, each func(*Topology, Revision)) error
	// Lead returns the node that leads the region's changes: node itself when
	// nobody else does, for ttl from now on; to go on it has to call again
	// before. It says who drives, not who may: that is what Swap is for.
	Lead(ctx context.Context, node NodeID, ttl time.Duration) (NodeID, error)
}

// RegionStore keeps, beside the topology, what a region knows and has promised about
// the map of all regions, as bytes. It is linearizable, and calls end with ctx as
// those of Store do.
type RegionStore interface {
	// LoadRegions returns what is stored; nil and 0 when nothing is.
	LoadRegions(ctx context.Context) ([]byte, Revision, error)
	// SwapRegions stores b if the revision still is at, else it returns ErrConflict.
	// After any other error it is not known whether b was stored.
	SwapRegions(ctx context.Context, b []byte, at Revision) error
}
