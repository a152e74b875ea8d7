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
)

// Which other regions this node has to do with is what it was configured with, less
// those that the map of regions says were removed. All that asks who the others are
// asks the book of their topologies, each time; what keeps something for each of them
// (drains, lag, freshness, the consumers of the own log) is brought into line here.

const abroadBeat = 200 * time.Millisecond

// abroad runs what this node does for each other region.
type abroad struct {
	n *Node

	mu sync.Mutex
	of map[topology.Region]*origin
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

func newAbroad(n *Node) *abroad { return &abroad{n: n, of: map[topology.Region]*origin{}} }

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
		for _, r := range m.Regions {
			if m.State(r.Name) == regionmap.Removed && !slices.Contains(a.gone, r.Name) {
				a.gone = append(a.gone, r.Name)
			}
		}
	}
	for _, t := range n.deps.Others.All() {
		if a.of[t.Region] == nil && n.deps.Feeds[t.Region] != nil {
			n.lag.Add(time.Now(), string(t.Region))
			a.of[t.Region] = &origin{id: t.RegionID, drain: a.newDrain(t.Region)}
		}
	}
}

func (a *abroad) newDrain(from topology.Region) *geo.Drain {
	n := a.n
	return geo.NewDrain(geo.DrainConfig{
		Region: string(n.Topology().Region), Origin: string(from), Fetcher: fetcher{n}, ClaimRate: n.cfg.ClaimBytes,
	}, n.deps.Feeds[from], n.coord, n.drainEvents(string(from)), n.deps.Logger.Named("drain").With("origin", string(from)))
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
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var running sync.WaitGroup
	defer running.Wait()
	failed := make(chan error, 1)
	beat := time.NewTicker(abroadBeat)
	defer beat.Stop()
	var seen *regionmap.Map
	for {
		if m := a.n.RegionMap().Map; m != seen {
			a.follow(m)
			seen = m
		}
		a.tidy(ctx, &running, failed)
		select {
		case err := <-failed:
			return err
		case <-ctx.Done():
			return nil
		case <-beat.C:
		}
	}
}

// tidy starts the drains that do not run, and ends those of regions that have gone.
func (a *abroad) tidy(ctx context.Context, running *sync.WaitGroup, failed chan<- error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for name, o := range a.of {
		if t := a.n.deps.Others.Get(name); t == nil || t.RegionID != o.id {
			if o.stop != nil {
				o.stop()
				<-o.done // it applies nothing after that
			}
			a.n.lag.Drop(string(name))
			a.n.fresh.Drop(string(name))
			delete(a.of, name)
			continue
		}
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
