package coord

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/geo/regionmap"
	"github.com/atolldb/atoll/node/home"
	"github.com/atolldb/atoll/node/liveness"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/replica"
	"github.com/atolldb/atoll/node/topology"
)

// Config of a coordinator.
type Config struct {
	Self topology.NodeID
	// Keys authenticate contexts, until SetKeys; the same in all regions.
	Keys crdt.Keys
	// HedgeAfter is how long a read waits for an owner before it asks one
	// more; 0 is 25 ms.
	HedgeAfter time.Duration
	// StandInAfter is how long a sloppy write waits for owners that are thought
	// to be up before others stand in for them; 0 is 200 ms.
	StandInAfter time.Duration
	// TwoAcks refuses writes that one owner alone acknowledges, where there are two,
	// in buckets that name no least level for writes.
	TwoAcks bool
	// RegionHedgeAfter is how long a request to another region waits for a node
	// there before it asks one more; 0 is 400 ms. It should be above the round trip
	// time to the farthest region.
	RegionHedgeAfter time.Duration
}

// Deps are what a coordinator works with.
type Deps struct {
	Replica   *replica.Replica
	Transport peer.Transport
	// Topology that holds now. An operation loads it once and again only after
	// it has met somebody who knows of a newer one.
	Topology func() *topology.Topology
	// Regions are the newest known topologies of the other regions. Nil where
	// there are none.
	Regions func() []*topology.Topology
	// Map says which regions are counted and may take writes; nil where there is one
	// region, or all always do. Its content is never nil.
	Map func() regionmap.Known
	// Learn asks a peer for its topology, adopts it if it is newer, and calls
	// then, exactly once, within a few seconds, whether there was anything to
	// learn or not. Nil where the topology never changes.
	Learn func(from topology.NodeID, then func())
	// Isolated says that this node has not known for long whether its topology
	// is the newest: then levels below a quorum are refused. Nil means never.
	Isolated func() bool
	HLC      *hlc.Clock
	// Bucket finds a bucket by name, at once. DefaultBucket is there even when it
	// does not know it. Nil is a Bucket that knows none.
	Bucket func(name string) (Bucket, bool)
	// Refresh finds out which buckets there are now, and calls then, exactly once
	// and before the deadline, with an error if it could not. It is asked before a
	// client hears that there is no such bucket. Nil where buckets never change.
	Refresh func(deadline time.Time, then func(error))
	// Home of a bucket, by what this node knows now; the same that its replica goes
	// by. Nil is what the buckets' definitions say; see HomeOf.
	Home home.Of
	// Alive is this node's opinion of a peer.
	Alive func(topology.NodeID) bool
	// Observe gets the outcome of every request to a peer.
	Observe func(topology.NodeID, error)
	// Slow says that others should be asked first, where there is a choice; Took
	// gets how long work took, also this node's own. Both may be nil.
	Slow func(topology.NodeID, liveness.Kind) bool
	Took func(topology.NodeID, liveness.Kind, time.Duration)
}

// Coordinator runs operations.
type Coordinator struct {
	cfg Config
	Deps
	keys    atomic.Pointer[crdt.Keys]
	stats   Stats
	flights flights
	serials serials
}

// Stats count since start.
type Stats struct {
	Gets, Puts, Forwards, ReadRepairs, Hedges atomic.Uint64
	// Siblings counts reads that showed more than one value.
	Siblings atomic.Uint64
	// ManySiblings counts reads that showed as many as the bucket warns of, and
	// ContextsOmitted answers whose context was too large.
	ManySiblings, ContextsOmitted atomic.Uint64
	// ManySiblingWrites counts writes that left as many as the bucket warns of.
	ManySiblingWrites atomic.Uint64
	// Missed counts applies that an owner did not confirm: anti-entropy will
	// find them.
	Missed atomic.Uint64
	// SessionBehind counts operations that ended since nobody had all that their
	// session knew.
	SessionBehind atomic.Uint64
	// SessionLost counts operations that were told that writes which their session
	// knows are lost for good.
	SessionLost atomic.Uint64
	// TooOld counts reads that were refused since the answer would have been too
	// old.
	TooOld atomic.Uint64
	// Hints counts requests to stand in for an owner.
	Hints atomic.Uint64
	// Serials counts operations at serial levels, and reads that finished what was
	// undecided; SerialContended those that others outbid to the end.
	Serials, SerialContended atomic.Uint64
	// Settled counts keys of which something had been undecided for long, and that were
	// settled though nobody asked for them.
	Settled atomic.Uint64
	// Homeward counts operations that were sent to another region, which is the home
	// of their bucket, and Fenced those that were refused since that had moved, or
	// decides nothing.
	Homeward, Fenced atomic.Uint64
	// Joined counts reads that shared another one's answer.
	Joined atomic.Uint64
	// Stale counts requests that were refused because the topology of this node,
	// or the peer's, was not the newest; see stale.go.
	Stale atomic.Uint64
	// Partial counts writes that hold here and are not known to be in as many
	// regions as they should be; RegionRepairs regions whose owners were given
	// what a read found elsewhere.
	Partial, RegionRepairs atomic.Uint64
	Failures               atomic.Uint64
	// Replayed counts retries that found their write done, Doubtful those that
	// could not ask everybody and may be there twice, and Outcomes the questions
	// what became of a write.
	Replayed, Doubtful, Outcomes atomic.Uint64
}

// New returns a coordinator.
func New(cfg Config, deps Deps) *Coordinator {
	if cfg.HedgeAfter == 0 {
		cfg.HedgeAfter = 25 * time.Millisecond
	}
	if cfg.StandInAfter == 0 {
		cfg.StandInAfter = 200 * time.Millisecond
	}
	if cfg.RegionHedgeAfter == 0 {
		cfg.RegionHedgeAfter = 400 * time.Millisecond
	}
	if deps.Bucket == nil {
		deps.Bucket = Static(nil)
	}
	if deps.Home == nil {
		deps.Home = HomeOf(deps.Bucket)
	}
	if deps.Slow == nil {
		deps.Slow = func(topology.NodeID, liveness.Kind) bool { return false }
	}
	if deps.Took == nil {
		deps.Took = func(topology.NodeID, liveness.Kind, time.Duration) {}
	}
	c := &Coordinator{cfg: cfg, Deps: deps}
	c.SetKeys(cfg.Keys)
	c.flights.init()
	return c
}

// SetKeys replaces the keys that authenticate contexts.
func (c *Coordinator) SetKeys(keys crdt.Keys) { c.keys.Store(&keys) }

// Keys that authenticate contexts now.
func (c *Coordinator) Keys() crdt.Keys { return *c.keys.Load() }

// Stats of this coordinator.
func (c *Coordinator) Stats() *Stats { return &c.stats }

// send asks a peer, within the deadline. epoch is that of the topology by which
// the peer was chosen, 0 for what need not be fenced.
func (c *Coordinator) send(to topology.NodeID, epoch topology.Epoch, verb peer.Verb, body []byte, deadline time.Time, done peer.Done) {
	began := time.Now()
	req := peer.Request{Verb: verb, Epoch: epoch, Timeout: max(deadline.Sub(began), time.Millisecond), Body: body}
	c.Transport.Send(to, req, func(reply []byte, err error) {
		if req.Timeout >= liveness.PatienceMin || !errors.Is(err, peer.ErrTimeout) {
			c.Observe(to, err)
		}
		switch verb {
		case peer.VerbRead:
			c.took(to, liveness.Reads, began, err)
		case peer.VerbApply:
			c.took(to, liveness.Writes, began, err)
		}
		done(reply, err)
	})
}

// took tells how long a peer took to answer, or did not in time.
func (c *Coordinator) took(who topology.NodeID, kind liveness.Kind, began time.Time, err error) {
	if err == nil || errors.Is(err, peer.ErrTimeout) {
		c.Took(who, kind, time.Since(began))
	}
}

// alive says whether a node is worth sending to.
func (c *Coordinator) alive(id topology.NodeID) bool { return id == c.cfg.Self || c.Alive(id) }
