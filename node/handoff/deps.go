package handoff

import (
	"context"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/session"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/replica"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/wire"
	"github.com/atolldb/atoll/node/yield"
)

// Config of the parts. What is zero gets its default.
type Config struct {
	Self topology.NodeID
	// PageBytes bounds the records that are asked for at a time, 512 KiB by
	// default. Larger pages cost fewer round trips and delay others more.
	PageBytes int
	// Beat is how often the parts look for something to do while moves are under
	// way, 200 ms by default.
	Beat time.Duration
	// Patience is how long a source does not answer until the copy is made from
	// others, 5 s by default. It is not believed to be dead by that.
	Patience time.Duration
	// DeadAfter is how long a node does not answer the steward until moves go
	// on without it, 30 s by default. It must be longer than operations below a
	// quorum go on without news of the topology.
	DeadAfter time.Duration
	// Lease is for how long a steward leads without saying so again, 10 s by
	// default: how long changes rest when it is lost.
	Lease time.Duration
	// Grace is how long a partition that was given away is kept, 30 s by
	// default.
	Grace time.Duration
}

func (c Config) filled() Config {
	if c.PageBytes == 0 {
		c.PageBytes = 512 << 10
	}
	for _, d := range []struct {
		at  *time.Duration
		def time.Duration
	}{
		{&c.Beat, 200 * time.Millisecond}, {&c.Patience, 5 * time.Second}, {&c.DeadAfter, 30 * time.Second},
		{&c.Lease, 10 * time.Second}, {&c.Grace, 30 * time.Second},
	} {
		if *d.at == 0 {
			*d.at = d.def
		}
	}
	return c
}

// Deps are what the parts work with.
type Deps struct {
	Replica   Replica
	Transport peer.Transport
	// Exchange offers a topology, or nil, to a node, which may be this one, and
	// returns the epoch that is durable there after that.
	Exchange func(ctx context.Context, with topology.NodeID, offer *topology.Topology) (topology.Epoch, error)
	// Keeps lists the owners for whom this node keeps hints; nil where there are none.
	Keeps func() []topology.NodeID
	// Yield slows down for clients what would go at the pace; nil for nobody.
	Yield *yield.Governor
	Log   hclog.Logger
}

// Replica is what is asked of this node's store; *replica.Replica is one.
type Replica interface {
	// Topology in force here, durably.
	Topology() *topology.Topology
	// Clock of a partition that is held, nil for another.
	Clock(hashring.Partition) *crdt.Clock
	// BehindMark is not 0 while this node lacks something of a partition, and
	// CaughtUp says that what had the mark lacks nothing any more.
	BehindMark(hashring.Partition) uint64
	CaughtUp(p hashring.Partition, mark uint64)
	// ApplyFrom joins records, and JoinClock marks a clock's dots as delivered.
	// MeetFloors takes over the floors of a source: before anything from it.
	ApplyFrom(src replica.Source, epoch topology.Epoch, entries []wire.Entry, done func(changed int, err error))
	MeetFloors(ctx context.Context, p hashring.Partition, theirs wire.Floors) error
	// MeetLosses takes over what a source knows to be lost: before its clock.
	MeetLosses(p hashring.Partition, theirs *session.Losses) error
	JoinClock(p hashring.Partition, c *crdt.Clock, done func(error))
	// TakeSerial merges the acceptor states of a source, which ask asks for.
	TakeSerial(ctx context.Context, p hashring.Partition, ask func(ctx context.Context, body []byte) ([]byte, error)) error
	// Leftovers are the partitions with data and without a role here, Pull reads
	// what is in one, and Drop deletes it.
	Leftovers() []hashring.Partition
	Pull(wire.Pull) (wire.Pulled, error)
	// Scan returns a page of what is held of a partition.
	Scan(wire.Scan) (wire.Page, error)
	Drop(p hashring.Partition, done func(error))
}
