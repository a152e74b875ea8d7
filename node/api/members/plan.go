package members

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/api"
	"github.com/atolldb/atoll/node/topology"
)

// Plan implements api.Membership.
func (m *Members) Plan(ctx context.Context, c api.Change) (api.Plan, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	t, at, err := m.load(ctx)
	if err != nil {
		return api.Plan{}, err
	}
	bytes := m.CopyBytes(ctx)
	p, err := m.propose(t, c, bytes)
	if err != nil {
		return api.Plan{}, refused(err)
	}
	plan := describe(t, at, p, bytes)
	for i := range plan.Nodes {
		if c.Kind == api.ChangeReplace && plan.Nodes[i].ID == c.Nodes[0] {
			plan.Nodes[i].BytesOut = 0 // it is dead: the other owners send
		}
	}
	return plan, nil
}

// Commit implements api.Membership. The topology may have gone on since the
// plan was made, as it does while another task runs, if the same moves come out.
func (m *Members) Commit(ctx context.Context, id api.PlanID, c api.Change) (topology.TaskID, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	bytes := m.CopyBytes(ctx)
	for {
		t, at, err := m.load(ctx)
		if err != nil {
			return 0, err
		}
		p, err := m.propose(t, c, bytes)
		if err != nil {
			return 0, refused(err)
		}
		if p.Digest() != id.Digest {
			return 0, api.StalePlan(id, planID(t, at, p))
		}
		if err := m.swap(ctx, p.Next, at); !errors.Is(err, topology.ErrConflict) {
			return p.Task.ID, err
		}
	}
}

func (m *Members) propose(t *topology.Topology, c api.Change, bytes uint64) (topology.Proposal, error) {
	change, err := changeOf(c)
	if err != nil {
		return topology.Proposal{}, err
	}
	return topology.PlanChange(t, change, topology.PlanOptions{
		Bytes:      func(hashring.Partition) uint64 { return bytes },
		AcceptLoss: c.AcceptLoss, Now: m.Now().UnixMilli(),
	})
}

func changeOf(c api.Change) (topology.Change, error) {
	switch c.Kind {
	case api.ChangeJoin:
		return topology.Join{Nodes: c.Nodes}, nil
	case api.ChangeDrain:
		return topology.Drain{Nodes: c.Nodes}, nil
	case api.ChangeReplace:
		if len(c.Nodes) == 1 {
			return topology.Replace{Dead: c.Nodes[0], By: c.By}, nil
		}
	case api.ChangeWeight:
		return topology.Weight{Nodes: c.Nodes, Weight: c.Weight}, nil
	case api.ChangeRack:
		return topology.Rack{Nodes: c.Nodes, Rack: c.Rack}, nil
	case api.ChangeReplicas:
		return topology.Replicas{Replicas: c.Replicas}, nil
	case api.ChangeRebalance:
		return topology.Rebalance{}, nil
	}
	return nil, fmt.Errorf("a change of kind %d with %d nodes", c.Kind, len(c.Nodes))
}

func planID(t *topology.Topology, at topology.Revision, p topology.Proposal) api.PlanID {
	return api.PlanID{Epoch: t.Epoch, Revision: at, Digest: p.Digest()}
}

// describe says what a proposal means for each member.
func describe(t *topology.Topology, at topology.Revision, p topology.Proposal, bytes uint64) api.Plan {
	out := api.Plan{
		ID: planID(t, at, p), Copies: p.Copies, Minimum: p.Minimum, Bytes: p.Traffic.Total,
		Pace: t.Pace.Filled(), Warnings: p.Warnings,
	}
	for _, mv := range p.Moves {
		one := api.PlannedMove{Partition: mv.Partition, Slot: mv.Slot, From: mv.From, To: mv.To}
		if mv.To != "" {
			one.Bytes = bytes
		}
		out.Moves = append(out.Moves, one)
	}
	before, after, fair := t.Table.Holdings(), p.Target.Holdings(), fairNow(t)
	busiest := uint64(0)
	for _, member := range p.Next.Members {
		id := string(member.ID)
		n := api.NodePlan{
			ID: member.ID, OwnedBefore: before[id].Owned, OwnedAfter: after[id].Owned,
			PrimaryBefore: before[id].Primary, PrimaryAfter: after[id].Primary,
			FairBefore: fair[id], FairAfter: p.Fair[id], BytesIn: p.Traffic.In[id], BytesOut: p.Traffic.Out[id],
		}
		busiest = max(busiest, n.BytesIn)
		if member.State != topology.Left || n.OwnedBefore > 0 {
			out.Nodes = append(out.Nodes, n)
		}
	}
	slices.SortFunc(out.Nodes, func(a, b api.NodePlan) int {
		if a.ID < b.ID {
			return -1
		}
		return 1
	})
	out.Lasts = time.Duration(float64(busiest) / float64(out.Pace.BytesPerSecond) * float64(time.Second))
	return out
}

// fairNow is how much each member that is up would own if partitions could be
// split.
func fairNow(t *topology.Topology) map[string]float64 {
	var up []hashring.Member
	for _, m := range t.Members {
		if m.State == topology.Up {
			up = append(up, hashring.Member{ID: string(m.ID), Rack: m.Rack, Weight: m.Weight})
		}
	}
	ideal, err := hashring.Optimum(up, t.Rules)
	if err != nil { // nobody is up
		return nil
	}
	return ideal.Fair
}
