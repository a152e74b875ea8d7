package node

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/topology"
)

// Nodes tell each other of topologies with one verb, VerbTopology, in the
// encoding of topology.EncodeExchange. So whoever drives moves learns with one
// request what a node has acknowledged, and whoever was refused for going by an
// old topology gets the new one.

const exchangeTimeout = 2 * time.Second

// serveTopology answers VerbTopology.
func (n *Node) serveTopology(req peer.Request, reply peer.Done) {
	asker, offered, err := topology.DecodeExchange(req.Body)
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
			reply(topology.EncodeExchange(mine.Epoch, nil), nil)
			return
		}
		reply(topology.EncodeExchange(mine.Epoch, mine), nil)
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
		Verb: peer.VerbTopology, Timeout: exchangeTimeout, Body: topology.EncodeExchange(have, offer),
	})
	if err != nil {
		return 0, fmt.Errorf("ask %s for its topology: %w", with, err)
	}
	epoch, t, err := topology.DecodeExchange(b)
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
		Verb: peer.VerbTopology, Timeout: exchangeTimeout, Body: topology.EncodeExchange(have, nil),
	}, func(b []byte, err error) {
		if err != nil {
			finish(err)
			return
		}
		_, t, err := topology.DecodeExchange(b)
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

// survey asks all other members of the region for a newer topology and reports
// how many answered, and whether they and this node are a majority.
func (n *Node) survey(ctx context.Context) (heard int, most bool) {
	have := n.Topology().Epoch
	var wg sync.WaitGroup
	var answers atomic.Int32
	peers := n.peers()
	for _, id := range peers {
		wg.Go(func() {
			if _, err := n.exchange(ctx, id, have, nil); err == nil {
				answers.Add(1)
			}
		})
	}
	wg.Wait()
	heard = int(answers.Load())
	return heard, 2*(1+heard) > 1+len(peers)
}
