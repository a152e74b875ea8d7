package node

import (
	"context"
	"encoding/base64"
	"fmt"
	"strings"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/geo/failover"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/api"
	"github.com/atolldb/atoll/node/regions"
	"github.com/atolldb/atoll/node/topology"
)

// What operations on regions are driven with: questions to the nodes of a region, by
// VerbOperate, about the clocks of their partitions.

// clockPage is how many partitions are asked about at once.
const clockPage = 2048

// clockOrder asks for the clocks of the owned partitions From..From+clockPage-1.
type clockOrder struct {
	From int
	// Of is the region whose actors are asked for, 0 for all.
	Of uint8
	// Told asks for what was announced of that region instead.
	Told string `json:",omitempty"`
	// Compare asks for nothing, but to compare with other regions at once.
	Compare bool `json:",omitempty"`
}

type clockAnswer struct {
	// Clocks by partition, in crdt's encoding and base64.
	Clocks map[int]string `json:",omitempty"`
	// HeardMs is how old the youngest heartbeat of Told is, -1 for none.
	HeardMs int64 `json:",omitempty"`
	Waits   string
}

func (n *Node) obeyClocks(o clockOrder) *clockAnswer {
	a := &clockAnswer{Clocks: map[int]string{}}
	if n.steer != nil {
		a.Waits = n.steer.Waits()
	}
	put := func(p hashring.Partition, c *crdt.Clock) {
		a.Clocks[int(p)] = base64.StdEncoding.EncodeToString(crdt.AppendClock(nil, c))
	}
	in := func(p hashring.Partition) bool { return int(p) >= o.From && int(p) < o.From+clockPage }
	switch {
	case o.Compare:
		select {
		case n.gap <- struct{}{}:
		default:
		}
	case o.Told != "":
		a.HeardMs = -1
		if n.fresh == nil {
			break
		}
		ins, _ := n.lag.Report(time.Now(), nil)
		for _, l := range ins {
			if l.Origin == o.Told && l.Heard {
				a.HeardMs = l.HeartbeatAge.Milliseconds()
			}
		}
		for p, c := range n.fresh.Told(o.Told) {
			if in(p) {
				put(p, c)
			}
		}
	default:
		for _, p := range n.replica.Owned() {
			if !in(p) {
				continue
			}
			c := n.replica.Clock(p)
			if c == nil {
				continue
			}
			if o.Of != 0 {
				c = failover.Only(c, o.Of)
			}
			put(p, c)
		}
	}
	return a
}

func (n *Node) nodesOf(region string) []topology.NodeID {
	if t := n.topologyOf(topology.Region(region)); t != nil {
		return t.Present()
	}
	return nil
}

// clocksOf are what the owners in a region have; a quorum of each partition's is enough.
func (n *Node) clocksOf(ctx context.Context, region string, of uint8) (failover.Clocks, error) {
	return n.clocksBy(ctx, region, of, func(row topology.Row) int { return len(row.Slots)/2 + 1 })
}

// ownersOf are what all owners in a region have, and all of its nodes that may have kept
// something of a partition that they gave away.
func (n *Node) ownersOf(ctx context.Context, region string, of uint8) (failover.Clocks, error) {
	return n.clocksBy(ctx, region, of, nil)
}

// clocksBy asks all nodes of a region, of which so many owners have to answer; with nil
// all do, and every other node of the region.
func (n *Node) clocksBy(ctx context.Context, region string, of uint8, enough func(topology.Row) int) (failover.Clocks, error) {
	t := n.topologyOf(topology.Region(region))
	if t == nil || len(t.Present()) == 0 {
		return nil, fmt.Errorf("the nodes of %s are not known", region)
	}
	parts := t.Table.Partitions()
	out := make(failover.Clocks, parts)
	for from := 0; from < parts; from += clockPage {
		answers, errs := n.orderThese(ctx, t.Present(), order{Clocks: &clockOrder{From: from, Of: of}})
		silent := ""
		for i, a := range answers {
			if errs[i] != nil || a.Clocks == nil {
				silent += " " + string(t.Present()[i])
				continue
			}
			if err := takeClocks(out, a.Clocks); err != nil {
				return nil, fmt.Errorf("clocks of %s: %w", t.Present()[i], err)
			}
		}
		if enough == nil && silent != "" {
			return nil, fmt.Errorf("no answer from%s of %s", silent, region)
		}
		for p := from; p < min(from+clockPage, parts); p++ {
			need := len(t.Takers(hashring.Partition(p)))
			if enough != nil {
				need = enough(t.Row(hashring.Partition(p)))
			}
			if len(out[p]) < need {
				return nil, fmt.Errorf("%d owners of partition %d of %s answer, %d are needed; silent:%s", len(out[p]), p, region, need, silent)
			}
		}
	}
	return out, nil
}

func takeClocks(out failover.Clocks, a *clockAnswer) error {
	for p, text := range a.Clocks {
		b, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return err
		}
		c, rest, err := crdt.DecodeClock(b)
		switch {
		case err != nil:
			return err
		case len(rest) > 0 || p < 0 || p >= len(out):
			return fmt.Errorf("no such partition or clock: %d", p)
		}
		out[p] = append(out[p], c)
	}
	return nil
}

// toldOf is what the nodes of all regions but that one were told of it.
func (n *Node) toldOf(ctx context.Context, region string) (told []*crdt.Clock, ago time.Duration, err error) {
	ago = -1
	parts := n.Topology().Table.Partitions()
	all := make(failover.Clocks, parts)
	asked := append([]*topology.Topology{n.Topology()}, n.deps.Others.All()...)
	for _, t := range asked {
		if string(t.Region) == region {
			continue
		}
		for from := 0; from < parts; from += clockPage {
			answers, errs := n.orderThese(ctx, t.Present(), order{Clocks: &clockOrder{From: from, Told: region}})
			for i, a := range answers {
				if errs[i] != nil || a.Clocks == nil {
					continue
				}
				if err := takeClocks(all, a.Clocks); err != nil {
					return nil, 0, fmt.Errorf("clocks of %s: %w", t.Present()[i], err)
				}
				if heard := time.Duration(a.Clocks.HeardMs) * time.Millisecond; heard >= 0 && (ago < 0 || heard < ago) {
					ago = heard
				}
			}
		}
	}
	if ago < 0 {
		return nil, 0, fmt.Errorf("nobody has heard region %s since it was started", region)
	}
	return all.Seen(), ago, nil
}

// compareAll has all nodes of all other regions and this one compare themselves.
func (n *Node) compareAll() {
	ctx, stop := context.WithTimeout(context.Background(), time.Second)
	defer stop()
	for _, t := range append([]*topology.Topology{n.Topology()}, n.deps.Others.All()...) {
		n.orderThese(ctx, t.Present(), order{Clocks: &clockOrder{Compare: true, From: 1 << 30}})
	}
}

func (n *Node) wireSteer() {
	if n.world == nil || n.steward == nil {
		return
	}
	n.steer = regions.NewSteer(n.world, regions.SteerDeps{
		Leads: n.steward.Leads, Clocks: n.clocksOf, Owners: n.ownersOf, Told: n.toldOf, Nodes: n.nodesOf, Compare: n.compareAll,
		Kept: n.keptOnlyIn, Settle: n.settleIn, Tally: n.tallyIn,
		Partitions: n.Topology().Table.Partitions(), Taken: n.knowsNode, Reach: n.reach,
		Homes: func(region string) (out []string) {
			table, _ := n.buckets.Known()
			for i := range table {
				if table[i].Home == region {
					out = append(out, table[i].Name)
				}
			}
			return out
		},
		Has: func(region, bucket string) bool {
			has, known := n.buckets.Has(topology.Region(region), []byte(bucket))
			return has || !known // of whose definition nothing is known: as if all regions had it
		},
	})
}

// regionsOps serves what operators ask of regions.
type regionsOps struct{ n *Node }

var _ api.Regions = regionsOps{}

// View implements api.Regions.
func (o regionsOps) View(ctx context.Context) (v api.RegionsView, err error) {
	v.Known = o.n.RegionMap()
	if v.Known.Map == nil {
		return v, errOneRegion
	}
	if held := o.n.world.Lease(); held.Lasts > 0 && v.Known.Map.Counts(string(o.n.Topology().Region)) {
		v.Lease = &held
	}
	if v.Operation, err = failover.Current(v.Known.Map); err != nil || v.Operation == nil {
		return v, err
	}
	if v.Operation.Ended {
		return v, nil
	}
	if by := v.Operation.By; by != string(o.n.Topology().Region) {
		v.Waits = "region " + by + " drives it: ask there"
		return v, nil
	}
	_, answers, _ := o.n.orderAll(ctx, order{Clocks: &clockOrder{From: 1 << 30}})
	for _, a := range answers {
		if a.Clocks != nil && a.Clocks.Waits != "" {
			v.Waits = strings.TrimSpace(a.Clocks.Waits)
		}
	}
	return v, nil
}

var errOneRegion = &api.RegionsError{Detail: "this node knows of one region, and is not prepared for others"}

// Plan implements api.Regions.
func (o regionsOps) Plan(ctx context.Context, a regions.Ask) (regions.Plan, error) {
	if o.n.steer == nil {
		return regions.Plan{}, errOneRegion
	}
	return o.n.steer.Plan(ctx, a)
}

// Begin implements api.Regions.
func (o regionsOps) Begin(ctx context.Context, a regions.Ask) (regions.Plan, error) {
	if o.n.steer == nil {
		return regions.Plan{}, errOneRegion
	}
	return o.n.steer.Begin(ctx, a)
}

// Abort implements api.Regions.
func (o regionsOps) Abort(ctx context.Context, force bool) error {
	if o.n.steer == nil {
		return errOneRegion
	}
	_, err := o.n.steer.Abort(ctx, force)
	return err
}

// SetLease implements api.Regions.
func (o regionsOps) SetLease(ctx context.Context, lease time.Duration, force bool) error {
	if o.n.world == nil {
		return errOneRegion
	}
	_, err := o.n.world.SetLease(ctx, lease, force)
	return err
}
