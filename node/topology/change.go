package topology

import (
	"fmt"
	"slices"

	"github.com/atolldb/atoll/hashring"
)

// Change is a decision of an operator about the members. Its kinds are Join,
// Drain, Replace, Weight, Rack, Replicas and Rebalance.
type Change interface {
	// apply makes the change in the members and the rules of d, and says what
	// the task is that moves the data.
	apply(d *draft) (Task, error)
}

// Join gives nodes, which are Joining, their share.
type Join struct{ Nodes []NodeID }

// Drain takes everything from nodes, dead or alive, and has them leave.
type Drain struct{ Nodes []NodeID }

// Replace takes everything from a dead node, which leaves, and gives By, which
// is Joining, its share. With the same rack and weight that is what the dead
// one had.
type Replace struct{ Dead, By NodeID }

// Weight changes the share of nodes, 1..hashring.MaxWeight.
type Weight struct {
	Nodes  []NodeID
	Weight int
}

// Rack says that nodes are in another rack.
type Rack struct {
	Nodes []NodeID
	Rack  string
}

// Replicas changes the number of owners of every partition.
type Replicas struct{ Replicas int }

// Rebalance changes nothing but who owns what, as after a task was aborted.
type Rebalance struct{}

func refuse(field, limit, seen, format string, args ...any) error {
	return &Refused{Field: field, Limit: limit, Seen: seen, Detail: fmt.Sprintf(format, args...)}
}

// member finds one that a change is about.
func (d *draft) member(id NodeID) (*Member, error) {
	m := d.Member(id)
	if m == nil {
		return nil, refuse("nodes", "members of the region", string(id), "%s is no member of region %s", id, d.Region)
	}
	return m, nil
}

// members finds those that a change is about, each of which is in one of the
// given states.
func (d *draft) members(ids []NodeID, states ...State) ([]*Member, error) {
	if len(ids) == 0 {
		return nil, refuse("nodes", "1 or more", "0", "no nodes are named")
	}
	out := make([]*Member, len(ids))
	for i, id := range ids {
		m, err := d.member(id)
		if err != nil {
			return nil, err
		}
		if slices.Contains(ids[:i], id) {
			return nil, refuse("nodes", "each node once", string(id), "%s is named twice", id)
		}
		if !slices.Contains(states, m.State) {
			limit := ""
			for j, s := range states {
				if j > 0 {
					limit += " or "
				}
				limit += s.String()
			}
			return nil, refuse("nodes", limit, m.State.String(), "%s is %s, not %s", id, m.State, limit)
		}
		out[i] = m
	}
	return out, nil
}

func (c Join) apply(d *draft) (Task, error) {
	_, err := d.members(c.Nodes, Joining)
	return Task{Kind: KindJoin, Nodes: c.Nodes}, err
}

func (c Drain) apply(d *draft) (Task, error) {
	task := Task{Kind: KindDrain, Nodes: c.Nodes}
	return task, d.drain(c.Nodes, nil)
}

// drain has members leave, while others join.
func (d *draft) drain(ids, joining []NodeID) error {
	leaving, err := d.members(ids, Up, Joining)
	if err != nil {
		return err
	}
	before := min(len(d.ring(joining...)), d.Rules.Replicas)
	for _, m := range leaving {
		m.State = Draining
	}
	left := len(d.ring(joining...))
	if left < before {
		return refuse("nodes", fmt.Sprintf("%d nodes that stay", before), fmt.Sprint(left),
			"without %s there are %d nodes for %d replicas: have others join first, or lower the number of replicas",
			join(ids), left, d.Rules.Replicas)
	}
	return nil
}

func (c Replace) apply(d *draft) (Task, error) {
	task := Task{Kind: KindReplace, Nodes: []NodeID{c.Dead, c.By}}
	if c.Dead == c.By {
		return task, refuse("by", "another node", string(c.By), "%s cannot take its own place", c.By)
	}
	if _, err := d.members([]NodeID{c.By}, Joining); err != nil {
		return task, err
	}
	return task, d.drain([]NodeID{c.Dead}, []NodeID{c.By})
}

func (c Weight) apply(d *draft) (Task, error) {
	task := Task{Kind: KindRebalance, Nodes: c.Nodes}
	if c.Weight < 1 || c.Weight > hashring.MaxWeight {
		return task, refuse("weight", fmt.Sprintf("1..%d", hashring.MaxWeight), fmt.Sprint(c.Weight), "weight %d is out of bounds", c.Weight)
	}
	ms, err := d.members(c.Nodes, Up, Joining)
	for _, m := range ms {
		m.Weight = c.Weight
	}
	return task, err
}

func (c Rack) apply(d *draft) (Task, error) {
	task := Task{Kind: KindRebalance, Nodes: c.Nodes}
	if c.Rack == "" {
		return task, refuse("rack", "a name", "", "the rack has no name")
	}
	ms, err := d.members(c.Nodes, Up, Joining)
	for _, m := range ms {
		m.Rack = c.Rack
	}
	return task, err
}

func (c Replicas) apply(d *draft) (Task, error) {
	task := Task{Kind: KindRebalance}
	if c.Replicas < 1 || c.Replicas > hashring.MaxReplicas {
		return task, refuse("replicas", fmt.Sprintf("1..%d", hashring.MaxReplicas), fmt.Sprint(c.Replicas), "%d replicas are out of bounds", c.Replicas)
	}
	if n := len(d.ring()); c.Replicas > n {
		return task, refuse("replicas", fmt.Sprintf("at most %d, one for each node", n), fmt.Sprint(c.Replicas),
			"%d replicas need %d nodes, there are %d", c.Replicas, c.Replicas, n)
	}
	d.Rules.Replicas = c.Replicas
	return task, nil
}

func (Rebalance) apply(*draft) (Task, error) { return Task{Kind: KindRebalance}, nil }

// ring returns the members that own partitions when all is done: those that
// are up, and those that a task brings in. More may be named that join.
func (t *Topology) ring(joining ...NodeID) []hashring.Member {
	joining = slices.Clone(joining)
	for _, task := range t.Tasks {
		if task.Ended == 0 && !task.Aborted && (task.Kind == KindJoin || task.Kind == KindReplace) {
			joining = append(joining, task.Nodes...)
		}
	}
	var out []hashring.Member
	for _, m := range t.Members {
		if m.State == Up || m.State == Joining && slices.Contains(joining, m.ID) {
			out = append(out, hashring.Member{ID: string(m.ID), Rack: m.Rack, Weight: m.Weight})
		}
	}
	return out
}
