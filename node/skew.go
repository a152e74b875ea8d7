package node

import (
	"context"
	"encoding/binary"
	"slices"
	"time"

	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/topology"
)

// skewBeat is how often a node compares its clock with its peers'.
const skewBeat = 2 * time.Second

// skewMonitor keeps a node whose clock is off from minting: stamps from the
// future win over everybody's, and cannot be taken back. It compares physical
// clocks, since the hybrid one follows its peers.
type skewMonitor struct {
	n *Node
}

// Run compares until ctx ends.
func (m skewMonitor) Run(ctx context.Context) error {
	beat := time.NewTicker(skewBeat)
	defer beat.Stop()
	for {
		offsets := m.offsets(ctx)
		off := typical(offsets)
		skewed := off > hlc.MaxAhead || off < -hlc.MaxAhead
		if was := m.n.replica.SetSkewed(skewed); was != skewed {
			if skewed {
				m.n.log.Error("this node's clock is off: it takes no writes until it is right; check time synchronisation", "behind-peers-by", off, "bound", hlc.MaxAhead)
			} else {
				m.n.log.Info("this node's clock is right again", "behind-peers-by", off)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-beat.C:
		}
	}
}

// offsets returns how far ahead of this node each reachable peer's clock is,
// with half the round trip taken off.
func (m skewMonitor) offsets(ctx context.Context) []time.Duration {
	var out []time.Duration
	for _, id := range m.n.peers() {
		if m.n.alive.Alive(id) {
			if d, ok := m.ask(ctx, id); ok {
				out = append(out, d)
			}
		}
	}
	return out
}

func (m skewMonitor) ask(ctx context.Context, id topology.NodeID) (time.Duration, bool) {
	before, began := m.n.deps.HLC.Now(), time.Now()
	b, err := peer.Call(ctx, m.n.deps.Transport, id, peer.Request{
		Verb: peer.VerbPing, Epoch: m.n.Topology().Epoch, Timeout: 500 * time.Millisecond,
	})
	if err != nil || len(b) != 8 {
		return 0, false
	}
	took := time.Since(began)
	ahead := int64(binary.BigEndian.Uint64(b)) - before
	return time.Duration(ahead)*time.Millisecond - took/2, true
}

// typical is the median of the offsets; of the two in the middle of an even
// number it is the one closer to zero, so that a node with two peers is off
// only if it is off from both. None is 0.
func typical(offsets []time.Duration) time.Duration {
	if len(offsets) == 0 {
		return 0
	}
	slices.Sort(offsets)
	hi := offsets[len(offsets)/2]
	lo := offsets[(len(offsets)-1)/2]
	if lo.Abs() < hi.Abs() {
		return lo
	}
	return hi
}
