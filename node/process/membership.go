package process

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/atolldb/atoll/node/topology"
)

// ErrLeft says that a node was taken out of its region.
var ErrLeft = errors.New("this node has left the region and cannot come back under its id: give it another id and an empty data directory")

// me is this node as it would like to be known.
func (c *Config) me() topology.Member {
	if j := c.Join; j != nil {
		return topology.Member{ID: c.Node, Rack: j.Rack, Weight: max(j.Weight, 1), PeerAddr: j.Peer, ClientAddr: j.Client, State: topology.Joining}
	}
	for _, m := range c.own().Members {
		if m.ID == c.Node {
			return topology.Member{ID: c.Node, Rack: m.Rack, Weight: max(m.Weight, 1), PeerAddr: m.Peer, ClientAddr: m.Client, State: topology.Joining}
		}
	}
	return topology.Member{} // Validate lets nobody come here
}

// enrolled returns t with me in it, at my addresses; nil if it is so already.
// Rack and weight decide who owns what: after the first time they change by a
// plan only.
func enrolled(t *topology.Topology, me topology.Member) (*topology.Topology, error) {
	have := t.Member(me.ID)
	switch {
	case have == nil:
		next := t.Clone()
		next.Epoch++
		next.Members = append(next.Members, me)
		return next, nil
	case have.State == topology.Left:
		return nil, ErrLeft
	case have.PeerAddr == me.PeerAddr && have.ClientAddr == me.ClientAddr:
		return nil, nil
	}
	next := t.Clone()
	next.Epoch++
	m := next.Member(me.ID)
	m.PeerAddr, m.ClientAddr = me.PeerAddr, me.ClientAddr
	return next, nil
}

// enrol makes this node a member of the stored topology, which it returns: nil
// when nothing is stored.
func (p *Process) enrol(ctx context.Context, store topology.Store) (*topology.Topology, error) {
	for {
		t, at, err := store.Load(ctx)
		if err != nil || t == nil {
			return nil, err
		}
		if t.Rules.Partitions != p.cfg.Partitions {
			return nil, fmt.Errorf("join region %s: it has %d partitions, this node is configured for %d (partitions)", p.cfg.Region, t.Rules.Partitions, p.cfg.Partitions)
		}
		next, err := enrolled(t, p.cfg.me())
		if err != nil {
			return nil, fmt.Errorf("join region %s as %s: %w", p.cfg.Region, p.cfg.Node, err)
		}
		if next == nil {
			return t, nil
		}
		switch _, err := store.Swap(ctx, next, at); {
		case err == nil:
			p.log.Info("told the region of this node", "new", t.Member(p.cfg.Node) == nil, "epoch", uint64(next.Epoch))
			return next, nil
		case !errors.Is(err, topology.ErrConflict):
			return nil, err
		}
	}
}

const enrolBeat = 15 * time.Second

// stayEnrolled sees to it that the region knows this node by its addresses. It
// fails when the node had left before it was started.
func (p *Process) stayEnrolled(ctx context.Context, store topology.Store) error {
	for first := true; ; first = false {
		// Later on, what this node has learned is as good as asking.
		if next, err := enrolled(p.node.Load().Topology(), p.cfg.me()); first || next != nil || err != nil {
			_, err := p.enrol(ctx, store)
			switch {
			case ctx.Err() != nil:
				return nil
			case errors.Is(err, ErrLeft) && first:
				return err
			case errors.Is(err, ErrLeft):
				p.log.Info("this node has left the region: it may be stopped")
				return nil
			case err != nil:
				p.log.Warn("the region is not told of this node", "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(enrolBeat):
		}
	}
}
