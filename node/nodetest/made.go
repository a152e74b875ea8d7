package nodetest

import (
	"context"
	"time"

	"github.com/atolldb/atoll/internal/pause"
	"github.com/atolldb/atoll/node"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/topology"
)

// makeGrace is how long whoever makes a region waits for the others, as in package
// process.
const makeGrace = 5 * time.Second

// makeAnew has a region begin that has lost everything, its registry, too, and of which
// no node runs: where the other regions say, as package process makes one.
func (w *World) makeAnew(ctx context.Context, region int) {
	first := w.nodes[region*w.shape.Nodes]
	from := w.fabric.Node(first.id, func(_ topology.NodeID, _ peer.Request, reply peer.Done) {
		reply(nil, &peer.Refusal{Code: peer.CodeStopping, Detail: "starting"})
	})
	defer w.fabric.Down(first.id)
	own := w.tops[region]
	var others []*topology.Topology
	for r := range w.tops {
		if r != region {
			others = append(others, w.known(r))
		}
	}
	var o node.Origin
	for end := time.Now().Add(makeGrace); ; {
		once, stop := context.WithTimeout(ctx, time.Second)
		o = node.AskOrigins(once, others, func(ctx context.Context, id topology.NodeID) (node.Origin, error) {
			return node.AskOrigin(ctx, from, id, own.Region)
		})
		stop()
		if o.Actor != 0 || len(o.Silent) == 0 || time.Now().After(end) || !pause.For(ctx, 200*time.Millisecond) {
			break
		}
	}
	// Drawn from no generator: what else happens in a World stays as it was without.
	dice := uint32(w.seed)*0x9e3779b1 + uint32(time.Since(w.start))
	if _, above := o.Begin(own.RegionID, own.Epoch, time.Now(), dice); above != 0 {
		first.registry.Raise(above)
	}
}
