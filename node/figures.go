package node

import (
	"time"

	"github.com/atolldb/atoll/geo"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/admin"
	"github.com/atolldb/atoll/node/topology"
)

// Figures are what the node counts, for metrics. Those of the links between
// nodes belong to whoever made the transport.
func (n *Node) Figures() *admin.Figures {
	f := &admin.Figures{
		Ready:           n.Ready() == nil,
		Actor:           n.replica.Actor(),
		PartitionsOwned: len(n.replica.Owned()), PartitionsBehind: n.replica.BehindCount(),
		Leftovers:    len(n.replica.Leftovers()),
		PeersDown:    n.PeersDown(),
		Peers:        n.alive.Stats(),
		Coord:        n.coord.Stats(),
		Repair:       n.repair.Stats(),
		NeedFullSync: n.repair.NeedFullSync(),
		Waiting:      n.replica.Waiting(),
		OnDemand:     n.repair.Progress(),
		Replica:      n.replica.Stats(),
		Collect:      n.dead.Report(),
		CollectOff:   n.dead.Stats().ByReason(),
		Unreadable:   n.replica.DamagedCount(),
		Map:          n.RegionMap(), Changes: n.memberChanges(),

		BackgroundRate: n.yield.Level(),
		Hints:          n.hints.Stats(),
		Owed:           n.hints.Owed(),
		Commits:        n.replica.Commits(),
	}
	f.Incoming, f.Outgoing = n.Lag()
	if n.world != nil {
		f.Lease = n.world.Lease()
	}
	f.ClockAhead, f.ClockOff = n.Clock()
	f.CompleteAsOf, f.ConvergedAsOf = n.completeAsOf(), n.convergedAsOf()
	f.PartitionsPrimary, f.OpenGaps = n.shares()
	known, at := n.buckets.Known()
	f.Buckets, f.BucketsRead = len(known), at
	if u, err := n.replica.Usage(); err == nil {
		f.Usage = u
	}
	if n.pump != nil {
		s := n.pump.Stats()
		f.Pump, f.Unconfirmed = &s, n.pump.Pending()
		if stated, ok := n.deps.GeoLog.(geo.Stated); ok {
			if state, seen := stated.State(); seen {
				f.Log = &state
			}
		}
	}
	if drains := n.abroad.drains(); len(drains) > 0 {
		f.Drains = map[topology.Region]geo.DrainStats{}
		for _, d := range drains {
			f.Drains[topology.Region(d.Origin())] = d.Stats()
		}
	}
	return f
}

// memberChanges is what this node sees of changes of membership.
func (n *Node) memberChanges() admin.Changes {
	top := n.Topology()
	c := admin.Changes{
		Epoch: top.Epoch, Isolated: n.news.isolated(), StoreSilence: n.news.storeSilence(), Leads: n.steward != nil && n.steward.Leads(),
		Copies: len(n.copier.Report().Copies), Received: n.copier.ReceivedBytes(),
	}
	for _, m := range top.Moves {
		c.Moves[m.Stage]++
	}
	for _, t := range top.Tasks {
		switch {
		case t.Ended != 0:
		case t.Paused:
			c.Paused++
		default:
			c.Running++
		}
	}
	return c
}

// shares counts the partitions whose first owner this node is, and the dots that
// its clocks lack.
func (n *Node) shares() (primary int, gaps uint64) {
	for _, p := range n.replica.Owned() {
		if n.Topology().Owners(p)[0] == string(n.cfg.ID) {
			primary++
		}
		gaps += n.replica.Gaps(p)
	}
	return primary, gaps
}

// PeersDown are the nodes of the region that this node takes to be down.
func (n *Node) PeersDown() []topology.NodeID {
	var down []topology.NodeID
	for _, id := range n.peers() {
		if !n.alive.Alive(id) {
			down = append(down, id)
		}
	}
	return down
}

// Lag reports, of the partitions that this node looks after, what is still to come
// from the other regions and what has still to arrive in them; nil where there are
// none. Over the nodes of the region that is all.
func (n *Node) Lag() (in, out []geo.LagReport) {
	if n.lag == nil {
		return nil, nil
	}
	return n.lag.Report(time.Now(), n.looksAfter())
}

// looksAfter tells of which partitions this node is the first owner that it takes
// to be alive.
func (n *Node) looksAfter() func(hashring.Partition) bool {
	top := n.Topology()
	return func(p hashring.Partition) bool {
		if int(p) >= top.Table.Partitions() {
			return false
		}
		for _, id := range top.Owners(p) {
			if id == string(n.cfg.ID) || n.alive.Alive(topology.NodeID(id)) {
				return id == string(n.cfg.ID)
			}
		}
		return false
	}
}
