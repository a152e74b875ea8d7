package api

import (
	"context"
	"strconv"

	"google.golang.org/grpc/status"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/topology"
	adminv1 "github.com/atolldb/atoll/proto/atoll/admin/v1"
)

// exportMessage is about how many bytes of records go into one message.
const exportMessage = 256 << 10

// ClusterService serves atoll.admin.v1.Cluster.
type ClusterService struct {
	adminv1.UnimplementedClusterServer
	cluster Cluster
	ops     Operations
}

// NewClusterService serves what c knows and what ops can do.
func NewClusterService(c Cluster, ops Operations) *ClusterService {
	return &ClusterService{cluster: c, ops: ops}
}

func (s *ClusterService) GetStatus(
	ctx context.Context, _ *adminv1.GetStatusRequest,
) (*adminv1.GetStatusResponse, error) {
	st, err := s.cluster.Status(ctx)
	if err != nil {
		return nil, readStatus(ctx, err).Err()
	}
	t := s.cluster.Topology()
	res := &adminv1.GetStatusResponse{Region: string(t.Region), Epoch: uint64(t.Epoch)}
	for i := range st.Nodes {
		res.Nodes = append(res.Nodes, nodeStatus(&st.Nodes[i]))
	}
	res.Links = linkStatuses(st.Links)
	return res, nil
}

func linkStatuses(links []LinkStatus) (out []*adminv1.LinkStatus) {
	for _, l := range links {
		out = append(out, &adminv1.LinkStatus{
			Origin: string(l.Origin), Node: string(l.Node), Alive: l.Alive,
			HeartbeatAgeMs: l.HeartbeatAge.Milliseconds(), Pending: l.Pending,
			OldestMs: l.Oldest.Milliseconds(), PendingBytes: l.PendingBytes,
		})
	}
	return out
}

func nodeStatus(n *NodeStatus) *adminv1.NodeStatus {
	if n.Error != "" {
		return &adminv1.NodeStatus{Id: string(n.ID), Error: n.Error}
	}
	down := make([]string, len(n.PeersDown))
	for i, id := range n.PeersDown {
		down[i] = string(id)
	}
	return &adminv1.NodeStatus{
		Id: string(n.ID), Actor: uint32(n.Actor), Ready: n.Ready,
		PartitionsOwned: uint32(n.PartitionsOwned), PartitionsPrimary: uint32(n.PartitionsPrimary),
		OpenGaps: n.OpenGaps, ClockDigest: n.ClockDigest, DataDigest: n.DataDigest,
		RepairedKeys: n.RepairedKeys, ReadRepairs: n.ReadRepairs,
		StoreBytes: n.StoreBytes, DiskFree: n.DiskFree, DiskTotal: n.DiskTotal, DiskNeeds: n.DiskNeeds,
		GeoPending: n.GeoPending, UptimeMs: n.Uptime.Milliseconds(), Version: n.Version, PeersDown: down,
		Epoch: uint64(n.Epoch), PartitionsBehind: uint32(n.PartitionsBehind), Leftovers: uint32(n.Leftovers),
		Hints: n.Hints, HintBytes: n.HintBytes, Unreadable: n.Unreadable,
		ClockAheadMs: n.ClockAhead.Milliseconds(), ClockOff: n.ClockOff, DiskFull: n.DiskFull,
		MetadataSilentMs: n.MetadataSilent.Milliseconds(),
		MetadataServer:   n.MetadataServer, MetadataServers: uint32(n.MetadataServers), MetadataServerBehind: n.MetadataBehind,
	}
}

func (s *ClusterService) Locate(_ context.Context, q *adminv1.LocateRequest) (*adminv1.LocateResponse, error) {
	if n := len(q.Key); n < 1 || n > coord.MaxKey {
		return nil, ToStatus(&coord.Error{
			Code: coord.CodeInvalid, Detail: "key is out of bounds", Field: "key",
			Limit: "1.." + strconv.Itoa(coord.MaxKey) + " bytes", Seen: strconv.Itoa(n) + " bytes",
		}).Err()
	}
	t := s.cluster.Topology()
	hash, p := locate(t, q.Bucket, q.Key)
	return &adminv1.LocateResponse{
		KeyHash: hash, Partition: uint32(p), Owners: names(servers(t, p)), Epoch: uint64(t.Epoch),
	}, nil
}

// locate a key of a bucket, "" for the default one.
func locate(t *topology.Topology, bucket string, key []byte) (hash uint64, p hashring.Partition) {
	if bucket == "" {
		bucket = coord.DefaultBucket
	}
	full := make([]byte, 0, len(bucket)+1+len(key))
	full = append(append(append(full, bucket...), 0), key...)
	hash = hashring.KeyHash(full)
	return hash, hashring.PartitionOf(hash, t.Table.Partitions())
}

func (s *ClusterService) Export(q *adminv1.ExportRequest, stream adminv1.Cluster_ExportServer) error {
	var msg adminv1.ExportResponse
	size := 0
	flush := func() error {
		if len(msg.Records) == 0 {
			return nil
		}
		err := stream.Send(&msg) // encodes before it returns
		clear(msg.Records)
		msg.Records, size = msg.Records[:0], 0
		return err
	}
	err := s.cluster.Export(stream.Context(), q.Bucket, func(r ExportedRecord) error {
		if len(r.Record.Versions) < int(q.MinVersions) {
			return nil
		}
		rec, n := exportRecord(r, q.NoValues)
		if size+n > exportMessage {
			if err := flush(); err != nil {
				return err
			}
		}
		msg.Records = append(msg.Records, rec)
		size += n
		return nil
	})
	if err == nil {
		err = flush()
	}
	if err != nil {
		return readStatus(stream.Context(), err).Err()
	}
	return nil
}

// exportRecord also returns about how many bytes the record takes.
func exportRecord(r ExportedRecord, noValues bool) (*adminv1.ExportRecord, int) {
	out := &adminv1.ExportRecord{
		Bucket: r.Bucket, Key: r.Key,
		Versions: make([]*adminv1.ExportVersion, len(r.Record.Versions)),
	}
	size := 16 + len(r.Bucket) + len(r.Key)
	for i := range r.Record.Versions {
		v := &r.Record.Versions[i]
		out.Versions[i] = &adminv1.ExportVersion{
			Actor: uint32(v.Dot.Actor), N: v.Dot.N, Stamp: uint64(v.Stamp),
			Deleted: v.Dead, ExpiresAt: v.Expiry, Past: past(v.Past),
		}
		if noValues {
			out.Versions[i].Size = uint64(len(v.Value))
			size += 40 + 12*len(v.Past) + 16*v.Past.Ranges()
			continue
		}
		out.Versions[i].Value = v.Value
		size += 40 + len(v.Value) + 12*len(v.Past) + 16*v.Past.Ranges()
	}
	return out, size
}

func past(vv crdt.VV) []*adminv1.PastEntry {
	out := make([]*adminv1.PastEntry, len(vv))
	for i, e := range vv {
		out[i] = &adminv1.PastEntry{Actor: uint32(e.Actor), N: e.N}
		for _, h := range e.Holes {
			out[i].Holes = append(out[i].Holes, &adminv1.PastHole{First: h.Lo, Last: h.Hi})
		}
	}
	return out
}

// readStatus is the status of a call that only looked.
func readStatus(ctx context.Context, err error) *status.Status {
	if st, ok := status.FromError(err); ok { // from the transport
		return st
	}
	if ctx.Err() != nil {
		return status.FromContextError(ctx.Err())
	}
	return ToStatus(classify(err, false))
}
