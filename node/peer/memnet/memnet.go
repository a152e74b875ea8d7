// Package memnet is the peer transport in memory, for simulations: a fabric
// between nodes of one process that delays, drops, duplicates, reorders and
// partitions, from one seed. It is meant for testing/synctest bubbles (all its
// waiting is by time.AfterFunc, so a bubble's clock drives it) and works in
// real time too. It is not a model of bandwidth.
//
// Invariants:
//
//	M1  P1..P4 of package peer, whatever the faults.
//	M2  A fault never invents anything: what is delivered was sent, to that
//	    node, and a request is delivered at most twice (Duplicate).
//	M3  What was sent to one life of a node never reaches its next one, and
//	    what a dead life says is never heard.
//
// What is deterministic and what is not. Each directed link draws from its own
// rng, seeded by (seed, from, to), and deliveries that fall on one instant are
// ordered by (from, to, number on that link): given the same sends on each link in
// the same order at the same instants, faults and times are the same. But in
// which order goroutines that are runnable at one fake instant call Send is up
// to the Go scheduler, so a run whose nodes work concurrently is only nearly
// repeatable; a seed is a strong hint, not a recording.
//
// The fabric owns no goroutine; handlers and dones run one after the other on
// a timer's goroutine, so one that blocks stops the whole fabric.
package memnet

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/topology"
)

// Faults of one directed link. Probabilities are in 0..1.
type Faults struct {
	// MinDelay..MaxDelay is what one message takes, drawn evenly.
	MinDelay, MaxDelay time.Duration
	// Drop is the probability that a message (request or reply) is lost.
	Drop float64
	// Duplicate is the probability that a request arrives twice.
	Duplicate float64
	// Reorder is the probability that a message is held back for up to
	// ReorderBy, and may be overtaken. All others keep their order, small and
	// large (above peer.LargeMessage) ones each in their own lane.
	Reorder   float64
	ReorderBy time.Duration
}

// Config of a fabric. Its zero value is a perfect network without delay.
type Config struct {
	// Faults of every link that SetLink does not name.
	Faults
	// DialDelay is how long a sender takes to learn that a peer is not
	// reachable.
	DialDelay time.Duration
	// Doubt is the probability that a sender does not learn it, and gets
	// peer.ErrTimeout where peer.ErrNotSent or peer.ErrLinkLost was due.
	Doubt float64
}

// Fabric connects nodes. Its methods may be called from any goroutine.
type Fabric struct {
	seed uint64
	cfg  Config

	mu    sync.Mutex
	nodes map[topology.NodeID]*Node
	links map[route]*link
	calls map[*call]struct{}
	agenda
	stats Stats
}

type route struct{ from, to topology.NodeID }

// link is one direction between two nodes.
type link struct {
	rng    *rand.Rand
	faults Faults
	cut    bool
	seq    uint64
	// last is when the youngest orderly message of each lane arrives.
	last [2]time.Time
}

// New returns a fabric without nodes. The same seed gives the same faults, as
// far as the package comment says.
func New(seed uint64, cfg Config) *Fabric {
	return &Fabric{
		seed: seed, cfg: cfg,
		nodes: map[topology.NodeID]*Node{},
		links: map[route]*link{},
		calls: map[*call]struct{}{},
	}
}

// Node puts a node on the fabric, up, and returns its transport. A node of the
// same id goes down for good first: this is how a restart is made.
func (f *Fabric) Node(id topology.NodeID, h peer.Handler) *Node {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down(id)
	n := &Node{fabric: f, id: id, handler: h, up: true}
	f.nodes[id] = n
	return n
}

// Down crashes a node: requests on their way to it vanish, what it still says
// is not heard, and its own waiting sends end with peer.ErrLinkLost.
func (f *Fabric) Down(id topology.NodeID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down(id)
}

// Up brings a crashed node back with the handler it had, as a new life.
func (f *Fabric) Up(id topology.NodeID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := f.nodes[id]; n != nil {
		n.up = true
	}
}

func (f *Fabric) down(id topology.NodeID) {
	n := f.nodes[id]
	if n == nil || !n.up {
		return
	}
	n.up = false
	n.life++
	for _, c := range f.waiting() {
		switch {
		case c.from == n:
			f.finish(c, nil, fmt.Errorf("%w: %s went down", peer.ErrLinkLost, id), 0)
		case c.to == n && c.sent:
			f.lose(c)
		}
	}
}

// waiting lists the calls that have no outcome, oldest first: what is drawn
// for them must not depend on the order of a map.
func (f *Fabric) waiting() []*call {
	return slices.SortedFunc(maps.Keys(f.calls), func(a, b *call) int { return cmp.Compare(a.number, b.number) })
}

// lose tells c's sender that its peer died, or leaves it to its timeout.
func (f *Fabric) lose(c *call) {
	l := f.link(c.from.id, c.toID)
	if back := f.link(c.toID, c.from.id); l.cut || back.cut {
		return
	}
	delay, doubt := l.delay(), l.rng.Float64() < f.cfg.Doubt
	if doubt {
		return
	}
	f.after(delay, l, c, func() {
		f.finish(c, nil, fmt.Errorf("%w: %s went down", peer.ErrLinkLost, c.toID), 0)
	})
}

// SetLink sets the faults of the link from one node to another, one way.
func (f *Fabric) SetLink(from, to topology.NodeID, faults Faults) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.link(from, to).faults = faults
}

// SetAll sets the faults of every link, now and later.
func (f *Fabric) SetAll(faults Faults) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cfg.Faults = faults
	for _, l := range f.links {
		l.faults = faults
	}
}

// Cut stops everything from one node to another, one way, what is on its way
// included.
func (f *Fabric) Cut(from, to topology.NodeID) { f.setCut(from, to, true) }

// Heal undoes Cut.
func (f *Fabric) Heal(from, to topology.NodeID) { f.setCut(from, to, false) }

func (f *Fabric) setCut(from, to topology.NodeID, cut bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.link(from, to).cut = cut
}

// Partition cuts both ways between each node of a and each of b.
func (f *Fabric) Partition(a, b []topology.NodeID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, x := range a {
		for _, y := range b {
			f.link(x, y).cut = true
			f.link(y, x).cut = true
		}
	}
}

// HealAll undoes every Cut and Partition; nodes that are down stay down.
func (f *Fabric) HealAll() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, l := range f.links {
		l.cut = false
	}
}

// Stats returns what happened so far.
func (f *Fabric) Stats() Stats {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.stats
}

func (f *Fabric) link(from, to topology.NodeID) *link {
	r := route{from, to}
	l := f.links[r]
	if l == nil {
		l = &link{rng: rand.New(rand.NewPCG(f.seed, hash(from, to))), faults: f.cfg.Faults}
		f.links[r] = l
	}
	return l
}

// hash is FNV-1a over both ids.
func hash(from, to topology.NodeID) uint64 {
	h := uint64(14695981039346656037)
	for _, s := range []topology.NodeID{from, "\x00", to} {
		for i := range len(s) {
			h = (h ^ uint64(s[i])) * 1099511628211
		}
	}
	return h
}

func (l *link) delay() time.Duration {
	d := l.faults.MinDelay
	if span := l.faults.MaxDelay - d; span > 0 {
		d += time.Duration(l.rng.Int64N(int64(span) + 1))
	}
	return d
}

// arrival draws when a message of size bytes that leaves now arrives.
func (l *link) arrival(now time.Time, size int) (at time.Time, reordered bool) {
	at = now.Add(l.delay())
	lane, transit := 0, time.Duration(0)
	if size > peer.LargeMessage {
		lane, transit = 1, time.Duration(size)
	}
	if l.faults.Reorder > 0 && l.rng.Float64() < l.faults.Reorder {
		if by := l.faults.ReorderBy; by > 0 {
			at = at.Add(time.Duration(l.rng.Int64N(int64(by) + 1)))
		}
		return at, true
	}
	if at.Before(l.last[lane]) {
		at = l.last[lane]
	}
	at = at.Add(transit)
	l.last[lane] = at
	return at, false
}
