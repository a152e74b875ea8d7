package api

import (
	"context"
	"errors"
	"slices"

	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/topology"
	adminv1 "github.com/atolldb/atoll/proto/atoll/admin/v1"
)

// GetTopology serves Cluster.GetTopology.
func (s *ClusterService) GetTopology(
	context.Context, *adminv1.GetTopologyRequest,
) (*adminv1.GetTopologyResponse, error) {
	res, err := encodeTopology(s.cluster.Topology())
	if err != nil {
		return nil, ToStatus(classify(err, false)).Err()
	}
	res.Directory = directory(s.ops.Directory)
	return res, nil
}

// servers of a partition: who answers reads for each slot and may mint, the
// primary first.
func servers(t *topology.Topology, p hashring.Partition) []topology.NodeID {
	row := t.Row(p)
	ids := make([]topology.NodeID, len(row.Slots))
	for i, slot := range row.Slots {
		ids[i] = slot.Serves()
	}
	return ids
}

func names(ids []topology.NodeID) []string {
	out := make([]string, len(ids))
	for i, id := range ids {
		out[i] = string(id)
	}
	return out
}

// encodeTopology fails when an owner is not a member.
func encodeTopology(t *topology.Topology) (*adminv1.GetTopologyResponse, error) {
	res := &adminv1.GetTopologyResponse{
		Region:     string(t.Region),
		Epoch:      uint64(t.Epoch),
		Partitions: uint32(t.Table.Partitions()),
		Pace:       encodePace(t.Pace),
	}
	index := make(map[topology.NodeID]uint32, len(t.Members))
	for _, m := range t.Members {
		if m.State == topology.Left {
			res.Left = append(res.Left, string(m.ID))
			continue
		}
		index[m.ID] = uint32(len(res.Members))
		res.Members = append(res.Members, &adminv1.Member{
			Id: string(m.ID), Rack: m.Rack, Weight: uint32(m.Weight),
			ClientAddr: m.ClientAddr, PeerAddr: m.PeerAddr, State: memberState(m.State),
		})
	}
	for _, m := range t.Moves {
		res.Moves = append(res.Moves, encodeMove(m))
	}
	for _, e := range t.Since {
		res.Since = append(res.Since, uint64(e))
	}
	rows := make([]*adminv1.Row, t.Table.Partitions())
	for p := range rows {
		ids := servers(t, hashring.Partition(p))
		rows[p] = &adminv1.Row{Owners: make([]uint32, len(ids))}
		for i, id := range ids {
			m, ok := index[id]
			if !ok {
				return nil, errors.New("the topology names an owner that is not a member")
			}
			rows[p].Owners[i] = m
		}
	}
	setRows(res, rows, t.Rules.Replicas)
	return res, nil
}

// setRows uses the form without rows when it can say the same: clients of the
// first hour know no other.
func setRows(res *adminv1.GetTopologyResponse, rows []*adminv1.Row, aim int) {
	if len(rows) == 0 {
		return
	}
	n := len(rows[0].Owners)
	if slices.ContainsFunc(rows, func(r *adminv1.Row) bool { return len(r.Owners) != n }) {
		res.Rows, res.Replicas = rows, uint32(aim)
		return
	}
	res.Replicas = uint32(n)
	res.Owners = make([]uint32, 0, n*len(rows))
	for _, r := range rows {
		res.Owners = append(res.Owners, r.Owners...)
	}
}

func encodeMove(m topology.Move) *adminv1.Move {
	return &adminv1.Move{
		Id: uint64(m.ID), Task: uint64(m.Task), Partition: uint32(m.Partition), Slot: uint32(m.Slot),
		From: string(m.From), To: string(m.To), Stage: moveStage(m.Stage), Began: uint64(m.Began),
	}
}

func memberState(s topology.State) adminv1.MemberState {
	switch s {
	case topology.Up:
		return adminv1.MemberState_MEMBER_STATE_UP
	case topology.Joining:
		return adminv1.MemberState_MEMBER_STATE_JOINING
	case topology.Draining:
		return adminv1.MemberState_MEMBER_STATE_DRAINING
	case topology.Left:
		return adminv1.MemberState_MEMBER_STATE_LEFT
	}
	return adminv1.MemberState_MEMBER_STATE_UNSPECIFIED
}

func moveStage(s topology.Stage) adminv1.MoveStage {
	switch s {
	case topology.Planned:
		return adminv1.MoveStage_MOVE_STAGE_PLANNED
	case topology.Copying:
		return adminv1.MoveStage_MOVE_STAGE_COPYING
	case topology.Switched:
		return adminv1.MoveStage_MOVE_STAGE_SWITCHED
	}
	return adminv1.MoveStage_MOVE_STAGE_UNSPECIFIED
}

// The pace where none is set; see topology.Pace.
const (
	defaultPaceBytes      = 64 << 20
	defaultPaceConcurrent = 16
)

func encodePace(p topology.Pace) *adminv1.Pace {
	out := &adminv1.Pace{BytesPerSecond: p.BytesPerSecond, Concurrent: uint32(p.Concurrent)}
	if out.BytesPerSecond == 0 {
		out.BytesPerSecond = defaultPaceBytes
	}
	if out.Concurrent == 0 {
		out.Concurrent = defaultPaceConcurrent
	}
	return out
}
