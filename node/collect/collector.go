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
	// Beat is the time between looks at what is due, and between two rounds of
	// this node: 1 min and a hundredth of it by default.
	Beat, Pause time.Duration
	// Step is how long an owner that is not through is left alone, 1 s by
	// default, and Patience how long a round may take in all, 10 min.
	Step, Patience time.Duration
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
	// Begun rounds of this node's, and what became of them.
	Begun, Done, Off atomic.Uint64
	// Listed dead records of the rounds that were completed.
	Listed atomic.Uint64
}

// Stall is a partition whose last round came to nothing.
type Stall struct {
	Partition hashring.Partition
	Since     time.Time
	Why       string
}

// Collector begins rounds and answers those of others. Run owns its goroutine;
// a request is answered on one of its own, of which there are few.
type Collector struct {
	cfg    Config
	deps   Deps
	duty   *Duty
	ledger store
	stats  Stats

	answers atomic.Int32
	rounds  atomic.Bool

	mu     sync.Mutex
	stalls map[hashring.Partition]Stall
}

// New returns a collector; its Witness is to be given to the replica.
func New(cfg Config, deps Deps) *Collector {
	cfg.Grace = cmp.Or(cfg.Grace, 24*time.Hour)
	cfg.Every = cmp.Or(cfg.Every, cfg.Grace)
	cfg.Beat = cmp.Or(cfg.Beat, time.Minute)
	cfg.Pause = cmp.Or(cfg.Pause, cfg.Beat/100)
	cfg.Step = cmp.Or(cfg.Step, time.Second)
	cfg.Patience = cmp.Or(cfg.Patience, 10*time.Minute)
	ledger := store{deps.Replica, deps.Waiting}
	c := &Collector{
		cfg: cfg, deps: deps, ledger: ledger, duty: NewDuty(ledger, deps.Boot),
		stalls: map[hashring.Partition]Stall{},
	}
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
	defer c.mu.Unlock()
	return slices.SortedFunc(maps.Values(c.stalls), func(a, b Stall) int { return cmp.Compare(a.Partition, b.Partition) })
}

// Oldest is the lowest completed floor of the partitions that this node has a role
// in; false while one of them was never collected, or there is none.
func (c *Collector) Oldest() (floor time.Time, ok bool) {
	lowest := hlc.Stamp(0)
	for _, p := range c.deps.Replica.Owned() {
		f := c.deps.Replica.Floors(p).Completed
		if f == 0 {
			return time.Time{}, false
		}
		if lowest == 0 || f < lowest {
			lowest = f
		}
	}
	return lowest.Time(), lowest != 0
}

// Run begins the rounds that are this node's to begin, one after the other, until
// ctx ends.
func (c *Collector) Run(ctx context.Context) error {
	for c.sleep(ctx, c.cfg.Beat*4/5+time.Duration(c.deps.Rand.Int64N(int64(c.cfg.Beat*2/5)+1))) {
		for _, p := range c.deps.Replica.Owned() {
			if ctx.Err() != nil {
				return nil
			}
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
			c.sleep(ctx, c.cfg.Pause)
		}
	}
	return nil
}

func (c *Collector) sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
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
