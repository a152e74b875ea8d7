package topology

import (
	"fmt"

	"github.com/atolldb/atoll/hashring"
)

// Static returns the topology, at epoch 1, that every node of a region derives
// from the same list of members: the planner is deterministic and does not
// depend on their order.
func Static(region Region, id RegionID, members []Member, rules hashring.Rules) (*Topology, error) {
	if id < 1 || id > 63 {
		return nil, fmt.Errorf("region %s: id %d is not in 1..63", region, id)
	}
	ring := make([]hashring.Member, len(members))
	for i, m := range members {
		ring[i] = hashring.Member{ID: string(m.ID), Rack: m.Rack, Weight: m.Weight}
	}
	plan, err := hashring.Plan(hashring.Table{}, ring, rules)
	if err != nil {
		return nil, fmt.Errorf("plan region %s: %w", region, err)
	}
	return &Topology{Region: region, RegionID: id, Epoch: 1, Members: members, Rules: rules, Table: plan.Next}, nil
}
