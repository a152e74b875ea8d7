package admin

import (
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/geo"
	"github.com/atolldb/atoll/geo/regionmap"
	"github.com/atolldb/atoll/node/api"
	"github.com/atolldb/atoll/node/collect"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/hint"
	"github.com/atolldb/atoll/node/liveness"
	"github.com/atolldb/atoll/node/regions"
	"github.com/atolldb/atoll/node/repair"
	"github.com/atolldb/atoll/node/replica"
	"github.com/atolldb/atoll/node/storage"
	"github.com/atolldb/atoll/node/topology"
)

// Figures are what a node knows of itself at a moment.
type Figures struct {
	// Ready: it may mint and answers for all its partitions.
	Ready bool
	// Actor that the node mints with, 0 for none.
	Actor                              crdt.Actor
	PartitionsOwned, PartitionsPrimary int
	// PartitionsBehind lack something, Leftovers were given away and not deleted
	// yet.
	PartitionsBehind, Leftovers int
	// OpenGaps are dots that the clocks lack below their highest.
	OpenGaps uint64
	// ClockAhead of those of the region's other nodes, and ClockOff while that is so
	// much that the node mints nothing.
	ClockAhead time.Duration
	ClockOff   bool
	PeersDown  []topology.NodeID
	Coord      *coord.Stats
	Repair     *repair.Stats
	// Waiting operations, for what their sessions know.
	Waiting int
	// OnDemand is the repair that somebody asked for last.
	OnDemand repair.Progress
	Replica  *replica.Stats
	// Collect is what this node tells of tombstone collection, and CollectOff its
	// rounds that came to nothing.
	Collect    collect.Report
	CollectOff map[collect.Reason]uint64
	// Secrets are the marks of those in force, the one that signs first.
	Secrets []string
	// Buckets that this node knows, and when it last read them from the store; the
	// zero time is never.
	Buckets     int
	BucketsRead time.Time
	// Unreadable records that have not been healed yet, and Quarantined stores
	// in the data directory.
	Unreadable, Quarantined int
	// BackgroundRate is what clients allow to copies and repair, in bytes a second.
	BackgroundRate uint64
	// Changes of membership.
	Changes Changes
	// Map of the regions, as this node knows it; its Map is nil where there is one.
	Map regionmap.Known
	// Lease is what this node holds by it.
	Lease regions.LeaseStats
	// Hints, and what is Owed to whom.
	Hints   *hint.Stats
	Owed    []hint.Owed
	Commits storage.CommitterStats
	// Usage is zero when it could not be told.
	Usage storage.Usage
	// Pump is nil where there is one region; Unconfirmed are minted dots that
	// the own log has not confirmed.
	Pump        *geo.PumpStats
	Unconfirmed uint64
	// Log is the own region's, nil before it was looked at.
	Log *geo.LogState
	// Drains are of the regions that this node drains.
	Drains map[topology.Region]geo.DrainStats
	// NeedFullSync are the regions whose missing dots this node's index has given up.
	NeedFullSync []topology.Region
	// Incoming and Outgoing are about the partitions that this node looks after, as
	// is CompleteAsOf: up to when it has all that a region had written, by that
	// one's clocks, zero for not known.
	Incoming, Outgoing []geo.LagReport
	CompleteAsOf       map[topology.Region]time.Time
	// ConvergedAsOf is since when each of those partitions was found equal to an
	// owner's in the region at least once, clocks and digests; zero for not yet.
	ConvergedAsOf map[topology.Region]time.Time
	// Peers are the nodes of the region, this one too, as this one finds them.
	Peers map[topology.NodeID]liveness.PeerStats
	// Metadata is nil until it was told.
	Metadata *Metadata
	// Rim is nil until clients are served. HotShare is the part, 0..1, of their
	// requests that is for the key asked for most.
	Rim      *api.LimiterStats
	HotShare float64
	// Asking are the links by which this node asks others, Asked those by
	// which others ask it.
	Asking, Asked map[topology.NodeID]Link
}

// Metadata is what the region's metadata servers tell of themselves.
type Metadata struct {
	// Servers are all of them. Up are those that the one that leads hears, itself too; 0
	// while none leads, or none answers.
	Servers, Up int
}

// Changes is what a node sees of changes of the region's membership.
type Changes struct {
	Epoch topology.Epoch
	// Isolated: the node does not know whether that epoch is the newest.
	Isolated bool
	// StoreSilence is for how long the metadata servers have not answered this node.
	StoreSilence time.Duration
	// Leads: this node drives the moves.
	Leads bool
	// Moves that are not done, by stage, and tasks that have not ended.
	Moves           [topology.Switched + 1]int
	Running, Paused int
	// Copies that come to this node, and bytes Received since it started.
	Copies   int
	Received uint64
}

// Link is what went over the links with one node.
type Link struct {
	Up                               bool
	MessagesOut, BytesOut, FramesOut uint64
	MessagesIn, BytesIn, FramesIn    uint64
	Sessions, Refused                uint64
	Pending                          int
}
