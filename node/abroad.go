package node

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/atolldb/atoll/geo"
	"github.com/atolldb/atoll/geo/regionmap"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/yield"
)

// Which other regions this node has to do with is what it was configured with, less
// those that the map of regions says were removed, and those that came in by the map.
// All that asks who the others are asks the book of their topologies, each time; what
// keeps something for each of them (drains, lag, freshness, the consumers of the own
// log) is brought into line here.

const (
	abroadBeat   = 200 * time.Millisecond
	reachTimeout = 3 * time.Second
)

// abroad runs what this node does for each other region.
type abroad struct {
	n *Node

	mu sync.Mutex
	// feeds are those that were made by Deps.Admit, by number; nil for one that
	// could not be.
	feeds map[topology.RegionID]geo.Feed
	of    map[topology.Region]*origin
	// gone are the names that nobody has any more who was removed.
	gone []string
}

// origin is a region whose log is pulled.
type origin struct {
	id    topology.RegionID
	drain *geo.Drain
	stop  context.CancelFunc // nil before it runs
	done  chan struct{}
}

func newAbroad(n *Node) *abroad {
	return &abroad{n: n, of: map[topology.Region]*origin{}, feeds: map[topology.RegionID]geo.Feed{}}
}

// follow brings everything into line with a map, nil for as it is configured. What
// runs is started and stopped by Run.
func (a *abroad) follow(m *regionmap.Map) {
	n := a.n
	if m != nil && m.N > 0 {
		removed := m.Gone(uint8(n.cfg.Topology.RegionID)) // then nobody is of any concern
		for _, t := range n.deps.Others.All() {
			if removed || m.Gone(uint8(t.RegionID)) {
				n.log.Info("another region has gone from the map of regions", "of", string(t.Region), "id", int(t.RegionID))
				n.deps.Others.Retire(t.Region)
			}
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.gone = nil
	if m != nil {
		a.admit(m)
		for _, r := range m.Regions {
			if m.State(r.Name) == regionmap.Removed && !slices.Contains(a.gone, r.Name) {
				a.gone = append(a.gone, r.Name)
			}
		}
	}
	for _, t := range n.deps.Others.All() {
		feed := a.feeds[t.RegionID]
		if feed == nil {
			feed = n.deps.Feeds[t.Region]
		}
		// One that has gone and still runs is ended first (tidy); this is called again.
		if a.of[t.Region] == nil && feed != nil {
			n.lag.Add(time.Now(), string(t.Region))
			a.of[t.Region] = &origin{id: t.RegionID, drain: a.newDrain(t.Region, feed)}
		}
	}
}

// admit takes in the regions that came in by the map, which is held.
func (a *abroad) admit(m *regionmap.Map) {
	n := a.n
	own := uint8(n.cfg.Topology.RegionID)
	if n.deps.Admit == nil || m.Gone(own) {
		return
	}
	for _, r := range m.Regions {
		id := topology.RegionID(r.ID)
		if _, tried := a.feeds[id]; tried || r.ID == own || r.State == regionmap.Removed || r.Contact.Empty() || n.deps.Others.Get(topology.Region(r.Name)) != nil {
			continue
		}
		t, feed, err := n.deps.Admit(r)
		a.feeds[id] = feed
		if err != nil {
			n.log.Error("a region came in that this node cannot speak with", "of", r.Name, "id", int(r.ID), "error", err)
			continue
		}
		n.deps.Others.Admit(t)
		n.log.Info("another region has come in", "of", r.Name, "id", int(r.ID), "members", len(t.Members))
	}
}

func (a *abroad) newDrain(from topology.Region, feed geo.Feed) *geo.Drain {
	n := a.n
	pace := &yield.Pacer{Governor: n.yield}
	return geo.NewDrain(geo.DrainConfig{
		Region: string(n.Topology().Region), Origin: string(from), Fetcher: fetcher{n}, ClaimRate: n.cfg.ClaimBytes,
		Pay: pace.PayAtLeast, Owed: func() (uint64, time.Duration) { return n.owed(from) },
	}, feed, n.coord, n.drainEvents(string(from)), n.deps.Logger.Named("drain").With("origin", string(from)))
}

// owed is what is known to be missing of a region's writes that this node is to pull, in
// bytes, and in what time it came to be: its part of what the whole region lacks, by what
// the partitions lack that it stores.
func (n *Node) owed(from topology.Region) (bytes uint64, span time.Duration) {
	bytes, span = n.lag.Owed(time.Now(), string(from))
	top := n.Topology()
	return toPull(bytes, len(n.replica.Owned()), top.Table.Partitions(), len(top.Present())), span
}

// toPull is what one of those who pull has to, of a region of so many nodes that lacks
// bytes in stored of its partitions.
func toPull(bytes uint64, stored, partitions, nodes int) uint64 {
	return bytes * uint64(partitions) / uint64(max(stored, 1)*min(drainers, max(nodes, 1)))
}

// hears says whether heartbeats of another region come by its log.
func (n *Node) hears(region topology.Region) bool {
	return n.lag != nil && n.lag.Alive(time.Now(), string(region))
}

// drains are those of the regions that there are.
func (a *abroad) drains() (out []*geo.Drain) {
	if a == nil {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, o := range a.of {
		out = append(out, o.drain)
	}
	return out
}

// Run drains the other regions that there are, until ctx ends or a drain fails.
func (a *abroad) Run(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	ctx, stop := context.WithCancel(ctx)
	defer stop() // before they are waited for: one that fails ends the others
	failed := make(chan error, 1)
	beat := time.NewTicker(abroadBeat)
	defer beat.Stop()
	var seen *regionmap.Map
	for {
		m := a.n.RegionMap().Map
		if m != seen {
			a.follow(m)
		}
		if a.tidy(ctx, &running, failed) { // one of the same name may be waiting
			a.follow(m)
			a.tidy(ctx, &running, failed)
		}
		seen = m
		select {
		case err := <-failed:
			return err
		case <-ctx.Done():
			return nil
		case <-beat.C:
		}
	}
}

// tidy starts the drains that do not run, and ends those of regions that have gone; it
// reports whether there were any.
func (a *abroad) tidy(ctx context.Context, running *sync.WaitGroup, failed chan<- error) (ended bool) {
	for name, o := range a.over() {
		if o.stop != nil {
			o.stop()
			<-o.done // it applies nothing after that
		}
		a.n.lag.Drop(string(name))
		a.n.fresh.Drop(string(name))
		a.mu.Lock()
		delete(a.of, name)
		a.mu.Unlock()
		ended = true
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for name, o := range a.of {
		if o.stop != nil {
			continue
		}
		var runs context.Context
		runs, o.stop = context.WithCancel(ctx)
		o.done = make(chan struct{})
		running.Go(func() {
			defer close(o.done)
			if err := (duty{a.n, o.drain}).Run(runs); err != nil && runs.Err() == nil {
				select {
				case failed <- fmt.Errorf("drain of %s: %w", name, err):
				default:
				}
			}
		})
	}
	if log, ok := a.n.deps.GeoLog.(geo.Releasing); ok && len(a.gone) > 0 {
		log.Release(a.gone)
	}
	return ended
}

// over are the origins that there are no more. Only Run changes what there are.
func (a *abroad) over() map[topology.Region]*origin {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := map[topology.Region]*origin{}
	for name, o := range a.of {
		if t := a.n.deps.Others.Get(name); t == nil || t.RegionID != o.id {
			out[name] = o
		}
	}
	return out
}

// refusesRemoved answers a node of a region that was removed: it is told so when it
// asks for the map of regions, and gets nothing else.
func (n *Node) refusesRemoved(from topology.NodeID, req peer.Request, reply peer.Done) bool {
	if req.Verb == peer.VerbRegions {
		return false
	}
	region := n.deps.Others.LeftWith(from)
	if region == "" || n.removedHere() {
		return false
	}
	reply(nil, &peer.Refusal{Code: peer.CodeInvalid, Detail: fmt.Sprintf("region %s was removed", region)})
	return true
}

// removedHere says that the own region was removed.
func (n *Node) removedHere() bool {
	m := n.RegionMap().Map
	return m != nil && m.N > 0 && m.Gone(uint8(n.cfg.Topology.RegionID))
}

// keptOnlyIn are the buckets that no region keeps but one.
func (n *Node) keptOnlyIn(region string) (out []string) {
	table, _ := n.buckets.Known()
	for i := range table {
		if r := table[i].Regions; len(r) == 1 && r[0] == region {
			out = append(out, table[i].Name)
		}
	}
	return out
}

// knowsNode says that an id is that of a node of any region, or was of one of a region
// that was removed.
func (n *Node) knowsNode(id topology.NodeID) bool {
	for _, t := range append(append(n.deps.Others.All(), n.deps.Others.Gone()...), n.Topology()) {
		if t.Member(id) != nil {
			return true
		}
	}
	return false
}

func (n *Node) reach(ctx context.Context, at string) error {
	if n.deps.Reach == nil {
		return nil
	}
	ctx, stop := context.WithTimeout(ctx, reachTimeout)
	defer stop()
	return n.deps.Reach(ctx, at)
}
