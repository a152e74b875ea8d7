package regions

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/atolldb/atoll/geo/regionmap"
	"github.com/atolldb/atoll/internal/planted"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/topology"
)

// Config of Regions.
type Config struct {
	Self   topology.NodeID
	Region topology.Region
	ID     topology.RegionID
	// First is the configured map.
	First *regionmap.Map
}

// Deps are what Regions works with.
type Deps struct {
	// Store of the own region; nil where there is none, and then no change can be
	// made, since nobody could promise anything.
	Store topology.RegionStore
	// Recall returns what was kept on the disk, nil for nothing; Keep replaces it.
	// Both may be nil.
	Recall func() ([]byte, error)
	Keep   func([]byte) error

	Transport peer.Transport
	// Peers are the other nodes of the own region, Others the topologies of the
	// other regions.
	Peers  func() []topology.NodeID
	Others func() []*topology.Topology
	Rand   *rand.Rand
	Log    hclog.Logger
}

// Regions is a node's knowledge of the map. It is safe for concurrent use.
type Regions struct {
	cfg  Config
	deps Deps

	known   atomic.Pointer[regionmap.Known]
	kept    atomic.Uint64 // the number of the map that is on the disk
	leases  leases
	news    chan struct{} // room for one: there is something to tell and keep
	serving chan struct{}

	mu   sync.Mutex // guards rand
	rand *rand.Rand
}

const (
	// beat is how often a node asks for news.
	beat = time.Second
	// tellTimeout bounds a message that tells, voteTimeout one that asks a region's
	// store, and storeTimeout what the store may take.
	tellTimeout, voteTimeout, storeTimeout = time.Second, 4 * time.Second, 3 * time.Second
	maxServing                             = 16
)

// New returns what the disk remembers, or the configured map.
func New(cfg Config, deps Deps) *Regions {
	r := &Regions{cfg: cfg, deps: deps, news: make(chan struct{}, 1), serving: make(chan struct{}, maxServing), rand: deps.Rand}
	first := regionmap.Known{Map: cfg.First}
	if deps.Recall != nil {
		if b, err := deps.Recall(); err != nil {
			deps.Log.Warn("the kept map of regions cannot be read and is learned anew", "error", err)
		} else if b != nil {
			if k, err := regionmap.DecodeKnown(b); err != nil {
				deps.Log.Warn("the kept map of regions cannot be read and is learned anew", "error", err)
			} else {
				first = regionmap.Join(first, k)
			}
		}
	}
	r.known.Store(&first)
	r.kept.Store(first.Map.N)
	return r
}

// Known is what this node knows; its Map is never nil.
func (r *Regions) Known() regionmap.Known { return *r.known.Load() }

// Learn takes what somebody else knows, and reports whether it was news.
func (r *Regions) Learn(k regionmap.Known) bool {
	for {
		old := r.known.Load()
		if !regionmap.News(*old, k) && !(planted.Bug(planted.StaleMap) && k.Map != nil && k.Map != old.Map && !k.Map.Equal(old.Map)) {
			return false
		}
		next := regionmap.Join(*old, k)
		if planted.Bug(planted.StaleMap) {
			next = k
		}
		if !r.known.CompareAndSwap(old, &next) {
			continue
		}
		own := next.Map.State(string(r.cfg.Region))
		if me := next.Map.ByID(uint8(r.cfg.ID)); me != nil {
			own = me.State
		}
		r.deps.Log.Info("the map of regions has changed", "version", next.Map.Version.String(), "contested", next.Contested, "this-region", own.String())
		if next.Contested && !old.Contested {
			r.deps.Log.Error("two contents of the map of regions have one number: consensus of all regions stops until somebody changes the map again", "version", next.Map.Version.String())
		}
		select {
		case r.news <- struct{}{}:
		default: // whoever tells has not looked yet
		}
		return true
	}
}

// Run tells, asks and keeps, until ctx ends.
func (r *Regions) Run(ctx context.Context) error {
	tick := time.NewTicker(beat)
	defer tick.Stop()
	var kept, told *regionmap.Known
	var left lingering
	for {
		k := r.known.Load()
		if k != kept && k.Map.N > 0 && r.keep(*k) {
			kept = k
		}
		if k != told && k.Map.N > 0 {
			r.tellAll(*k)
			told = k
		}
		r.sync(ctx, &left)
		r.ask()
		r.renew()
		select {
		case <-ctx.Done():
			return nil
		case <-r.news:
		case <-tick.C:
		}
	}
}

// keep writes what is known to the disk; it reports whether it is there.
func (r *Regions) keep(k regionmap.Known) bool {
	if r.deps.Keep != nil {
		if err := r.deps.Keep(regionmap.EncodeKnown(k)); err != nil {
			r.deps.Log.Warn("the map of regions is not kept on the disk", "error", err)
			return false
		}
	}
	r.kept.Store(k.Map.N)
	return true
}

// lingering is what the store has accepted and nobody has decided, and since when.
type lingering struct {
	at    regionmap.Ballot
	since time.Time
}

// lingers is how long whoever proposes may take.
const lingers = 3 * time.Second

// sync makes the store of the region and this node know the same.
func (r *Regions) sync(ctx context.Context, left *lingering) {
	if r.deps.Store == nil {
		return
	}
	ctx, stop := context.WithTimeout(ctx, storeTimeout)
	defer stop()
	reg, _, err := r.load(ctx)
	if err != nil {
		r.deps.Log.Debug("the region's store does not tell the map of regions", "error", err)
		return
	}
	r.Learn(reg.Decided)
	switch {
	case reg.Accepted == nil || reg.Accepted.N <= r.Known().Map.N:
		*left = lingering{}
	case left.at != reg.At:
		*left = lingering{reg.At, time.Now()}
	case time.Since(left.since) > lingers:
		left.since = time.Now()
		r.finish(ctx, reg.Promised.Round)
	}
	if k := r.Known(); k.Map.N > 0 && regionmap.News(reg.Decided, k) {
		_, err := r.swap(ctx, func(reg regionmap.Register) (regionmap.Register, error) { return reg.Decide(k), nil })
		if err != nil {
			r.deps.Log.Debug("the region's store does not take the map of regions", "error", err)
		}
	}
}

// ask exchanges what is known with one node of each region.
func (r *Regions) ask() {
	if peers := r.deps.Peers(); len(peers) > 0 {
		r.tell(r.pick(peers), r.Known())
	}
	for _, t := range r.deps.Others() {
		if present := t.Present(); len(present) > 0 {
			r.tell(r.pick(present), r.Known())
		}
	}
}

// tellAll tells all nodes of the own region, and some of each other one.
func (r *Regions) tellAll(k regionmap.Known) {
	for _, id := range r.deps.Peers() {
		r.tell(id, k)
	}
	for _, t := range r.deps.Others() {
		for _, id := range r.some(t.Present(), 3) {
			r.tell(id, k)
		}
	}
}

// tell exchanges what is known with a node. It does not wait.
func (r *Regions) tell(id topology.NodeID, k regionmap.Known) {
	if k.Map.N == 0 {
		k = regionmap.Known{} // what is configured is not told
	}
	body := append([]byte{askTell}, regionmap.EncodeKnown(k)...)
	r.deps.Transport.Send(id, peer.Request{Verb: peer.VerbRegions, Timeout: tellTimeout, Body: body}, func(b []byte, err error) {
		if err != nil {
			return // another one, or the next time
		}
		if theirs, err := regionmap.DecodeKnown(b); err != nil {
			r.deps.Log.Warn("a node tells a map of regions that cannot be read", "from", string(id), "error", err)
		} else {
			r.Learn(theirs)
		}
	})
}

func (r *Regions) pick(ids []topology.NodeID) topology.NodeID { return r.some(ids, 1)[0] }

// some are up to n of ids, by chance.
func (r *Regions) some(ids []topology.NodeID, n int) []topology.NodeID {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]topology.NodeID, 0, n)
	for _, i := range r.rand.Perm(len(ids))[:min(n, len(ids))] {
		out = append(out, ids[i])
	}
	return out
}
