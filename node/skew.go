package node

import (
	"context"
	"encoding/binary"
	"slices"
	"sync"
	"time"

	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/topology"
)

// skewBeat is how often a node compares its clock with its peers'.
const skewBeat = 2 * time.Second

// skewPeers is how many it is compared with: in a large region a median of so
// many is as good as one of all.
const skewPeers = 15

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
		m.n.clockAhead.Store(int64(-off))
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

// Clock returns how far this node's clock was ahead of its peers' when they were
// asked last, and whether that is so much that it mints nothing.
func (n *Node) Clock() (ahead time.Duration, off bool) {
	return time.Duration(n.clockAhead.Load()), n.replica.Skewed()
}

// offsets returns how far ahead of this node the clocks of reachable peers are,
// with half the round trip taken off. All are asked at once.
func (m skewMonitor) offsets(ctx context.Context) []time.Duration {
	var ids []topology.NodeID
	for _, id := range after(m.n.Topology().Members, m.n.cfg.ID) {
		if len(ids) < skewPeers && m.n.alive.Alive(id) {
			ids = append(ids, id)
		}
	}
	found := make(chan time.Duration, len(ids))
	var all sync.WaitGroup
	for _, id := range ids {
		all.Go(func() {
			if d, ok := m.ask(ctx, id); ok {
				found <- d
			}
		})
	}
	all.Wait()
	close(found)
	var out []time.Duration
	for d := range found {
		out = append(out, d)
	}
	return out
}

// after lists the members but self, beginning with the one behind it: so each
// node compares itself with others than its neighbours do, and always with the
// same ones.
func after(members []topology.Member, self topology.NodeID) []topology.NodeID {
	at := slices.IndexFunc(members, func(m topology.Member) bool { return m.ID == self })
	var out []topology.NodeID
	for i := range members {
		if id := members[(at+1+i)%len(members)].ID; id != self {
			out = append(out, id)
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
