package node

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/geo/regionmap"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/topology"
)

// A region whose store is empty is new, or has lost everything. In the latter case
// others hold what it wrote, under the names of its actors, and know its topology:
// what it hands out from now on has to be above both.

// Origin is what a node knows of another region.
type Origin struct {
	// Actor is the highest of the region in any clock, held or told; 0 for none.
	Actor crdt.Actor
	// Epoch of its topology, 0 for as it is configured.
	Epoch topology.Epoch
	// Known of the map of regions.
	Known regionmap.Known
}

// AskOrigin asks a node of another region what it knows of one.
func AskOrigin(ctx context.Context, t peer.Transport, id topology.NodeID, region topology.Region) (o Origin, err error) {
	body, err := json.Marshal(order{Origin: string(region)})
	if err != nil {
		return o, err
	}
	b, err := peer.Call(ctx, t, id, peer.Request{Verb: peer.VerbOperate, Timeout: passTimeout, Body: body})
	if err != nil {
		return o, err
	}
	var a answer
	if err := json.Unmarshal(b, &a); err != nil {
		return o, fmt.Errorf("what %s knows of region %s: %w", id, region, err)
	}
	if a.Origin == nil {
		return o, fmt.Errorf("%s does not say what it knows of region %s", id, region)
	}
	o.Actor, o.Epoch = crdt.Actor(a.Origin.Actor), topology.Epoch(a.Origin.Epoch)
	if o.Known, err = regionmap.DecodeKnown(a.Origin.Map); err != nil {
		return o, fmt.Errorf("the map of regions of %s: %w", id, err)
	}
	return o, nil
}

type originAnswer struct {
	Actor uint32
	Epoch uint64
	Map   []byte // regionmap.EncodeKnown
}

// originOf answers AskOrigin.
func (n *Node) originOf(region topology.Region) (*originAnswer, error) {
	t := n.topologyOf(region)
	if t == nil {
		return nil, fmt.Errorf("there is no region %q", region)
	}
	a := &originAnswer{Epoch: uint64(t.Epoch), Map: regionmap.EncodeKnown(n.RegionMap())}
	take := func(c *crdt.Clock) {
		for _, actor := range c.Actors() {
			if actor.Region() == uint8(t.RegionID) {
				a.Actor = max(a.Actor, uint32(actor))
			}
		}
	}
	for _, p := range n.replica.Held() {
		if c := n.replica.Clock(p); c != nil {
			take(c)
		}
	}
	if n.fresh != nil {
		for _, c := range n.fresh.Told(string(region)) {
			take(c)
		}
	}
	return a, nil
}
