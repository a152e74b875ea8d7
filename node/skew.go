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
		off, sure := typical(offsets, offset.middle), typical(offsets, offset.sure)
		m.n.clockAhead.Store(int64(-off))
		skewed := sure.Abs() > hlc.MaxAhead
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

// offset is how far a peer's clock is ahead of this node's, at least and at most: it
// was read at some time between asking and being answered. Half the round trip is a
// good guess on a quiet machine. Where one of the two waits for a processor, nearly all
// of the round trip may be on one side, and a guess that is wrong by more than a clock
// may be off takes a node with the right time out of service.
type offset struct{ least, most time.Duration }

func (o offset) middle() time.Duration { return (o.least + o.most) / 2 }

// sure is the part of the offset that is no doubt there.
func (o offset) sure() time.Duration { return max(o.least, min(o.most, 0)) }

// and is what two readings say together. Where a clock was set between them they may
// contradict each other: then it is the later one.
func (o offset) and(later offset) offset {
	both := offset{max(o.least, later.least), min(o.most, later.most)}
	if both.least > both.most {
		return later
	}
	return both
}

// A reading that leaves more than skewVague open is made again, skewTries times in all.
const (
	skewVague = 50 * time.Millisecond
	skewTries = 3
)

// compare reads a peer's clock by ask, against this node's. Both are in milliseconds.
func compare(own func() int64, ask func() (int64, bool)) (o offset, ok bool) {
	for range skewTries {
		began := time.Now() // first: whatever passes from here on is in the round trip
		before := own()
		at, answered := ask()
		if !answered {
			return o, ok
		}
		took := time.Since(began)
		most := time.Duration(at-before) * time.Millisecond
		if read := (offset{most - took, most}); ok {
			o = o.and(read)
		} else {
			o, ok = read, true
		}
		if o.most-o.least <= skewVague {
			break
		}
	}
	return o, ok
}

// offsets returns how far ahead of this node the clocks of reachable peers are. All
// are asked at once.
func (m skewMonitor) offsets(ctx context.Context) []offset {
	var ids []topology.NodeID
	for _, id := range after(m.n.Topology().Members, m.n.cfg.ID) {
		if len(ids) < skewPeers && m.n.alive.Alive(id) {
			ids = append(ids, id)
		}
	}
	found := make(chan offset, len(ids))
	var all sync.WaitGroup
	for _, id := range ids {
		all.Go(func() {
			if o, ok := m.ask(ctx, id); ok {
				found <- o
			}
		})
	}
	all.Wait()
	close(found)
	var out []offset
	for o := range found {
		out = append(out, o)
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

func (m skewMonitor) ask(ctx context.Context, id topology.NodeID) (offset, bool) {
	return compare(m.n.deps.HLC.Now, func() (int64, bool) {
		b, err := peer.Call(ctx, m.n.deps.Transport, id, peer.Request{
			Verb: peer.VerbPing, Epoch: m.n.Topology().Epoch, Timeout: 500 * time.Millisecond,
		})
		if err != nil || len(b) != 8 {
			return 0, false
		}
		return int64(binary.BigEndian.Uint64(b)), true
	})
}

// typical is the median of what of says about the offsets; of the two in the middle
// of an even number it is the one closer to zero, so that a node with two peers is off
// only if it is off from both. None is 0.
func typical(read []offset, of func(offset) time.Duration) time.Duration {
	if len(read) == 0 {
		return 0
	}
	offsets := make([]time.Duration, len(read))
	for i, o := range read {
		offsets[i] = of(o)
	}
	slices.Sort(offsets)
	hi := offsets[len(offsets)/2]
	lo := offsets[(len(offsets)-1)/2]
	if lo.Abs() < hi.Abs() {
		return lo
	}
	return hi
}
