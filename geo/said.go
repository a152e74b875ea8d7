package geo

import (
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
)

const (
	// missedGrace is how long a heartbeat may be overtaken by later ones before it
	// counts as lost.
	missedGrace = time.Second
	// askAgain is the time between requests to one node for all that it has.
	askAgain = 5 * time.Second
	// maxMissed bounds the numbers of heartbeats remembered as missing, per node.
	maxMissed = 64
)

// said is what another region's nodes have, as each of them last said. What a node
// says in a new session replaces what it said before, also when it is less: it has
// lost something, and what nobody has is not missing anywhere.
type said struct {
	nodes map[string]*saidNode
	// since is when the last heartbeat came, or when this was made.
	since time.Time
	heard bool
	// cutFrom and cutTo are the last two heartbeats between which the link was dead; zero
	// if it never was.
	cutFrom, cutTo time.Time
	// entryBytes is the average size of an entry that was last told, 0 for unknown.
	entryBytes uint64
}

type saidNode struct {
	session, high uint64
	// whole says that it was heard from the beginning of a full round on, but for
	// the heartbeats that are missed, since the times told.
	whole  bool
	missed map[uint64]time.Time
	asked  time.Time
	parts  map[hashring.Partition]saidPart
}

type saidPart struct {
	session uint64
	clock   *crdt.Clock // of all regions' actors
}

// take h, which came at now. Of partitions that owned refuses nothing is kept. It
// reports whether the node is to be asked for all that it has, since something of
// it was not heard.
func (s *said) take(now time.Time, h *Heartbeat, owned func(hashring.Partition) bool) (ask bool) {
	n := s.nodes[h.node]
	if n == nil {
		n = &saidNode{parts: map[hashring.Partition]saidPart{}}
		s.nodes[h.node] = n
	}
	if n.follow(now, h) { // one that comes late says nothing about life
		if s.heard && now.Sub(s.since) > aliveWithin {
			s.cutFrom, s.cutTo = s.since, now
		}
		s.since, s.heard = now, true
		if h.entryBytes > 0 {
			s.entryBytes = h.entryBytes
		}
	}
	for _, c := range h.clocks {
		switch old, ok := n.parts[c.partition]; {
		case !owned(c.partition):
			delete(n.parts, c.partition)
		case !ok || h.session > old.session:
			n.parts[c.partition] = saidPart{h.session, c.clock.Clone()}
		case h.session == old.session:
			old.clock.Join(c.clock)
		}
	}
	return n.ask(now)
}

// follow counts heartbeats, and reports whether h is the newest.
func (n *saidNode) follow(now time.Time, h *Heartbeat) bool {
	switch {
	case h.session < n.session:
		return false
	case h.session > n.session:
		n.session, n.high, n.whole, n.missed = h.session, h.seq-1, false, map[uint64]time.Time{}
	case h.seq <= n.high:
		delete(n.missed, h.seq)
		return false
	}
	if h.base > n.high && h.seq >= h.base { // a full round has begun: what was before does not matter
		n.whole, n.high = true, h.base-1
		clear(n.missed)
	}
	for seq := n.high + 1; seq < h.seq; seq++ {
		if len(n.missed) >= maxMissed {
			n.whole = false
			clear(n.missed)
			break
		}
		n.missed[seq] = now
	}
	n.high = h.seq
	return true
}

func (n *saidNode) ask(now time.Time) bool {
	lost := !n.whole
	for _, at := range n.missed {
		lost = lost || now.Sub(at) >= missedGrace
	}
	if !lost || now.Sub(n.asked) < askAgain {
		return false
	}
	n.asked = now
	return true
}

// seen is what some of the nodes have of p, of a region's actors; nil if none of
// them has said. Without nodes it is what anybody said.
func (s *said) seen(p hashring.Partition, nodes []string, actors uint8) *crdt.Clock {
	var out *crdt.Clock
	add := func(n *saidNode) {
		if n == nil {
			return
		}
		if part, ok := n.parts[p]; ok {
			if out == nil {
				out = new(crdt.Clock)
			}
			out.Join(ofRegion(part.clock, actors))
		}
	}
	if nodes == nil {
		for _, n := range s.nodes {
			add(n)
		}
		return out
	}
	for _, id := range nodes {
		add(s.nodes[id])
	}
	return out
}

// sure says that all of the nodes were heard without a gap; where nobody knows the
// nodes, those that were heard at all.
func (s *said) sure(p hashring.Partition, nodes []string) bool {
	if nodes == nil {
		for _, n := range s.nodes {
			if !n.whole || len(n.missed) > 0 {
				return false
			}
		}
	}
	for _, id := range nodes {
		n := s.nodes[id]
		if n == nil || !n.whole || len(n.missed) > 0 {
			return false
		}
		if _, ok := n.parts[p]; !ok {
			return false
		}
	}
	return true
}

// unheld counts the dots of clock that not all of the nodes have said to have.
func (s *said) unheld(p hashring.Partition, nodes []string, clock *crdt.Clock) uint64 {
	lacking := new(crdt.Clock)
	for _, id := range nodes {
		held := new(crdt.Clock)
		if n := s.nodes[id]; n != nil {
			if part, ok := n.parts[p]; ok {
				held = part.clock
			}
		}
		for _, d := range held.Missing(clock) {
			lacking.AddSpan(d)
		}
	}
	return new(crdt.Clock).CountMissing(lacking)
}
