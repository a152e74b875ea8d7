package node

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/geo"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/wire"
)

// Other regions announce their clocks to the nodes that pull from them, which are
// two or so, and those pass every heartbeat on to the others: each node can then
// tell how fresh what it holds is. What does not arrive makes a node tell an older
// time, until the next full round.

const passTimeout = time.Second

// passOn takes a heartbeat that came from a region and gives it to the other nodes.
func (n *Node) passOn(from string, data []byte) {
	if err := n.takeHeartbeat(from, data); err != nil {
		n.log.Warn("unusable heartbeat of another region", "origin", from, "error", err)
		return
	}
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
	if err := n.takeHeartbeat("", req.Body); err != nil {
		reply(nil, &peer.Refusal{Code: peer.CodeInvalid, Detail: err.Error()})
		return
	}
	reply(nil, nil)
}

// takeHeartbeat of a region, or with "" of whatever region.
func (n *Node) takeHeartbeat(from string, data []byte) error {
	h, err := geo.DecodeHeartbeat(data)
	if err != nil {
		return err
	}
	if from != "" && h.Region() != from {
		return fmt.Errorf("it is of region %q", h.Region())
	}
	ask, err := n.lag.Heard(time.Now(), h)
	if err != nil {
		return err
	}
	if ask {
		n.askFull(topology.NodeID(h.Node()))
	}
	n.fresh.Heard(h)
	return nil
}

// askFull has another region's node tell all its clocks.
func (n *Node) askFull(id topology.NodeID) {
	body, err := json.Marshal(order{Announce: true})
	if err != nil {
		return
	}
	n.deps.Transport.Send(id, peer.Request{Verb: peer.VerbOperate, Timeout: passTimeout, Body: body}, func([]byte, error) {
		// Its next heartbeat asks again, if this has not helped.
	})
}

// changed takes the clocks that the announcer found changed.
func (n *Node) changed(now time.Time, p hashring.Partition, clock *crdt.Clock) {
	if n.lag != nil {
		n.lag.Changed(now, p, clock)
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

// completeAsOf is, by region, up to when the partitions that this node looks after
// have all that was written there, by that region's clocks; zero for not known.
func (n *Node) completeAsOf() map[topology.Region]time.Time {
	if n.fresh == nil {
		return nil
	}
	mine := n.looksAfter()
	out := map[topology.Region]time.Time{}
	for _, t := range n.deps.Others.All() {
		oldest := ^uint64(0)
		for _, p := range n.replica.Owned() {
			if mine(p) {
				oldest = min(oldest, n.fresh.AsOf(string(t.Region), p))
			}
		}
		switch oldest {
		case 0:
			out[t.Region] = time.Time{}
		case ^uint64(0): // it looks after none
		default:
			out[t.Region] = time.UnixMilli(int64(oldest))
		}
	}
	return out
}

// convergedAsOf is, by region, since when each of the partitions that this node looks
// after was found equal to one there; zero for not yet.
func (n *Node) convergedAsOf() map[topology.Region]time.Time {
	if n.deps.GeoLog == nil {
		return nil
	}
	mine := n.looksAfter()
	var parts []hashring.Partition
	for _, p := range n.replica.Owned() {
		if mine(p) {
			parts = append(parts, p)
		}
	}
	if len(parts) == 0 {
		return nil
	}
	out := map[topology.Region]time.Time{}
	for _, t := range n.deps.Others.All() {
		out[t.Region] = n.repair.EqualAsOf(t.Region, parts)
	}
	return out
}
