package api

import (
	"context"
	"strconv"
	"time"

	"github.com/atolldb/atoll/hashring"
	adminv1 "github.com/atolldb/atoll/proto/atoll/admin/v1"
)

// How many hot keys are told.
const (
	defaultHotKeys = 20
	maxHotKeys     = 1000
)

// Repair serves Cluster.Repair.
func (s *ClusterService) Repair(ctx context.Context, q *adminv1.RepairRequest) (*adminv1.RepairResponse, error) {
	scope := RepairScope{Deep: q.Deep}
	if q.Partition != nil {
		if n := s.cluster.Topology().Table.Partitions(); int64(*q.Partition) >= int64(n) {
			return nil, ToStatus(invalid("partition", "no such partition",
				"0.."+strconv.Itoa(n-1), strconv.FormatUint(uint64(*q.Partition), 10))).Err()
		}
		p := hashring.Partition(*q.Partition)
		scope.Partition = &p
	}
	progress, err := s.ops.Repairs.StartRepair(ctx, scope)
	if err != nil {
		return nil, readStatus(ctx, err).Err() // it may be started as often as one likes
	}
	return &adminv1.RepairResponse{Repair: encodeRepair(progress)}, nil
}

// RepairStatus serves Cluster.RepairStatus.
func (s *ClusterService) RepairStatus(
	ctx context.Context, _ *adminv1.RepairStatusRequest,
) (*adminv1.RepairStatusResponse, error) {
	progress, err := s.ops.Repairs.RepairProgress(ctx)
	if err != nil {
		return nil, readStatus(ctx, err).Err()
	}
	return &adminv1.RepairStatusResponse{Repair: encodeRepair(progress)}, nil
}

// encodeRepair makes one number of all nodes: the mean of what each has done of
// what it was asked for.
func encodeRepair(p RepairProgress) *adminv1.RepairProgress {
	res := &adminv1.RepairProgress{}
	for _, n := range p.Nodes {
		res.Running = res.Running || n.Running
		switch {
		case n.Partitions > 0:
			res.Progress += float64(n.Done) / float64(n.Partitions) / float64(len(p.Nodes))
		case n.Error == "" && !n.Running && !n.Ended.IsZero(): // it owns nothing of what was asked for
			res.Progress += 1 / float64(len(p.Nodes))
		}
		res.Nodes = append(res.Nodes, &adminv1.NodeRepair{
			Id: string(n.ID), Error: n.Error, Running: n.Running, Deep: n.Deep,
			BegunMs: unixMillis(n.Begun), EndedMs: unixMillis(n.Ended),
			Partitions: uint32(n.Partitions), Done: uint32(n.Done), Skipped: uint32(n.Skipped),
			RepairedKeys: n.RepairedKeys, Unreadable: n.Unreadable,
		})
	}
	res.Progress = min(res.Progress, 1) // sums of fractions
	return res
}

func unixMillis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// HotKeys serves Cluster.HotKeys.
func (s *ClusterService) HotKeys(ctx context.Context, q *adminv1.HotKeysRequest) (*adminv1.HotKeysResponse, error) {
	limit := int(q.Limit)
	switch {
	case limit == 0:
		limit = defaultHotKeys
	case limit > maxHotKeys:
		return nil, ToStatus(invalid("limit", "too many keys",
			"1.."+strconv.Itoa(maxHotKeys), strconv.Itoa(limit))).Err()
	}
	hot, err := s.ops.HotKeys.HotKeys(ctx, limit)
	if err != nil {
		return nil, readStatus(ctx, err).Err()
	}
	res := &adminv1.HotKeysResponse{
		ReadsPerSecond: hot.Reads, WritesPerSecond: hot.Writes,
		Floor: hot.Floor, Silent: names(hot.Silent),
	}
	t := s.cluster.Topology()
	for _, k := range hot.Entries[:min(limit, len(hot.Entries))] {
		_, p := locate(t, k.Bucket, k.Key)
		res.Keys = append(res.Keys, &adminv1.HotKey{
			Bucket: k.Bucket, Key: k.Key, ReadsPerSecond: k.Reads, WritesPerSecond: k.Writes, Error: k.Error,
			Partition: uint32(p), Owners: names(servers(t, p)),
		})
	}
	return res, nil
}
