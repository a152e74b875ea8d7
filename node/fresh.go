package node

import (
	"time"

	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/wire"
)

// Other regions announce their clocks to the nodes that pull from them, which are
// two or so, and those pass every heartbeat on to the others: each node can then
// tell how fresh what it holds is. What does not arrive makes a node tell an older
// time, until the next full round.

const passTimeout = time.Second

// passOn takes a heartbeat and gives it to the other nodes.
func (n *Node) passOn(data []byte) {
	n.takeHeartbeat(data)
	for _, id := range n.peers() {
		if n.alive.Alive(id) {
			n.deps.Transport.Send(id, peer.Request{Verb: peer.VerbAnnounce, Timeout: passTimeout, Body: data}, func([]byte, error) {})
		}
	}
}

func (n *Node) serveAnnounce(req peer.Request, reply peer.Done) {
	if n.fresh == nil {
		reply(nil, &peer.Refusal{Code: peer.CodeInvalid, Detail: "this node knows of no other region"})
		return
	}
	n.takeHeartbeat(req.Body)
	reply(nil, nil)
}

func (n *Node) takeHeartbeat(data []byte) {
	if _, err := n.fresh.Announced(data); err != nil {
		n.log.Warn("unusable heartbeat of another region", "error", err)
	}
}

// mintersOf are the nodes of another region that mint in a partition, as far as
// its topology is known here.
func (n *Node) mintersOf(origin string, p hashring.Partition) []string {
	for _, t := range n.deps.Others.All() {
		if string(t.Region) != origin || int(p) >= t.Table.Partitions() || len(t.Members) == 0 {
			continue
		}
		var out []string
		for _, id := range t.Takers(p) {
			out = append(out, string(id))
		}
		return out
	}
	return nil
}

// freshness of what this node holds of a partition.
func (n *Node) freshness(p hashring.Partition) []wire.Fresh {
	var out []wire.Fresh
	for _, t := range n.deps.Others.All() {
		if asOf := n.fresh.AsOf(string(t.Region), p); asOf > 0 {
			out = append(out, wire.Fresh{Region: uint8(t.RegionID), AsOf: asOf})
		}
	}
	return out
}
