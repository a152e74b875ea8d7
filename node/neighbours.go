package node

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/atolldb/atoll/node/repair"
)

const neighbourBeat = 5 * time.Second

// gossip asks the other regions for their topologies. Nobody pushes them: each
// node asks, now and then, some node of each region.
type gossip struct {
	n    *Node
	rand *rand.Rand
}

// Run asks until ctx ends.
func (g gossip) Run(ctx context.Context) error {
	beat := time.NewTicker(neighbourBeat)
	defer beat.Stop()
	for {
		for _, t := range g.n.deps.Others.All() {
			present := t.Present()
			if len(present) == 0 {
				continue
			}
			with := present[g.rand.IntN(len(present))]
			if _, err := g.n.exchange(ctx, with, t.Epoch, nil); err != nil && ctx.Err() == nil {
				g.n.log.Debug("topology of another region is not known anew", "region", string(t.Region), "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-beat.C:
		}
	}
}

// regions are the others, as repair needs to know them.
func (n *Node) regions() []repair.Region {
	var out []repair.Region
	for _, t := range n.deps.Others.All() {
		out = append(out, repair.Region{Name: t.Region, Topology: t})
	}
	return out
}
