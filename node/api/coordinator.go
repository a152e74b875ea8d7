package api

import (
	"context"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/topology"
)

// Coordinator runs operations of clients. Its methods return at once; done is
// called exactly once, from any goroutine, possibly before the method returns,
// and at the operation's deadline at the latest. It must not change what it
// was given, and what it hands to done nobody changes.
type Coordinator interface {
	Get(g coord.Get, done func(coord.GetResult, error))
	Put(p coord.Put, done func(coord.PutResult, error))
	// Outcome tells what became of a write, and ends its request where it was not
	// carried out.
	Outcome(o coord.OutcomeQuery, done func(coord.OutcomeResult, error))
	Await(a coord.Await, done func([]coord.RegionAchieved, error))
}

// Cluster answers operators and clients that route by themselves.
type Cluster interface {
	// Topology in force; immutable.
	Topology() *topology.Topology
	// Status asks every node of the region. A node that does not answer has
	// an entry with Error set.
	Status(ctx context.Context) (Status, error)
	// Export yields every record of a bucket ("" for all), tombstones
	// included, merged over a quorum of owners, in the order of key hash,
	// then key. It stops with the first error of yield. What was yielded
	// stays unchanged.
	Export(ctx context.Context, bucket string, yield func(ExportedRecord) error) error
}

// ExportedRecord is one key with everything that is known of it.
type ExportedRecord struct {
	Bucket string
	Key    []byte
	Record crdt.Record
}

// Status of a region, as its nodes see it.
type Status struct {
	Nodes []NodeStatus
	Links []LinkStatus
}

// MetadataLate is for how long the metadata servers do not answer a node before people
// are told: three times what it waits before it asks them again.
const MetadataLate = 45 * time.Second

// NodeStatus is what one node says of itself.
type NodeStatus struct {
	ID topology.NodeID
	// Error is set, and the rest is not, when the node did not answer.
	Error                              string
	Actor                              crdt.Actor
	Ready                              bool
	PartitionsOwned, PartitionsPrimary int
	OpenGaps                           uint64 // dots that clocks lack below their highest
	ClockDigest, DataDigest            uint64 // over all owned partitions
	RepairedKeys, ReadRepairs          uint64 // since the node started
	StoreBytes, DiskFree, DiskTotal    int64
	DiskNeeds                          int64  // that have to be free for it to take writes
	GeoPending                         uint64 // minted dots that the log has not confirmed
	Uptime                             time.Duration
	Version                            string
	PeersDown                          []topology.NodeID
	Epoch                              topology.Epoch // durable there
	PartitionsBehind                   int            // owned and not served yet
	Leftovers                          int            // partitions held and not owned any more
	Hints, HintBytes                   uint64         // that wait here for owners that were away
	Unreadable                         uint64         // records spoiled by the disk and not repaired yet
	ClockAhead                         time.Duration  // of the other nodes' clocks
	ClockOff                           bool           // by so much that the node mints nothing
	DiskFull                           bool           // so that the node refuses writes
	MetadataSilent                     time.Duration  // since the metadata servers answered it
	MetadataServer                     bool           // it runs one of them
	MetadataServers                    int            // that there are by what its own knows; 0 for not known
	MetadataBehind                     bool           // it runs one that has not had all yet since it was started
}

// LinkStatus is what this region lacks of another one, by one node's account.
type LinkStatus struct {
	Origin       topology.Region
	Node         topology.NodeID
	Alive        bool
	HeartbeatAge time.Duration
	Pending      uint64        // writes known to exist there and missing here
	Oldest       time.Duration // age of the oldest of them, 0 for none
	PendingBytes uint64
}
