package node

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/topology"
)

// How nodes tell each other of topologies: one verb both asks and offers. The
// body of VerbTopology is the epoch, 8 bytes big-endian, of the topology that
// the asker has of the receiver's region, and then, or not, an encoded one that
// it offers. The reply is the epoch that the receiver has made durable, the
// offered one included, and then its topology, if that is newer than the
// asker's.
//
// So whoever drives moves learns with one request what a node has acknowledged,
// and whoever was refused for going by an old topology gets the new one.

const (
	exchangeTimeout = 2 * time.Second
	epochBytes      = 8
)

var errShortExchange = errors.New("message about topologies is too short")

func appendExchange(epoch topology.Epoch, t *topology.Topology) []byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(epoch))
	if t != nil {
		b = append(b, topology.Encode(t)...)
	}
	return b
}

// decodeExchange returns a nil topology where there is none.
func decodeExchange(b []byte) (topology.Epoch, *topology.Topology, error) {
	if len(b) < epochBytes {
		return 0, nil, errShortExchange
	}
	epoch := topology.Epoch(binary.BigEndian.Uint64(b))
	if len(b) == epochBytes {
		return epoch, nil, nil
	}
	t, err := topology.Decode(b[epochBytes:])
	return epoch, t, err
}

// serveTopology answers VerbTopology.
func (n *Node) serveTopology(req peer.Request, reply peer.Done) {
	asker, offered, err := decodeExchange(req.Body)
	if err != nil {
		reply(nil, &peer.Refusal{Code: peer.CodeInvalid, Detail: err.Error()})
		return
	}
	n.take(offered, func(err error) {
		if err != nil {
			reply(nil, &peer.Refusal{Code: peer.CodeInternal, Detail: err.Error()})
			return
		}
		mine := n.Topology()
		if mine.Epoch <= asker || offered != nil && offered.Region == mine.Region && mine.Epoch <= offered.Epoch {
			reply(appendExchange(mine.Epoch, nil), nil)
			return
		}
		reply(appendExchange(mine.Epoch, mine), nil)
	})
}

// take makes t, of whatever region, known to this node; done gets nil when it
// is, and for t nil. It does not block.
func (n *Node) take(t *topology.Topology, done func(error)) {
	switch {
	case t == nil:
		done(nil)
	case t.Region == n.cfg.Topology.Region:
		n.replica.Adopt(t, done)
	default:
		n.deps.Others.Learn(t)
		done(nil)
	}
}

// adopt is take for the own region's topology, for callers that can wait.
func (n *Node) adopt(ctx context.Context, t *topology.Topology) error {
	done := make(chan error, 1)
	n.take(t, func(err error) { done <- err })
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// exchange asks a node for what it has of its region, offering nothing or
// (offer) the own topology. It returns the epoch that is durable there.
func (n *Node) exchange(ctx context.Context, with topology.NodeID, have topology.Epoch, offer *topology.Topology) (topology.Epoch, error) {
	b, err := peer.Call(ctx, n.deps.Transport, with, peer.Request{
		Verb: peer.VerbTopology, Timeout: exchangeTimeout, Body: appendExchange(have, offer),
	})
	if err != nil {
		return 0, fmt.Errorf("ask %s for its topology: %w", with, err)
	}
	epoch, t, err := decodeExchange(b)
	if err != nil {
		return 0, fmt.Errorf("topology of %s: %w", with, err)
	}
	return epoch, n.adopt(ctx, t)
}

// offer gives a node of the region, perhaps this one, a topology, or asks with
// nil, and returns the epoch that is durable there after that.
func (n *Node) offer(ctx context.Context, with topology.NodeID, t *topology.Topology) (topology.Epoch, error) {
	if with != n.cfg.ID {
		return n.exchange(ctx, with, n.Topology().Epoch, t)
	}
	err := n.adopt(ctx, t)
	return n.Topology().Epoch, err
}

// learn asks a node of the region for a newer topology, and then calls then,
// whether there was one or not. It does not block. Those who ask at once share
// one request.
func (n *Node) learn(from topology.NodeID, then func()) {
	if !n.asking.join(from, then) {
		return
	}
	have := n.Topology().Epoch
	finish := func(error) { n.asking.finish(from) }
	n.deps.Transport.Send(from, peer.Request{
		Verb: peer.VerbTopology, Timeout: exchangeTimeout, Body: appendExchange(have, nil),
	}, func(b []byte, err error) {
		if err != nil {
			finish(err)
			return
		}
		_, t, err := decodeExchange(b)
		if err != nil || t == nil || t.Region != n.cfg.Topology.Region {
			finish(err)
			return
		}
		n.take(t, finish)
	})
}

// overtaken learns from a node that goes by a newer topology than this one.
func (n *Node) overtaken(by topology.NodeID, epoch topology.Epoch) {
	if epoch > n.Topology().Epoch {
		n.learn(by, func() {})
	}
}

// survey asks all other members of the region for a newer topology and returns
// how many answered.
func (n *Node) survey(ctx context.Context) int {
	have := n.Topology()
	var wg sync.WaitGroup
	var heard atomic.Int32
	for _, id := range n.peers() {
		wg.Go(func() {
			if _, err := n.exchange(ctx, id, have.Epoch, nil); err == nil {
				heard.Add(1)
			}
		})
	}
	wg.Wait()
	return int(heard.Load())
}
