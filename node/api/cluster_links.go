package api

import (
	"context"
	"strconv"
	"time"

	adminv1 "github.com/atolldb/atoll/proto/atoll/admin/v1"

	"github.com/atolldb/atoll/node/topology"
)

// maxVerifyWait bounds how long one call of RegionVerify looks again.
const maxVerifyWait = time.Minute

// RegionLag serves Cluster.RegionLag.
func (s *ClusterService) RegionLag(ctx context.Context, _ *adminv1.RegionLagRequest) (*adminv1.RegionLagResponse, error) {
	lag, err := s.ops.Links.Lag(ctx)
	if err != nil {
		return nil, readStatus(ctx, err).Err()
	}
	res := &adminv1.RegionLagResponse{Region: string(s.cluster.Topology().Region), Silent: names(lag.Silent)}
	for _, l := range lag.Links {
		res.Links = append(res.Links, &adminv1.RegionLink{
			Origin: l.Origin, Destination: l.Destination, SeenBy: string(l.SeenBy),
			Alive: l.Alive, Heard: l.Heard, HeartbeatAgeMs: l.HeartbeatAge.Milliseconds(),
			Pending: l.Pending, PendingBytes: l.PendingBytes, OldestMs: l.PendingAge.Milliseconds(),
			Unheld: l.Unheld, UnknownPartitions: uint32(l.Unknown), UnsurePartitions: uint32(l.Unsure),
			CompleteAsOfMs: unixMillis(l.CompleteAsOf), NeedsFullSync: names(l.NeedFullSync),
		})
	}
	return res, nil
}

// RegionVerify serves Cluster.RegionVerify.
func (s *ClusterService) RegionVerify(
	ctx context.Context, q *adminv1.RegionVerifyRequest,
) (*adminv1.RegionVerifyResponse, error) {
	if q.WaitMs < 0 || q.WaitMs > maxVerifyWait.Milliseconds() {
		return nil, ToStatus(invalid("wait_ms", "the wait is out of bounds",
			"0.."+strconv.FormatInt(maxVerifyWait.Milliseconds(), 10), strconv.FormatInt(q.WaitMs, 10))).Err()
	}
	if q.A == q.B {
		return nil, ToStatus(invalid("b", "a region cannot be compared with itself", "another region than a", strconv.Quote(q.B))).Err()
	}
	v, err := s.ops.Links.Verify(ctx, VerifyScope{
		A: topology.Region(q.A), B: topology.Region(q.B), Deep: q.Deep, Wait: time.Duration(q.WaitMs) * time.Millisecond,
	})
	if err != nil {
		return nil, readStatus(ctx, err).Err()
	}
	res := &adminv1.RegionVerifyResponse{
		Partitions: uint32(v.Partitions), Equal: uint32(v.Equal),
		TookMs: v.Took.Milliseconds(), BeganMs: unixMillis(v.Began),
	}
	for _, o := range v.Others {
		res.Others = append(res.Others, &adminv1.PartitionVerdict{
			Partition: uint32(o.Partition), Kind: adminv1.VerdictKind(o.Kind),
			MissingInA: o.MissingInA, MissingInB: o.MissingInB, Nodes: names(o.Nodes),
		})
	}
	return res, nil
}
