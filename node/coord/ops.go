package coord

import (
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/node/quorum"
	"github.com/atolldb/atoll/node/topology"
)

// Get asks for what a key holds.
type Get struct {
	Bucket string // "" is DefaultBucket
	Key    []byte
	Level  quorum.Level
	// R overrides the level when it is not 0: how many owners must answer.
	R int
	// Deadline is when the caller stops waiting; it must be set.
	Deadline time.Time
}

// GetResult is the answer to a Get. A key that is absent or deleted has no
// live version; it may have a context all the same.
type GetResult struct {
	View crdt.View
	// Context is the client's token, opaque to it.
	Context  []byte
	Achieved Achieved
}

// Put writes a value or, with Delete set, a tombstone.
type Put struct {
	Bucket string
	Key    []byte
	Value  []byte
	// Context is a token from an earlier answer for the same key. Without it
	// a put is blind; a delete without it first reads, and covers what that
	// read saw.
	Context []byte
	Level   quorum.Level
	// W overrides the level when it is not 0: how many owners must have the
	// write durably.
	W int
	// TTL after which the value reads as deleted, 0 for never; whole
	// milliseconds.
	TTL time.Duration
	// Overwrite makes a blind write replace what the minting owner holds.
	Overwrite bool
	Delete    bool
	// Sloppy has healthy nodes that do not own the key stand in where too few
	// owners can acknowledge, one of which must be there; see
	// docs/walkthrough-one-replica-down.md.
	Sloppy   bool
	Deadline time.Time
}

// PutResult is the answer to a Put.
type PutResult struct {
	Version crdt.Dot
	Stamp   hlc.Stamp
	// Context covers this write and what it followed.
	Context  []byte
	Achieved Achieved
}

// Achieved says what an answer rests on.
type Achieved struct {
	// Level that was asked for, and how many owners it took. (While the
	// partition moves, two nodes may be one owner.)
	Level  quorum.Level
	Needed int
	// Replicas that acknowledged a write or took part in a read.
	Replicas []topology.NodeID
	// Coordinator is the node that ran the operation.
	Coordinator topology.NodeID
	// Hinted are the nodes that stood in for owners: they have the write durably
	// and hand it over when the owners are back. They count.
	Hinted []topology.NodeID
	// Degraded: some owners were not asked because they are down, or others
	// stood in for them.
	Degraded bool
}

// The bounds of what clients send.
const (
	DefaultBucket   = "default"
	MaxKey          = 1024    // bytes
	MaxBucket       = 63      // bytes of [a-z0-9-_.]
	DefaultMaxValue = 1 << 20 // bytes
	MaxSiblings     = 256     // a blind write is refused above
	MaxTimeout      = time.Minute
	DefaultTimeout  = 2 * time.Second
	maxTTL          = 100 * 365 * 24 * time.Hour
)
