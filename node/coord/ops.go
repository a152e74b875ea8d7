package coord

import (
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/node/home"
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
	// Regions overrides the level when it is not 0: how many regions must
	// answer, the own one among them.
	Regions int
	// Session is the token of an earlier answer, empty for none.
	Session []byte
	// MaxStaleness bounds how old the answer may be in what other regions wrote;
	// 0 is no bound. WaitFresh waits until it is young enough. Freshness asks for
	// Achieved.Freshness.
	MaxStaleness         time.Duration
	WaitFresh, Freshness bool
	// System reads a key of SystemBucket, which no client may.
	System bool
	// Deadline is when the caller stops waiting; it must be set.
	Deadline time.Time
	// home, if another region asks, is the epoch in which it holds this one to be
	// the bucket's home.
	home home.Epoch
}

// GetResult is the answer to a Get. A key that is absent or deleted has no
// live version; it may have a context all the same.
type GetResult struct {
	View crdt.View
	// Context is the client's token, opaque to it.
	Context []byte
	// ContextOmitted: it would be larger than crdt.MaxContext, so there is none,
	// although there are versions.
	ContextOmitted bool
	// Session is the request's token with what this answer shows. SessionDropped
	// is how many partitions had no room in it any more: what the session promises
	// does not hold in them.
	Session        []byte
	SessionDropped int
	Achieved       Achieved
	// rec is what View shows, and more.
	rec crdt.Record
}

// RequestID names a write in all its attempts; zero is none.
type RequestID = crdt.RequestID

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
	Sloppy bool
	// Regions overrides the level when it is not 0: how many regions must have
	// it, the own one among them.
	Regions int
	// RequestID makes all attempts with it one write. Retry says that this is
	// not the first one.
	RequestID RequestID
	Retry     bool
	// Attempt is the ballot of a retry; see replica.Ask. Whoever takes the request
	// from a client leaves it 0.
	Attempt uint64
	// TriedIn are the regions where a retry's earlier attempts were made, this one
	// or others; none stands for any.
	TriedIn []topology.Region
	// Session is the token of an earlier answer, empty for none.
	Session   []byte
	Condition crdt.Condition
	// System writes a key of SystemBucket, which no client may.
	System   bool
	Deadline time.Time
}

// PutResult is the answer to a Put.
type PutResult struct {
	Version crdt.Dot
	Stamp   hlc.Stamp
	// Event is the dot that clocks know the write by. It is Version but for a
	// write that was decided by consensus.
	Event crdt.Dot
	// Context covers this write and what it followed.
	Context []byte
	// ContextOmitted as in GetResult.
	ContextOmitted bool
	// Session is the request's token with this write; SessionDropped as in
	// GetResult.
	Session        []byte
	SessionDropped int
	// MaybeDuplicate: a retry, and somebody who could have taken the earlier
	// attempt could not be asked.
	MaybeDuplicate bool
	// Replayed: an earlier attempt had taken effect.
	Replayed bool
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
	// Reached is the strongest level that the answer fulfils.
	Reached quorum.Level
	// ManySiblings: the key has as many versions as its bucket warns of, or more.
	ManySiblings bool
	// Regions that were asked, the own one too, by levels that leave it.
	Regions []RegionAchieved
	// Freshness of each other region, where it was asked for.
	Freshness []Freshness
}

// RegionAchieved says what a region had to do with an operation.
type RegionAchieved struct {
	Region topology.Region
	State  RegionState
	// Replicas there that acknowledged or took part, and how many it took.
	Replicas, Needed int
	// Detail of a failure, for people.
	Detail string
}

// RegionState is how far a region took part. The numbers are wire format.
type RegionState uint8

// The states.
const (
	RegionReached RegionState = 1
	RegionFailed  RegionState = 2
	RegionUnknown RegionState = 3 // not heard from in time; it may have the write
)

// Freshness says up to when an answer holds everything that a region had
// written: CompleteAsOf in milliseconds since 1970 by that region's clocks, 0
// when it is not known.
type Freshness struct {
	Region       topology.Region
	CompleteAsOf int64
}

// The bounds of what clients send.
const (
	DefaultBucket   = "default"
	MaxKey          = 1024    // bytes
	MaxBucket       = 63      // bytes of [a-z0-9-_.]
	DefaultMaxValue = 1 << 20 // bytes
	MostValue       = 8 << 20 // bytes, for any bucket
	MaxSiblings     = 256     // a write that leaves more is refused
	// DefaultWarnSiblings: from so many on, an answer says that they are many.
	DefaultWarnSiblings = 64
	MaxTimeout          = time.Minute
	DefaultTimeout      = 2 * time.Second
	maxTTL              = 100 * 365 * 24 * time.Hour
)
