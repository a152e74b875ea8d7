package node

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/atolldb/atoll/geo"
	"github.com/atolldb/atoll/node/api"
	"github.com/atolldb/atoll/node/topology"
)

// lagTimeout bounds the wait for a node's figures: whoever watches a link that has
// broken wants to be told soon.
const lagTimeout = time.Second

// lagAnswer is what one node looks after.
type lagAnswer struct {
	In, Out      []geo.LagReport
	CompleteAsOf map[topology.Region]time.Time
	// Node that answers, and the regions that its index does not keep anything for
	// any more.
	Node         topology.NodeID
	NeedFullSync []topology.Region `json:",omitempty"`
}

func (n *Node) lagAnswer() *lagAnswer {
	a := &lagAnswer{CompleteAsOf: n.completeAsOf(), Node: n.cfg.ID, NeedFullSync: n.repair.NeedFullSync()}
	a.In, a.Out = n.Lag()
	return a
}

var _ api.Links = operators{}

// Lag implements api.Links.
func (o operators) Lag(ctx context.Context) (api.Lag, error) {
	ctx, cancel := context.WithTimeout(ctx, lagTimeout)
	defer cancel()
	var out api.Lag
	all := append([]*topology.Topology{o.n.Topology()}, o.n.deps.Others.All()...)
	var ids []topology.NodeID
	regions := map[topology.NodeID]topology.Region{}
	for _, t := range all {
		for _, id := range t.Present() {
			regions[id] = t.Region
			if id != o.n.cfg.ID && !o.n.up(id) {
				out.Silent = append(out.Silent, id)
				continue
			}
			ids = append(ids, id)
		}
	}
	answers, errs := o.n.orderThese(ctx, ids, order{Lag: true})
	shares := map[topology.Region][]*lagAnswer{}
	for i, id := range ids {
		if errs[i] != nil || answers[i].Lag == nil {
			out.Silent = append(out.Silent, id)
			continue
		}
		shares[regions[id]] = append(shares[regions[id]], answers[i].Lag)
	}
	for region, of := range shares {
		out.Links = append(out.Links, sumLag(region, of)...)
	}
	slices.Sort(out.Silent)
	slices.SortFunc(out.Links, func(a, b api.Link) int {
		return cmp.Or(cmp.Compare(a.Origin, b.Origin), cmp.Compare(a.Destination, b.Destination),
			cmp.Compare(a.SeenBy, b.SeenBy))
	})
	return out, nil
}

// sumLag of the nodes of a region: each tells of the partitions that it looks after.
// The link is as alive as it is for the node that has heard most recently: the
// others get heartbeats from it.
func sumLag(region topology.Region, shares []*lagAnswer) []api.Link {
	links := map[[2]string]*api.Link{}
	add := func(r geo.LagReport) *api.Link {
		at := [2]string{r.Origin, r.Destination}
		l := links[at]
		if l == nil {
			links[at] = &api.Link{SeenBy: region, LagReport: r}
			return links[at]
		}
		if r.Heard && (!l.Heard || r.HeartbeatAge < l.HeartbeatAge) {
			l.HeartbeatAge = r.HeartbeatAge
		}
		l.Alive, l.Heard = l.Alive || r.Alive, l.Heard || r.Heard
		l.Pending += r.Pending
		l.PendingBytes += r.PendingBytes
		l.PendingAge = max(l.PendingAge, r.PendingAge)
		l.Unheld += r.Unheld
		l.Unknown += r.Unknown
		l.Unsure += r.Unsure
		return l
	}
	known := map[string]bool{}
	for _, s := range shares {
		for _, r := range s.Out {
			l := add(r)
			if slices.Contains(s.NeedFullSync, topology.Region(r.Destination)) {
				l.NeedFullSync = append(l.NeedFullSync, s.Node)
			}
		}
		for _, r := range s.In {
			l := add(r)
			switch at, ok := s.CompleteAsOf[topology.Region(r.Origin)]; {
			case !ok: // it looks after nothing
			case !known[r.Origin]:
				known[r.Origin], l.CompleteAsOf = true, at
			case at.Before(l.CompleteAsOf): // the zero time, too
				l.CompleteAsOf = at
			}
		}
	}
	out := make([]api.Link, 0, len(links))
	for _, l := range links {
		slices.Sort(l.NeedFullSync)
		out = append(out, *l)
	}
	return out
}
