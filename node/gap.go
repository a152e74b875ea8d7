package node

import (
	"time"

	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/topology"
)

// The nodes that pull another region's log notice that it has lost something.
// What was in it concerns partitions of all nodes, so all compare their clocks
// with that region at once. Nobody depends on being told: they compare at a slow
// beat anyway.

const gapTimeout = time.Second

// onGap is called when the log of origin has lost something.
func (n *Node) onGap(origin topology.Region) func(string) {
	return func(reason string) {
		n.log.Warn("the log of another region has a gap: comparing clocks", "origin", string(origin), "reason", reason)
		n.compareNow()
		for _, id := range n.peers() {
			if n.alive.Alive(id) {
				n.deps.Transport.Send(id, peer.Request{Verb: peer.VerbGap, Timeout: gapTimeout, Body: []byte(origin)}, func([]byte, error) {})
			}
		}
	}
}

// serveGap takes the word of a node of this region.
func (n *Node) serveGap(req peer.Request, reply peer.Done) {
	if n.deps.Others.Get(topology.Region(req.Body)) == nil {
		reply(nil, &peer.Refusal{Code: peer.CodeInvalid, Detail: "this node knows of no such region"})
		return
	}
	n.compareNow()
	reply(nil, nil)
}

// compareNow has repair look at the other regions without waiting for its beat.
func (n *Node) compareNow() {
	select {
	case n.gap <- struct{}{}:
	default: // it is about to
	}
}
