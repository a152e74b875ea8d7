package client

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"

	adminv1 "github.com/atolldb/atoll/proto/atoll/admin/v1"
)

// A client follows the map of regions. It works in its own region (Region, or else
// that of the node which answered Open) while the map has that ACTIVE, and otherwise
// in the first one of Fallback that is. It learns the map with the topology, is told
// of a newer one with replies and refusals, and asks nodes of other regions while
// none of its own answers. The highest version holds, whoever tells it.
//
// The map alone decides. That nodes do not answer moves no client: a link that is
// cut and a region that is dead look the same, and who decides that is the operator
// of a failover.

const (
	// returnAfter is how long a better region has to be ACTIVE before a client that is
	// served elsewhere goes there; and half of it more, by chance, so that not all go
	// at once.
	returnAfter = 10 * time.Second
	// mapBeat is the pause between questions while a newer map is known to be there, or
	// the region is out of service; mapPatience is how often in a row.
	mapBeat, mapPatience = 200 * time.Millisecond, 50
	// placeTries of the nodes of another region are asked at a time.
	placeTries = 3
)

// RegionChange tells that a client works in another region from now on.
type RegionChange struct {
	From, To string
	// Version is the number of the map of regions that it goes by, and State what
	// that says of From: DRAINING, FENCED, ...; ACTIVE when the client returns to a
	// region that comes before From in its order.
	Version uint64
	State   string
}

// Region has the client work in a region while the map of regions has that ACTIVE,
// wherever the nodes are that Open was given. Without it, it is the region of the
// node that answers first.
func Region(name string) Option { return func(c *config) { c.region = name } }

// Fallback are the regions to work in, the first that is ACTIVE, while the client's
// own one is not; no others. Without it they are all that the map has, in the order
// of their numbers.
func Fallback(names ...string) Option {
	return func(c *config) { c.fallback = append([]string{}, names...) }
}

// Pin keeps the client in its region whatever becomes of that: writes that the
// region does not take are ErrRegionFenced.
func Pin() Option { return func(c *config) { c.pin = true } }

// ReturnAfter is how long a region that comes earlier in the client's order has to be
// ACTIVE before the client goes there, and up to half as long again; 10 s without it.
func ReturnAfter(d time.Duration) Option { return func(c *config) { c.returnAfter = max(d, 0) } }

// OnRegionChange is told when the client has gone to another region, once Open has
// returned. It must be quick, and not close the client.
func OnRegionChange(f func(RegionChange)) Option { return func(c *config) { c.onRegion = f } }

// follower is what a cluster goes by. What says nothing else is touched by the
// goroutine that refreshes alone.
type follower struct {
	pin      bool
	fallback []string // nil for all
	after    time.Duration
	tell     func(RegionChange)

	known atomic.Pointer[directory]
	heard atomic.Uint64 // the highest number of a map that was named
	// urgent: whoever kicked waits for the map.
	urgent atomic.Bool

	mu    sync.Mutex
	home  string        // "" while nobody has told; guarded by mu
	moved chan struct{} // closed when the client has gone to another region; guarded by mu

	opened bool // it has been somewhere
	// better is where it would rather work, and from when on it goes there: each of
	// those regions has to be ACTIVE, and to answer, for some time.
	better map[string]time.Time
	asked  int // in a row, for a newer map
}

func newFollower(cfg *config) *follower {
	return &follower{
		pin: cfg.pin, fallback: cfg.fallback, after: cfg.returnAfter, tell: cfg.onRegion, home: cfg.region, moved: make(chan struct{}),
		better: map[string]time.Time{},
	}
}

// own is the region that the client belongs to. Any goroutine may ask.
func (f *follower) own() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.home
}

// belongs says that it is region, if nobody has said so before.
func (f *follower) belongs(region string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.home == "" {
		f.home = region
	}
}

// order in which regions are wanted.
func (f *follower) order() []string {
	own := []string{f.own()}
	switch {
	case f.pin:
		return own
	case f.fallback != nil:
		return append(own, f.fallback...)
	}
	return f.known.Load().all(own)
}

// learn takes what a node tells of the map.
func (f *follower) learn(t *adminv1.GetTopologyResponse) error {
	told, err := directoryOf(t.Directory)
	if err != nil {
		return err
	}
	if next := f.known.Load().join(told); next != nil {
		f.known.Store(next)
	}
	return nil
}

// hear is told the number of a map, by any goroutine, and reports whether it is news.
func (f *follower) hear(n uint64) bool {
	if n <= f.known.Load().number() {
		return false
	}
	for {
		old := f.heard.Load()
		if n <= old || f.heard.CompareAndSwap(old, n) {
			return n > old
		}
	}
}

// movedFrom is closed when the client has left the region in which it works now; any
// goroutine may ask.
func (f *follower) movedFrom() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.moved
}

// announce tells those who wait, and the program.
func (f *follower) announce(from, to string) {
	f.mu.Lock()
	close(f.moved)
	f.moved = make(chan struct{})
	f.mu.Unlock()
	clear(f.better)
	if f.tell != nil && f.opened {
		d := f.known.Load()
		f.tell(RegionChange{From: from, To: to, Version: d.number(), State: d.state(from)})
	}
}

// serves reports whether a region takes clients, as far as is known: all do where
// there is no map. Any goroutine may ask.
func (f *follower) serves(region string) bool {
	d := f.known.Load()
	s := d.state(region)
	return d == nil || s == stateActive || s == stateDraining
}

// goals are where to go from here now, the best first.
func (f *follower) goals(here string, now time.Time) []string {
	if own := f.own(); f.pin {
		if here == own {
			return nil
		}
		return []string{own}
	}
	d := f.known.Load()
	goals := d.better(f.order(), here)
	if !f.opened || d.state(here) != stateActive {
		return goals
	}
	// It is served well: what is better has to be so for some time. One that does not
	// answer keeps it from none of the others.
	maps.DeleteFunc(f.better, func(region string, _ time.Time) bool { return !slices.Contains(goals, region) })
	return slices.DeleteFunc(goals, func(region string) bool {
		due, seen := f.better[region]
		if !seen {
			due = now.Add(f.after + rand.N(f.after/2+1))
			f.better[region] = due
		}
		return !seen || now.Before(due)
	})
}

// rest is how long the map may wait, without a kick.
func (f *follower) rest(here string, now time.Time) time.Duration {
	rest := refreshEvery
	for _, due := range f.better {
		rest = min(rest, max(due.Sub(now), mapBeat))
	}
	if f.known.Load().number() < f.heard.Load() || !f.pin && !f.serves(here) {
		if f.asked++; f.asked <= mapPatience {
			return min(rest, mapBeat)
		}
		return rest
	}
	f.asked = 0
	return rest
}

// heardMap is told the number of the map with each message of a node.
func (c *cluster) heardMap(n uint64) {
	if c.follow.hear(n) {
		c.newsSoon()
	}
}

// newsSoon is refreshSoon for who waits for a newer map.
func (c *cluster) newsSoon() {
	c.follow.urgent.Store(true)
	c.refreshSoon()
}

// placed refuses regions that there are none of, and to work where the client was not
// told to. It is for the first time.
func (c *cluster) placed() *Error {
	here, d := c.region(), c.follow.known.Load()
	if here == "" {
		return nil
	}
	for i, name := range append([]string{c.follow.own()}, c.follow.fallback...) {
		if name == here || d.place(name) != nil {
			continue
		}
		field := "region"
		if i > 0 {
			field = "fallback"
		}
		return invalid(field, strings.Join(d.all([]string{here}), ","), name, "there is no such region")
	}
	if order := c.follow.order(); !slices.Contains(order, here) {
		return &Error{Reason: "UNAVAILABLE", Code: codes.Unavailable, Detail: "no node of region " + strings.Join(order, " or ") + " can be reached"}
	}
	c.follow.opened = true
	return nil
}

// settle goes to the region where the client should work, if that is another one.
func (c *cluster) settle(ctx context.Context) error {
	var last error
	tried := map[string]bool{}
	here := c.region()
	for range maxPlaces {
		goals := slices.DeleteFunc(c.follow.goals(here, time.Now()), func(g string) bool { return tried[g] })
		if len(goals) == 0 {
			break
		}
		goal := goals[0]
		tried[goal] = true
		t, err := c.askRegion(ctx, goal)
		if err != nil {
			delete(c.follow.better, goal) // it has to be there for as long again
			last = fmt.Errorf("go to region %s: %w", goal, err)
			continue
		}
		// It may know better than who sent us there.
		if !slices.Contains(c.follow.goals(here, time.Now()), goal) {
			continue
		}
		if err := c.enter(t); err != nil {
			last = err
			continue
		}
		c.follow.announce(here, goal)
		return nil
	}
	return last
}

// region in which the client works, "" while that is not known.
func (c *cluster) region() string {
	if v := c.view.Load(); v != nil {
		return v.region
	}
	return ""
}

// nodesIn are some nodes of a region, by chance.
func (c *cluster) nodesIn(region string) []*node {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []*node
	add := func(n *node) {
		if !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	for _, n := range c.seeds {
		if n.region == region {
			add(n)
		}
	}
	if p := c.follow.known.Load().place(region); p != nil && c.connect != nil {
		for _, a := range p.addrs {
			if n, err := c.nodeAt(a); err == nil {
				add(n)
			}
		}
	}
	rand.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}

// askRegion asks some nodes of another region for its topology, and learns the map.
func (c *cluster) askRegion(ctx context.Context, region string) (*adminv1.GetTopologyResponse, error) {
	nodes := c.nodesIn(region)
	last := errors.New("no address of a node there is known")
	for _, n := range nodes[:min(len(nodes), placeTries)] {
		t, err := c.askNode(ctx, n)
		switch {
		case err != nil:
			last = err
		case t.Region != region:
			last = fmt.Errorf("%s is a node of region %s", n.addr, t.Region)
		default:
			return t, nil
		}
	}
	return nil, last
}

// askNode asks one node for its topology, and learns the map.
func (c *cluster) askNode(ctx context.Context, n *node) (*adminv1.GetTopologyResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, refreshTries)
	defer cancel()
	t, err := n.topology(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask %s for the topology: %w", n.addr, err)
	}
	if err := checkTopology(t); err != nil {
		return nil, fmt.Errorf("the topology of %s: %w", n.addr, err)
	}
	if err := c.follow.learn(t); err != nil {
		return nil, fmt.Errorf("the map of regions of %s: %w", n.addr, err)
	}
	n.region = t.Region
	return t, nil
}

// askElsewhere learns the map from other regions, while no node of the own one
// answers.
func (c *cluster) askElsewhere(ctx context.Context) {
	here := c.region()
	for _, region := range c.follow.known.Load().all(nil) {
		if region != here {
			if _, err := c.askRegion(ctx, region); err == nil {
				return
			}
		}
	}
}

// Region in which the client works now, "" where nobody tells.
func (c *Client) Region() string { return c.cluster.region() }

// RegionPlace is a region as the map of regions has it.
type RegionPlace struct {
	Name string
	// State is ACTIVE, DRAINING, FENCED, REJOINING or REMOVED.
	State string
}

// RegionMap is what the client knows of the map of regions: its number, 0 for the one
// that the nodes were configured with, and the regions; none where there is one.
func (c *Client) RegionMap() (version uint64, regions []RegionPlace) {
	d := c.cluster.follow.known.Load()
	if d == nil {
		return 0, nil
	}
	for _, p := range d.places {
		regions = append(regions, RegionPlace{p.name, p.state})
	}
	return d.version, regions
}

// away refuses what is bound to the client's own region while that does not serve:
// LOCAL_SERIAL is decided among the owners of one region, and another one's would not
// know what those have decided.
func (r *run) away(c *cluster) *Error {
	home := c.follow.own()
	if r.op.level != LocalSerial || r.view.region == home || home == "" {
		return nil
	}
	return &Error{
		Reason: reasonFenced, Code: codes.Unavailable, Field: "level", Seen: LocalSerial.String(),
		Detail: fmt.Sprintf("local-serial is decided within region %s, which is %s: nothing at that level moves to %s by itself", home, c.follow.known.Load().state(home), r.view.region),
	}
}

// fenced decides how to go on after a refusal of a region, or of a home, that does not
// serve: where the client has gone meanwhile, at once; here after a pause, which ends
// when it goes. Such refusals are no attempts: nothing was done.
func (r *run) fenced(c *cluster, b *budget, err *Error) (pause time.Duration, again bool) {
	left := time.Until(r.deadline)
	if !err.sent || r.waits >= maxWaits || left <= 0 {
		return 0, false
	}
	if c.region() != r.view.region {
		r.waits++
		return 0, true
	}
	if c.follow.pin || c.follow.known.Load() == nil {
		r.attempts++
		return r.another(c, b, err)
	}
	r.waits++
	if err.regionMap > 0 {
		c.follow.hear(err.regionMap)
		c.newsSoon()
	}
	pause = err.RetryAfter + rand.N(backoffMax)
	return min(pause, left-left/8), true
}
