// Package repair keeps owners equal: it compares this node with the other
// owners of its partitions, in this region and in others, and fetches what it
// lacks. First by clocks, which say what was delivered: O(1) when equal,
// O(difference) otherwise. Then, where clocks are equal, by digests, which say
// what is held: a difference there means that somebody lost or rolled back a
// record. DESIGN.md tells the whole of it.
//
// It only pulls, with one exception: a range of a partition whose digests
// differ is joined both ways. What it fetches ends in Apply. It does not fill a
// partition that is moving to this node: that is handoff's copier.
//
// Invariants:
//
//	A1  Nothing is inferred from absence: both sides keep what only they have.
//	A2  A clock is joined only after every record that it speaks for.
//	A3  Equal partitions cost 18 bytes a round and no read of the store.
//	A4  Nobody waits for somebody else: an owner or a region that does not
//	    answer holds up its own rounds only.
//	A5  An index entry is given up only when every owner in every region that
//	    the topologies name said that it has the dot. Where that was wrong,
//	    what follows is a full sync.
//	A6  What the replica is told that all hold, every owner in every region that
//	    the topologies name said that it has, durably; also one that pruning
//	    does not wait for.
//
// Run owns all goroutines, those of a Repair too, which ends with Run.
package repair

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/replica"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/wire"
	"github.com/atolldb/atoll/node/yield"
)

// Config of a repairer.
type Config struct {
	Self topology.NodeID
	// Beat is the time between rounds with the peers of the region, 1 s by
	// default; RegionBeat that with other regions, 3 s. What is missing for
	// less than one beat is taken to be on its way.
	Beat, RegionBeat time.Duration
	// ScrubPass is how long a recount of all partitions from the store takes,
	// paced evenly: 7 days by default.
	ScrubPass time.Duration
	// PruneBeat is the time between looks at which dots every owner has, whose
	// index entries are then deleted: 10 min by default. An entry takes about
	// its key and 24 bytes.
	PruneBeat time.Duration
	// IndexBytes is how large the dot index may become while another region is
	// away; 1 GiB by default. Above it that region needs a full sync when it
	// returns. It is looked at each PruneBeat, so that it may be passed by what is
	// written in that time.
	IndexBytes uint64
	// PageBytes bounds one reply; 1 MiB by default.
	PageBytes int
	// RepairBytes is how much this node fetches in a second when it has nothing
	// else to do; 64 MiB by default. See rate and package yield for when it is
	// busy.
	RepairBytes uint64
	// LittleLate is up to how many overdue dots of another region are fetched, though its
	// log may bring them yet; 256 by default.
	LittleLate uint64
}

// Region is another region, as far as repair needs to know it.
type Region struct {
	Name topology.Region
	// Topology of the region, as far as it is known here; nil when it has not
	// been learned yet. Then nothing is compared with the region, and no index
	// is pruned.
	Topology *topology.Topology
}

// Deps are what a repairer works with.
type Deps struct {
	Replica   *replica.Replica
	Transport peer.Transport
	// Topology that holds now.
	Topology func() *topology.Topology
	Alive    func(topology.NodeID) bool
	// AliveAfar is Alive for nodes of other regions; nil for always.
	AliveAfar func(topology.NodeID) bool
	// Up tells of peers that have come back.
	Up <-chan topology.NodeID
	// Gap is poked when another region's log has lost something.
	Gap <-chan struct{}
	// Hears says whether heartbeats of another region come by its log; nil for never. Then
	// what is late comes by it, too.
	Hears func(topology.Region) bool
	// Regions are the others, all of them; nil for none. ApplyRemote spreads
	// what was pulled from one of them over this region's owners.
	Regions     func() []Region
	ApplyRemote func(ctx context.Context, origin string, entries []wire.Entry) error
	// Busy says how busy the node is with its clients, 0 to 1; nil for never.
	Busy func() float64
	// Yield slows down for clients what would go at RepairBytes; nil for nobody.
	Yield *yield.Governor
	Rand  *rand.Rand
	Log   hclog.Logger
}

// Bounds of what runs at once.
const (
	nearRounds = 4 // rounds with peers
	settlers   = 4 // partitions of one round that are settled
	farNodes   = 4 // nodes of another region
)

// Repairer compares and fetches.
type Repairer struct {
	cfg Config
	Deps
	stats Stats

	// peers is touched by the near loop only, regions by the far loop only.
	peers   map[topology.NodeID]*other
	epoch   topology.Epoch // that peers were made for
	regions map[topology.Region]*far

	wanted   wanted
	unwaited unwaited
	met      met
	known    known
	equal    equal
	pace     yield.Pacer
	near     claims        // partitions that are being filled from peers,
	far      claims        // and from other regions
	counting chan struct{} // has an element while one recounts,
	healing  chan struct{} // or heals
	pauses   pauses
	task     tasks

	rand struct {
		sync.Mutex
		*rand.Rand
	}
}

// New returns a repairer.
func New(cfg Config, deps Deps) *Repairer {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&cfg.Beat, time.Second)
	def(&cfg.RegionBeat, 3*time.Second)
	def(&cfg.ScrubPass, 7*24*time.Hour)
	def(&cfg.PruneBeat, 10*time.Minute)
	if cfg.PageBytes == 0 {
		cfg.PageBytes = 1 << 20
	}
	if cfg.IndexBytes == 0 {
		cfg.IndexBytes = 1 << 30
	}
	if cfg.RepairBytes == 0 {
		cfg.RepairBytes = 64 << 20
	}
	if cfg.LittleLate == 0 {
		cfg.LittleLate = 256
	}
	if deps.Regions == nil {
		deps.Regions = func() []Region { return nil }
	}
	if deps.AliveAfar == nil {
		deps.AliveAfar = func(topology.NodeID) bool { return true }
	}
	if deps.Hears == nil {
		deps.Hears = func(topology.Region) bool { return false }
	}
	if deps.Busy == nil {
		deps.Busy = func() float64 { return 0 }
	}
	r := &Repairer{
		cfg: cfg, Deps: deps,
		peers: map[topology.NodeID]*other{}, regions: map[topology.Region]*far{},
		counting: make(chan struct{}, 1), healing: make(chan struct{}, 1),
	}
	r.wanted.parts, r.wanted.wake = map[hashring.Partition]*want{}, make(chan struct{}, 1)
	r.rand.Rand, r.pace.Governor = deps.Rand, deps.Yield
	return r
}

// Stats of this repairer.
func (r *Repairer) Stats() *Stats { return &r.stats }

// Run compares until ctx ends, and returns when all that it started has ended.
func (r *Repairer) Run(ctx context.Context) error {
	r.task.open(ctx)
	defer r.task.close()
	var loops sync.WaitGroup
	for _, loop := range []func(context.Context){r.nearLoop, r.farLoop, r.scrubLoop, r.healLoop, r.pruneLoop, r.heldLoop, r.wantLoop} {
		loops.Go(func() { loop(ctx) })
	}
	loops.Wait()
	return nil
}

// jitter returns d, more or less a fifth.
func (r *Repairer) jitter(d time.Duration) time.Duration {
	r.rand.Lock()
	defer r.rand.Unlock()
	return d*4/5 + time.Duration(r.rand.Int64N(int64(d*2/5)+1))
}

// parts are the partitions that this node answers for, or has answered for
// until a moment ago. (What it is only about to own is handoff's to fill.)
func (r *Repairer) parts(top *topology.Topology) []hashring.Partition {
	var out []hashring.Partition
	for p := range hashring.Partition(top.Table.Partitions()) {
		if keeps(top, p, r.cfg.Self) && r.Replica.Owns(p) {
			out = append(out, p)
		}
	}
	return out
}
