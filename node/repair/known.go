package repair

import (
	"maps"
	"sync"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/topology"
)

// known is what other owners, in all regions, have of each partition, as they
// last said. It is memory only: after a start nothing is known, and nothing is
// pruned before everybody has answered again. What an owner says replaces what
// it said before, also when it is less: it was wiped or rolled back.
type known struct {
	mu sync.Mutex
	of map[topology.NodeID]map[hashring.Partition]holding
}

type holding struct {
	sum   uint64 // of the clock, as in wire.Sum
	clock *crdt.Clock
}

// upToDate reports whether id is known to have a clock of that sum.
func (k *known) upToDate(id topology.NodeID, p hashring.Partition, sum uint64) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	h, ok := k.of[id][p]
	return ok && h.sum == sum
}

// note keeps the clock, which nobody changes afterwards.
func (k *known) note(id topology.NodeID, p hashring.Partition, sum uint64, clock *crdt.Clock) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.of == nil {
		k.of = map[topology.NodeID]map[hashring.Partition]holding{}
	}
	if k.of[id] == nil {
		k.of[id] = map[hashring.Partition]holding{}
	}
	k.of[id][p] = holding{sum, clock}
}

// forget all of id.
func (k *known) forget(id topology.NodeID) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.of, id)
}

// clocks returns what the owners are known to have of p; false if one of them
// has not said.
func (k *known) clocks(p hashring.Partition, owners []topology.NodeID) ([]*crdt.Clock, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	out := make([]*crdt.Clock, len(owners))
	for i, id := range owners {
		h, ok := k.of[id][p]
		if !ok {
			return nil, false
		}
		out[i] = h.clock
	}
	return out, true
}

// retain forgets all but what is of the shares.
func (k *known) retain(s shares) {
	k.mu.Lock()
	defer k.mu.Unlock()
	owned := make(map[topology.NodeID]map[hashring.Partition]bool, len(s))
	for l, parts := range s {
		owned[l.id] = parts
	}
	for id, parts := range k.of {
		maps.DeleteFunc(parts, func(p hashring.Partition, _ holding) bool { return !owned[id][p] })
		if len(parts) == 0 {
			delete(k.of, id)
		}
	}
}

// commonBase returns, per actor, the dots that all clocks have without a gap
// from the first on.
func commonBase(clocks []*crdt.Clock) *crdt.Clock {
	out := &crdt.Clock{}
	if len(clocks) == 0 {
		return out
	}
	for _, a := range clocks[0].Actors() {
		base := clocks[0].Base(a)
		for _, c := range clocks[1:] {
			base = min(base, c.Base(a))
		}
		if base > 0 {
			out.AddSpan(crdt.Dots{Actor: a, Span: crdt.Span{Lo: 1, Hi: base}})
		}
	}
	return out
}
