package node

import (
	"time"

	"github.com/atolldb/atoll/node/liveness"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/yield"
)

// busyBacklog is how many groups wait in the queue of a node that is busy to the
// full: a write waits for as many syncs of others before its own.
const busyBacklog = 2

// busy is how busy this node is, 0 to 1, by what waits to be committed: clients'
// writes, and what others coordinate. Whatever repair itself puts there counts
// too, so that it never fills the queue on its own.
func (n *Node) busy() float64 {
	s := n.replica.Commits()
	return busy(s.Backlog())
}

func busy(backlog float64) float64 { return min(max(backlog/busyBacklog, 0), 1) }

const (
	// clientApply is how large a request to apply may be to be taken for one
	// client's write: batches come from other regions, hints and moves.
	clientApply = 32 << 10
	// smallPage is how large an answer may be that costs a reader nothing, and
	// givesAfter how long another one waits at most: askers give up after 5 s.
	smallPage  = 4 << 10
	givesAfter = time.Second
)

// took tells how long a client's operation waited for a node, or for the commit
// of this one.
func (n *Node) took(who topology.NodeID, kind liveness.Kind, took time.Duration) {
	n.alive.Took(who, kind, took)
	switch {
	case kind == liveness.Reads && who != n.cfg.ID:
		n.yield.Observe(yield.Reads, took)
	case kind == liveness.Writes && who == n.cfg.ID:
		n.yield.Observe(yield.Commits, took)
	}
}

// felt is reply for a request that others put to this node: commits of clients'
// writes are measured, and what is copied from here leaves at the rate that
// clients allow.
func (n *Node) felt(req peer.Request, reply peer.Done) peer.Done {
	switch req.Verb {
	case peer.VerbApply:
		if len(req.Body) > clientApply {
			return reply
		}
		began := time.Now()
		return func(b []byte, err error) {
			if err == nil {
				n.yield.Observe(yield.Commits, time.Since(began))
			}
			reply(b, err)
		}
	case peer.VerbPull, peer.VerbScan:
		return given(&n.giving, func() uint64 { return n.Topology().Pace.Filled().BytesPerSecond }, reply)
	}
	return reply
}

// given is reply for a page, which leaves when it is paid for. pace is what one
// who asks may receive in a second.
func given(p *yield.Pacer, pace func() uint64, reply peer.Done) peer.Done {
	return func(b []byte, err error) {
		if len(b) > smallPage {
			if wait := p.Delay(len(b), pace(), givesAfter); wait > 0 {
				time.AfterFunc(wait, func() { reply(b, err) })
				return
			}
		}
		reply(b, err)
	}
}
