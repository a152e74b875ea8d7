package collect

import (
	"cmp"
	"context"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/internal/planted"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/replica"
	"github.com/atolldb/atoll/node/topology"
)

// Config of a collector.
type Config struct {
	Self topology.NodeID
	// Rounds: begin rounds where it is this node's turn. Without it the node
	// takes part in those of others, and keeps the floors that it has.
	Rounds bool
	// Grace is how old a delete is, at least, when it is collected: 24 h by
	// default.
	Grace time.Duration
	// Every is the time between two rounds of a partition: Grace by default.
	Every time.Duration
	// Beat is the time between looks at what is due: 1 min by default.
	Beat time.Duration
	// Spread is the time over which the rounds of all partitions are spread, so
	// that clients meet one now and then only: a tenth of Every by default. Pause
	// is the least between two rounds, 1 s, and what is between those that
	// somebody has asked for.
	Spread, Pause time.Duration
	// Step is how long an owner that is not through is left alone, 1 s by
	// default, Patience how long a round may take in all, 10 min, and Away how
	// long a node may not answer, 10 s and not above Patience.
	Step, Patience, Away time.Duration
}

// Deps are what a collector works with.
type Deps struct {
	Replica   *replica.Replica
	Transport peer.Transport
	Alive     func(topology.NodeID) bool
	// Others are the topologies of the other regions; false while one of them is
	// not known.
	Others func() ([]*topology.Topology, bool)
	// Waiting reports whether hints stamped at or below floor wait here.
	Waiting func(p hashring.Partition, floor hlc.Stamp) (bool, error)
	Now     func() int64 // ms since 1970
	Rand    *rand.Rand   // of Run's goroutine
	Boot    uint64       // drawn at each start
	Log     hclog.Logger
}

// Stats count since start.
type Stats struct {
	// Begun rounds of this node's, those that were completed, and those that came
	// to nothing, by Reason.
	Begun, Done atomic.Uint64
	Off         [maxReasons]atomic.Uint64
	// Listed dead records of the rounds that were completed.
	Listed atomic.Uint64
}

// OffAll is how many rounds came to nothing.
func (s *Stats) OffAll() (n uint64) {
	for i := range s.Off {
		n += s.Off[i].Load()
	}
	return n
}

// ByReason is how many rounds came to nothing for what.
func (s *Stats) ByReason() map[Reason]uint64 {
	by := make(map[Reason]uint64, maxReasons)
	for r := range Reason(maxReasons) {
		by[r] = s.Off[r].Load()
	}
	return by
}

// Stall is a partition whose last round came to nothing.
type Stall struct {
	Partition hashring.Partition
	Since     time.Time
	Why       Cause
}

// Current is the round that this node drives now.
type Current struct {
	Partition hashring.Partition
	Pass      Pass
	// Waits is what the pass was repeated for last, None if it was not.
	Waits Cause
}

// Collector begins rounds and answers those of others. Run owns its goroutine;
// a request is answered on one of its own, of which there are few.
type Collector struct {
	cfg    Config
	deps   Deps
	duty   *Duty
	ledger store
	stats  Stats

	answers  atomic.Int32
	rounds   atomic.Bool
	current  atomic.Pointer[Current]
	lastDone atomic.Int64 // ms since 1970 of the last completed round
	wake     chan struct{}
	// silent nodes are asked whether they are back before a round is begun. Of
	// Run's goroutine.
	silent map[topology.NodeID]bool

	mu     sync.Mutex
	stalls map[hashring.Partition]Stall
	demand *Demand // the last one; replaced, never changed
	// sought are partitions of which somebody waits for writes that nobody has, and
	// soughtAt when that was said last.
	sought   []hashring.Partition
	soughtAt map[hashring.Partition]time.Time
}

// New returns a collector; its Witness is to be given to the replica.
func New(cfg Config, deps Deps) *Collector {
	cfg.Grace = cmp.Or(cfg.Grace, 24*time.Hour)
	cfg.Every = cmp.Or(cfg.Every, cfg.Grace)
	cfg.Beat = cmp.Or(cfg.Beat, time.Minute)
	cfg.Spread = cmp.Or(cfg.Spread, cfg.Every/10)
	cfg.Pause = cmp.Or(cfg.Pause, time.Second)
	cfg.Step = cmp.Or(cfg.Step, time.Second)
	cfg.Patience = cmp.Or(cfg.Patience, 10*time.Minute)
	cfg.Away = min(cmp.Or(cfg.Away, 10*time.Second), cfg.Patience)
	ledger := store{deps.Replica, deps.Waiting}
	c := &Collector{
		cfg: cfg, deps: deps, ledger: ledger, duty: NewDuty(ledger, deps.Boot),
		stalls: map[hashring.Partition]Stall{}, soughtAt: map[hashring.Partition]time.Time{}, silent: map[topology.NodeID]bool{}, wake: make(chan struct{}, 1),
	}
	c.duty.apart = deps.Replica.Apart
	c.rounds.Store(cfg.Rounds)
	return c
}

// SetRounds lets this node begin rounds, or not any more. One that is under way
// goes on.
func (c *Collector) SetRounds(on bool) { c.rounds.Store(on) }

// Stats of this collector.
func (c *Collector) Stats() *Stats { return &c.stats }

// Stalls are the partitions whose rounds this node begins and whose last one came
// to nothing, by partition.
func (c *Collector) Stalls() []Stall {
	c.mu.Lock()
	all := slices.Collect(maps.Values(c.stalls))
	c.mu.Unlock()
	// What another node begins by now, that one tells of.
	all = slices.DeleteFunc(all, func(s Stall) bool { return !c.mine(s.Partition) })
	slices.SortFunc(all, func(a, b Stall) int { return cmp.Compare(a.Partition, b.Partition) })
	return all
}

// Oldest is the lowest completed floor of the partitions that this node has a role
// in, zero if there is none, and never how many of them have no floor yet.
func (c *Collector) Oldest() (floor time.Time, never int) {
	lowest := hlc.Stamp(0)
	for _, p := range c.deps.Replica.Owned() {
		switch f := c.deps.Replica.Floors(p).Completed; {
		case f == 0:
			never++
		case lowest == 0 || f < lowest:
			lowest = f
		}
	}
	if lowest == 0 {
		return time.Time{}, never
	}
	return lowest.Time(), never
}

// Run begins the rounds that are this node's to begin, one after the other, until
// ctx ends.
func (c *Collector) Run(ctx context.Context) error {
	for c.rest(ctx, c.cfg.Beat*4/5+time.Duration(c.deps.Rand.Int64N(int64(c.cfg.Beat*2/5)+1))) {
		c.serveDemand(ctx)
		c.serveSought(ctx)
		owned := c.deps.Replica.Owned()
		for _, p := range owned {
			if ctx.Err() != nil {
				return nil
			}
			c.serveDemand(ctx)
			c.serveSought(ctx)
			if !c.rounds.Load() {
				break
			}
			floor, due := c.due(p)
			if !due {
				continue
			}
			if planted.Bug(planted.DropByAge) {
				c.dropByAge(p, floor)
				continue
			}
			if !c.mine(p) {
				c.calm(p)
				continue
			}
			c.collect(ctx, p, floor)
			c.rest(ctx, max(c.cfg.Pause, c.cfg.Spread/time.Duration(len(owned))))
		}
	}
	return nil
}

// rest for a time, or until somebody asks for rounds.
func (c *Collector) rest(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
	case <-c.wake:
	}
	return ctx.Err() == nil
}

// due returns the floor to propose, and whether it is time to.
func (c *Collector) due(p hashring.Partition) (hlc.Stamp, bool) {
	at := c.deps.Now() - c.cfg.Grace.Milliseconds()
	if at <= 0 {
		return 0, false
	}
	f := c.deps.Replica.Floors(p)
	return hlc.FromMillis(at), at >= f.Completed.Millis()+c.cfg.Every.Milliseconds() && at > f.Promised.Millis()
}

// mine reports whether p's rounds are this node's to begin: the first live server
// in the region with the lowest number. Two who both think so disturb each other's
// rounds, and nothing else.
func (c *Collector) mine(p hashring.Partition) bool {
	top := c.deps.Replica.Topology()
	others, _ := c.deps.Others()
	for _, o := range others {
		if o.RegionID < top.RegionID {
			return false
		}
	}
	for _, s := range top.Row(p).Slots {
		id := s.Serves()
		if id == c.cfg.Self {
			return true
		}
		if c.deps.Alive(id) {
			return false
		}
	}
	return false
}

// owners of p in all regions, each with its region: all who take writes, whether
// they are up or not. It is not complete while a region is not known.
func (c *Collector) owners(p hashring.Partition) (of map[topology.NodeID]topology.Region, all bool) {
	of = map[topology.NodeID]topology.Region{}
	others, all := c.deps.Others()
	for _, t := range append([]*topology.Topology{c.deps.Replica.Topology()}, others...) {
		if int(p) >= t.Table.Partitions() {
			all = false
			continue
		}
		for _, id := range t.Takers(p) {
			of[id] = t.Region
		}
	}
	return of, all
}

// members of all regions that have not left.
func (c *Collector) members() []topology.NodeID {
	var out []topology.NodeID
	others, _ := c.deps.Others()
	for _, t := range append([]*topology.Topology{c.deps.Replica.Topology()}, others...) {
		out = append(out, t.Present()...)
	}
	return out
}

// dropByAge is a planted bug.
func (c *Collector) dropByAge(p hashring.Partition, floor hlc.Stamp) {
	if c.ledger.Raise(p, floor) == nil && c.ledger.Complete(p, floor) == nil {
		_ = c.ledger.Drop(p, floor)
	}
}
