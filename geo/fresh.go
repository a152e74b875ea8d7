package geo

import (
	"maps"
	"slices"
	"sync"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
)

// Fresh tells up to when this node has, of a partition, all that another region
// had written: the time of the oldest among the newest heartbeats of the nodes
// that mint there, as far as this node's clock has what they announced by then.
// It is exact, by the other region's clocks: a node that is silent, or of whose
// heartbeats one was lost, holds its region's time where it was. It reads no
// clock, and is safe for concurrent use.
type Fresh struct {
	clocks Clocks
	// minters are the nodes of a region that mint in a partition, nil if that is
	// not known.
	minters func(origin string, p hashring.Partition) []string

	mu    sync.Mutex
	nodes map[freshNode]*told
}

type freshNode struct{ origin, node string }

// told is what a node has announced.
type told struct {
	session uint64
	// low..high are the heartbeats that came without a gap, ahead those above one,
	// with what they say of time.
	low, high uint64
	ahead     map[uint64]tick
	// asOf is the time of the newest heartbeat up to which nothing is missing
	// since a full round; 0 for none.
	asOf  uint64
	parts map[hashring.Partition]*toldPart
}

type tick struct {
	base, millis uint64
	more         bool
}

type toldPart struct {
	clock crdt.Clock
	// open are dots that this node had not when they were announced, and the time
	// up to which the announcer had not announced them; ascending.
	open []openDots
}

type openDots struct {
	before uint64
	dots   *crdt.Clock
}

// maxTicksAhead bounds the heartbeats remembered above a gap, per node.
const maxTicksAhead = 256

// NewFresh returns a Fresh that has heard nothing.
func NewFresh(clocks Clocks, minters func(origin string, p hashring.Partition) []string) *Fresh {
	return &Fresh{clocks: clocks, minters: minters, nodes: map[freshNode]*told{}}
}

// Drop forgets what a region told.
func (f *Fresh) Drop(origin string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	maps.DeleteFunc(f.nodes, func(n freshNode, _ *told) bool { return n.origin == origin })
}

// Heard takes a heartbeat, which may come more than once and in any order.
func (f *Fresh) Heard(h *Heartbeat) {
	f.mu.Lock()
	defer f.mu.Unlock()
	at := freshNode{h.region, h.node}
	n := f.nodes[at]
	if n == nil {
		n = &told{parts: map[hashring.Partition]*toldPart{}}
		f.nodes[at] = n
	}
	if h.session < n.session {
		return
	}
	if h.session > n.session {
		// What it said before stays true; what it says now may have begun unheard.
		n.session, n.low, n.high, n.ahead = h.session, h.seq, h.seq-1, map[uint64]tick{}
	}
	for _, c := range h.clocks {
		if held := f.clocks.Clock(c.partition); held != nil {
			n.take(c.partition, ofRegion(c.clock, h.regionID), held)
		} else {
			delete(n.parts, c.partition) // what is not kept up is forgotten
		}
	}
	n.count(&h.heartbeat)
}

func (n *told) take(at hashring.Partition, minted, held *crdt.Clock) {
	p := n.parts[at]
	if p == nil {
		p = &toldPart{}
		n.parts[at] = p
	}
	news := p.clock.Beyond(minted)
	p.clock.Join(news)
	p.settle(held)
	if held.Covers(news) {
		return
	}
	p.open = append(p.open, openDots{n.asOf, news})
	if k := len(p.open); k > maxSteps {
		// Two share the older time.
		p.open[k-2].dots.Join(p.open[k-1].dots)
		p.open = p.open[:k-1]
	}
}

func (p *toldPart) settle(held *crdt.Clock) {
	p.open = slices.DeleteFunc(p.open, func(o openDots) bool { return held.Covers(o.dots) })
}

// count moves the time on as far as heartbeats follow one another.
func (n *told) count(h *heartbeat) {
	switch {
	case h.seq <= n.high:
		return
	case len(n.ahead) >= maxTicksAhead:
		// The gap will not fill: begin behind it.
		n.low, n.high, n.ahead = h.seq, h.seq-1, map[uint64]tick{}
	}
	n.ahead[h.seq] = tick{h.base, h.millis, h.more}
	for {
		t, ok := n.ahead[n.high+1]
		if !ok {
			// A full round that is all here makes up for what was lost before it.
			if base, ok := n.wholeAbove(); ok {
				n.low, n.high = base, base-1
				continue
			}
			return
		}
		n.high++
		delete(n.ahead, n.high)
		if n.low <= t.base && !t.more {
			n.asOf = max(n.asOf, t.millis)
		}
	}
}

// wholeAbove returns the beginning of a full round above the gap, if it is here.
func (n *told) wholeAbove() (uint64, bool) {
	for _, t := range n.ahead {
		if t.base > n.high {
			if _, ok := n.ahead[t.base]; ok {
				for seq := range n.ahead {
					if seq < t.base {
						delete(n.ahead, seq)
					}
				}
				return t.base, true
			}
		}
	}
	return 0, false
}

// AsOf is up to when this node has all that origin had written to p, in
// milliseconds since 1970 by origin's clocks; 0 if that is not known, and for a
// partition that this node does not hold. What is read after this is no older.
func (f *Fresh) AsOf(origin string, p hashring.Partition) uint64 {
	held := f.clocks.Clock(p)
	minters := f.minters(origin, p)
	if held == nil || len(minters) == 0 {
		return 0
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	oldest := ^uint64(0)
	for _, id := range minters {
		n := f.nodes[freshNode{origin, id}]
		if n == nil {
			return 0
		}
		oldest = min(oldest, n.asOf)
		part := n.parts[p]
		if part == nil {
			// It has announced other partitions since it took this one over, or this
			// node has: the next full round tells.
			return 0
		}
		part.settle(held)
		if len(part.open) > 0 {
			oldest = min(oldest, part.open[0].before)
		}
	}
	return oldest
}
