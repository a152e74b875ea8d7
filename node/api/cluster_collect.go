package api

import (
	"context"
	"strconv"
	"time"

	"github.com/atolldb/atoll/node/collect"
	"github.com/atolldb/atoll/node/topology"
	adminv1 "github.com/atolldb/atoll/proto/atoll/admin/v1"
)

// maxForget bounds the ids of one request.
const maxForget = 4096

// Collect serves Cluster.Collect.
func (s *ClusterService) Collect(ctx context.Context, q *adminv1.CollectRequest) (*adminv1.CollectResponse, error) {
	grace := time.Duration(0)
	if q.GraceMs != nil {
		if *q.GraceMs < collect.MinGrace.Milliseconds() || *q.GraceMs > (100*365*24*time.Hour).Milliseconds() {
			return nil, ToStatus(invalid("grace_ms", "the grace is out of bounds",
				strconv.FormatInt(collect.MinGrace.Milliseconds(), 10)+" or more, and less than a century",
				strconv.FormatInt(*q.GraceMs, 10))).Err()
		}
		grace = time.Duration(*q.GraceMs) * time.Millisecond
	}
	p, err := s.ops.Collections.StartCollect(ctx, grace)
	if err != nil {
		return nil, readStatus(ctx, err).Err() // it may be started as often as one likes
	}
	return &adminv1.CollectResponse{Collect: encodeCollect(p)}, nil
}

// CollectStatus serves Cluster.CollectStatus.
func (s *ClusterService) CollectStatus(
	ctx context.Context, _ *adminv1.CollectStatusRequest,
) (*adminv1.CollectStatusResponse, error) {
	p, err := s.ops.Collections.CollectProgress(ctx)
	if err != nil {
		return nil, readStatus(ctx, err).Err()
	}
	return &adminv1.CollectStatusResponse{Collect: encodeCollect(p)}, nil
}

func encodeCollect(p CollectProgress) *adminv1.CollectProgress {
	out := &adminv1.CollectProgress{}
	for i := range p.Nodes {
		out.Running = out.Running || p.Nodes[i].Demand.Runs()
		out.Nodes = append(out.Nodes, encodeNodeCollect(&p.Nodes[i]))
	}
	return out
}

func encodeNodeCollect(n *NodeCollect) *adminv1.NodeCollect {
	if n.Error != "" {
		return &adminv1.NodeCollect{Id: string(n.ID), Region: string(n.Region), Error: n.Error}
	}
	out := &adminv1.NodeCollect{
		Id: string(n.ID), Region: string(n.Region),
		EveryMs: n.Every.Milliseconds(), GraceMs: n.Grace.Milliseconds(),
		OldestFloorMs: unixMillis(n.Oldest), Owned: uint32(n.Owned), NeverCollected: uint32(n.Never),
		RoundsBegun: n.Begun, RoundsDone: n.Done, RoundsOff: n.Off, Dropped: n.Dropped,
		LastDoneMs: unixMillis(n.LastDone), SetAside: uint64(n.Aside),
	}
	if d := n.Demand; d != nil {
		out.Demand = &adminv1.CollectDemand{
			BegunMs: unixMillis(d.Begun), EndedMs: unixMillis(d.Ended), FloorMs: d.Floor.Millis(),
			Partitions: uint32(d.Partitions), Done: uint32(d.Done), Off: uint32(d.Off),
		}
	}
	if c := n.Now; c != nil {
		out.Current = &adminv1.CollectCurrent{Partition: uint32(c.Partition), Pass: c.Pass.String(), Node: string(c.Waits.Node)}
		if !c.Waits.None() {
			out.Current.WaitsFor = c.Waits.String()
		}
	}
	for _, g := range n.Stalls {
		out.Stalls = append(out.Stalls, &adminv1.CollectStall{
			Partitions: uint32(g.Partitions), First: uint32(g.First), SinceMs: unixMillis(g.Since),
			Reason: g.Why.Reason.String(), Node: string(g.Why.Node), Detail: g.Why.Detail,
		})
	}
	return out
}

// ListAside serves Cluster.ListAside.
func (s *ClusterService) ListAside(ctx context.Context, q *adminv1.ListAsideRequest) (*adminv1.ListAsideResponse, error) {
	if err := s.checkMember(q.Node); err != nil {
		return nil, err
	}
	entries, more, err := s.ops.Collections.ListAside(ctx, topology.NodeID(q.Node), q.After)
	if err != nil {
		return nil, readStatus(ctx, err).Err()
	}
	res := &adminv1.ListAsideResponse{More: more}
	for _, e := range entries {
		rec, _ := exportRecord(ExportedRecord{Bucket: e.Bucket, Key: e.Key, Record: e.Record}, false)
		res.Entries = append(res.Entries, &adminv1.AsideEntry{Id: e.ID, Partition: uint32(e.Partition), Record: rec})
	}
	return res, nil
}

// ForgetAside serves Cluster.ForgetAside.
func (s *ClusterService) ForgetAside(
	ctx context.Context, q *adminv1.ForgetAsideRequest,
) (*adminv1.ForgetAsideResponse, error) {
	if err := s.checkMember(q.Node); err != nil {
		return nil, err
	}
	if n := len(q.Ids); n < 1 || n > maxForget {
		return nil, ToStatus(invalid("ids", "the number of ids is out of bounds", "1.."+strconv.Itoa(maxForget), strconv.Itoa(n))).Err()
	}
	n, err := s.ops.Collections.ForgetAside(ctx, topology.NodeID(q.Node), q.Ids)
	if err != nil {
		return nil, writeStatus(err).Err()
	}
	return &adminv1.ForgetAsideResponse{Forgotten: uint32(n)}, nil
}

// checkMember refuses what is not a node of the region.
func (s *ClusterService) checkMember(id string) error {
	if m := s.cluster.Topology().Member(topology.NodeID(id)); m == nil || m.State == topology.Left {
		return ToStatus(invalid("node", "no such node", "a node of the region", strconv.Quote(id))).Err()
	}
	return nil
}
