package api

import (
	"context"
	"fmt"
	"regexp"
	"strconv"

	"google.golang.org/grpc/status"

	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/topology"
	adminv1 "github.com/atolldb/atoll/proto/atoll/admin/v1"
)

// The bounds of a change.
const (
	maxChangeNodes = 256
	maxRack        = 63
)

var nodeID = regexp.MustCompile(`^[a-z0-9-]{1,63}$`)

// Plan serves Cluster.Plan.
func (s *ClusterService) Plan(ctx context.Context, q *adminv1.PlanRequest) (*adminv1.PlanResponse, error) {
	c, bad := decodeChange(q.Change)
	if bad != nil {
		return nil, ToStatus(bad).Err()
	}
	p, err := s.ops.Membership.Plan(ctx, c)
	if err != nil {
		return nil, readStatus(ctx, err).Err()
	}
	if c.Kind == ChangeDrain || c.Kind == ChangeReplace {
		if st, err := s.cluster.Status(ctx); err == nil {
			p.Warnings = append(p.Warnings, st.Metadata().withoutNodes(c.Nodes)...)
		}
	}
	return encodePlan(&p, q.Change), nil
}

// Commit serves Cluster.Commit.
func (s *ClusterService) Commit(ctx context.Context, q *adminv1.CommitRequest) (*adminv1.CommitResponse, error) {
	if q.Id == nil || q.Id.Epoch == 0 {
		return nil, ToStatus(invalid("plan", "not the id of a plan", "the id that Plan returned", "none")).Err()
	}
	c, bad := decodeChange(q.Change)
	if bad != nil {
		return nil, ToStatus(bad).Err()
	}
	id := PlanID{
		Epoch: topology.Epoch(q.Id.Epoch), Revision: topology.Revision(q.Id.Revision), Digest: q.Id.Digest,
	}
	task, err := s.ops.Membership.Commit(ctx, id, c)
	if err != nil {
		return nil, writeStatus(err).Err()
	}
	return &adminv1.CommitResponse{Task: uint64(task)}, nil
}

// writeStatus is the status of a call that changes something: what is not known
// to be without effect is unknown.
func writeStatus(err error) *status.Status { return ToStatus(classify(err, true)) }

func invalid(field, detail, limit, seen string) *coord.Error {
	return &coord.Error{Code: coord.CodeInvalid, Detail: detail, Field: field, Limit: limit, Seen: seen}
}

// decodeChange checks what can be checked without a topology.
func decodeChange(w *adminv1.Change) (Change, *coord.Error) {
	if k := w.GetKind(); k < adminv1.ChangeKind(ChangeJoin) || k > adminv1.ChangeKind(ChangeRebalance) {
		return Change{}, invalid("kind", "no such change", "join, drain, replace, weight, rack, replicas or rebalance", k.String())
	}
	c := Change{
		Kind: ChangeKind(w.GetKind()), By: topology.NodeID(w.GetBy()), Weight: int(w.GetWeight()), Rack: w.GetRack(),
		Replicas: int(w.GetReplicas()), AcceptLoss: w.GetAcceptLoss(),
	}
	seen := make(map[topology.NodeID]bool, len(w.Nodes))
	for _, id := range w.Nodes {
		if bad := checkNode("nodes", id); bad != nil {
			return c, bad
		}
		if seen[topology.NodeID(id)] {
			return c, invalid("nodes", "a node is named twice", "each node once", strconv.Quote(id))
		}
		seen[topology.NodeID(id)] = true
		c.Nodes = append(c.Nodes, topology.NodeID(id))
	}
	if bad := c.checkNodes(); bad != nil {
		return c, bad
	}
	return c, c.checkValues()
}

func (c *Change) checkNodes() *coord.Error {
	least, most := 1, maxChangeNodes
	switch c.Kind {
	case ChangeReplace:
		most = 1
	case ChangeReplicas, ChangeRebalance:
		least, most = 0, 0
	}
	if n := len(c.Nodes); n < least || n > most {
		return invalid("nodes", "the number of nodes is out of bounds",
			fmt.Sprintf("%d..%d nodes", least, most), strconv.Itoa(n)+" nodes")
	}
	if c.Kind != ChangeReplace {
		return nil
	}
	if bad := checkNode("by", string(c.By)); bad != nil {
		return bad
	}
	if c.By == c.Nodes[0] {
		return invalid("by", "a node cannot replace itself", "another node", strconv.Quote(string(c.By)))
	}
	return nil
}

func (c *Change) checkValues() *coord.Error {
	switch {
	case c.Kind == ChangeWeight && (c.Weight < 1 || c.Weight > hashring.MaxWeight):
		return invalid("weight", "the weight is out of bounds", "1.."+strconv.Itoa(hashring.MaxWeight), strconv.Itoa(c.Weight))
	case c.Kind == ChangeRack && (c.Rack == "" || len(c.Rack) > maxRack):
		return invalid("rack", "the rack's name is out of bounds",
			"1.."+strconv.Itoa(maxRack)+" bytes", strconv.Itoa(len(c.Rack))+" bytes")
	case c.Kind == ChangeReplicas && (c.Replicas < 1 || c.Replicas > hashring.MaxReplicas):
		return invalid("replicas", "the number of replicas is out of bounds", "1.."+strconv.Itoa(hashring.MaxReplicas), strconv.Itoa(c.Replicas))
	}
	for _, f := range []struct {
		name string
		set  bool
		of   ChangeKind
	}{
		{"by", c.By != "", ChangeReplace},
		{"weight", c.Weight != 0, ChangeWeight},
		{"rack", c.Rack != "", ChangeRack},
		{"replicas", c.Replicas != 0, ChangeReplicas},
	} {
		if f.set && c.Kind != f.of {
			return invalid(f.name, "the kind of change has no such field", "empty", "a value")
		}
	}
	return nil
}

func checkNode(field, id string) *coord.Error {
	if !nodeID.MatchString(id) {
		return invalid(field, "not the id of a node", "1..63 bytes of a-z, 0-9 and -", strconv.Quote(id))
	}
	return nil
}

func encodePlan(p *Plan, c *adminv1.Change) *adminv1.PlanResponse {
	res := &adminv1.PlanResponse{
		Id:     &adminv1.PlanID{Epoch: uint64(p.ID.Epoch), Revision: uint64(p.ID.Revision), Digest: p.ID.Digest},
		Change: c, Minimum: uint32(p.Minimum), Copies: uint32(p.Copies), Bytes: p.Bytes,
		Seconds: uint64(p.Lasts.Seconds()), Pace: encodePace(p.Pace), Warnings: p.Warnings,
	}
	for _, m := range p.Moves {
		res.Moves = append(res.Moves, &adminv1.PlannedMove{
			Partition: uint32(m.Partition), Slot: uint32(m.Slot), From: string(m.From), To: string(m.To), Bytes: m.Bytes,
		})
	}
	for _, n := range p.Nodes {
		res.Nodes = append(res.Nodes, &adminv1.NodePlan{
			Id: string(n.ID), OwnedBefore: uint32(n.OwnedBefore), OwnedAfter: uint32(n.OwnedAfter),
			PrimaryBefore: uint32(n.PrimaryBefore), PrimaryAfter: uint32(n.PrimaryAfter),
			FairBefore: n.FairBefore, FairAfter: n.FairAfter, BytesIn: n.BytesIn, BytesOut: n.BytesOut,
		})
	}
	return res
}
