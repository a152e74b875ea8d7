package process

import (
	"context"
	"fmt"

	"github.com/atolldb/atoll/geo"
	"github.com/atolldb/atoll/geo/regionmap"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/topology"
)

// admit makes what is needed of a region that came in by the map of regions: where to
// begin to ask who is in it, which is what it told when it came in, or last; and its
// log. Its servers are shown who this node is as the own region's are.
func (p *Process) admit(r regionmap.Region, dialer natsDialer) (*topology.Topology, geo.Feed, error) {
	members := make([]topology.Member, len(r.Contact.Members))
	for i, m := range r.Contact.Members {
		members[i] = topology.Member{ID: topology.NodeID(m.ID), Rack: m.Rack, Weight: 1, PeerAddr: m.Peer, ClientAddr: m.Client}
	}
	rules := hashring.Rules{Partitions: p.cfg.Partitions, Replicas: min(p.cfg.Replicas, len(members))}
	t, err := topology.Static(topology.Region(r.Name), topology.RegionID(r.ID), members, rules)
	if err != nil {
		return nil, nil, fmt.Errorf("take in region %s: %w", r.Name, err)
	}
	t.Epoch = unheard
	if known, err := p.learned(t); err != nil {
		return nil, nil, err
	} else if known != nil {
		t = known
	}
	return t, p.feed(r.Name, r.Contact.NATS, p.cfg.own().access(), dialer), nil
}

// reach tries to open a connection.
func (p *Process) reach(ctx context.Context, at string) error {
	conn, err := p.hooks.Dial(ctx, "tcp", at)
	if err != nil {
		return fmt.Errorf("reach %s: %w", at, err)
	}
	return conn.Close()
}
