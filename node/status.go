package node

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/atolldb/atoll/node/api"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/storage"
	"github.com/atolldb/atoll/node/topology"
)

var _ api.Cluster = (*Node)(nil)

// report is what a node tells its peers of itself, as JSON.
type report struct {
	Node  api.NodeStatus
	Links []api.LinkStatus
}

func (n *Node) report() report {
	s := api.NodeStatus{
		ID: n.cfg.ID, Actor: n.replica.Actor(), Ready: n.Ready() == nil,
		PartitionsOwned: len(n.replica.Owned()),
		RepairedKeys:    n.repair.Stats().RepairedKeys.Load(),
		ReadRepairs:     n.coord.Stats().ReadRepairs.Load(),
		Uptime:          time.Since(n.started),
		Version:         n.cfg.Version,
		PeersDown:       n.PeersDown(),
		Epoch:           n.Topology().Epoch, PartitionsBehind: n.replica.BehindCount(),
		Leftovers: len(n.replica.Leftovers()), Unreadable: uint64(n.replica.DamagedCount()),
	}
	s.ClockAhead, s.ClockOff = n.Clock()
	s.MetadataSilent = n.news.storeSilence()
	if n.deps.Metadata != nil {
		s.MetadataServer, s.MetadataBehind, s.MetadataServers = n.deps.Metadata()
	}
	for _, o := range n.hints.Owed() {
		s.Hints += uint64(o.Count)
		s.HintBytes += uint64(o.Bytes)
	}
	s.PartitionsPrimary, s.OpenGaps = n.shares()
	for _, p := range n.replica.Owned() {
		sum := n.replica.Sum(p)
		s.ClockDigest ^= mix(sum.Clock, uint64(p))
		s.DataDigest ^= mix(sum.Digest, uint64(p))
	}
	commits := n.replica.Commits()
	s.DiskFull, s.DiskNeeds = commits.Disk == storage.DiskFull, commits.DiskNeeds
	if u, err := n.replica.Usage(); err == nil {
		s.StoreBytes, s.DiskFree, s.DiskTotal = u.Store, u.Free, u.Total
	}
	if n.pump != nil {
		s.GeoPending = n.pump.Pending()
	}
	return report{Node: s, Links: n.links()}
}

// mix binds a partition's sum to its number before sums are combined by XOR
// (the finaliser of MurmurHash3).
func mix(sum, p uint64) uint64 {
	h := sum + p*0x9e3779b97f4a7c15
	h = (h ^ h>>33) * 0xff51afd7ed558ccd
	h = (h ^ h>>33) * 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

func (n *Node) encodeStatus() ([]byte, error) {
	b, err := json.Marshal(n.report())
	if err != nil {
		return nil, fmt.Errorf("encode status: %w", err)
	}
	return b, nil
}

// MetadataSilent is for how long the store of the region's topology has not answered
// this node.
func (n *Node) MetadataSilent() time.Duration { return n.news.storeSilence() }

// Status asks every node of the region.
func (n *Node) Status(ctx context.Context) (api.Status, error) {
	members := n.Topology().Present()
	reports := make([]report, len(members))
	var wg sync.WaitGroup
	for i, id := range members {
		if id == n.cfg.ID {
			reports[i] = n.report()
			continue
		}
		wg.Go(func() { reports[i] = n.askStatus(ctx, id) })
	}
	wg.Wait()
	var s api.Status
	for _, r := range reports {
		s.Nodes = append(s.Nodes, r.Node)
		s.Links = append(s.Links, r.Links...)
	}
	return s, nil
}

func (n *Node) askStatus(ctx context.Context, id topology.NodeID) report {
	fail := func(err error) report {
		return report{Node: api.NodeStatus{ID: id, Error: err.Error()}}
	}
	b, err := peer.Call(ctx, n.deps.Transport, id, peer.Request{Verb: peer.VerbStatus, Epoch: n.Topology().Epoch, Timeout: time.Second})
	if err != nil {
		return fail(err)
	}
	var r report
	if err := json.Unmarshal(b, &r); err != nil {
		return fail(err)
	}
	return r
}

// Export yields every record of the region; see coord.Export. A bucket that
// does not exist is an error, as for Get: an empty dump would look like one
// that has been kept.
func (n *Node) Export(ctx context.Context, bucket string, yield func(api.ExportedRecord) error) error {
	if bucket != "" {
		if _, err := n.buckets.Get(ctx, bucket); err != nil {
			return err
		}
	}
	return n.coord.Export(ctx, bucket, func(e coord.Exported) error {
		if e.Bucket == coord.SystemBucket {
			return nil // no client could write it anywhere
		}
		return yield(api.ExportedRecord{Bucket: e.Bucket, Key: e.Key, Record: e.Record})
	})
}

// links reports what this node lacks of the regions that it drains.
func (n *Node) links() []api.LinkStatus {
	var out []api.LinkStatus
	if n.lag == nil || !n.onDuty() {
		return nil
	}
	in, _ := n.lag.Report(time.Now(), nil)
	for _, l := range in {
		out = append(out, api.LinkStatus{
			Origin: topology.Region(l.Origin), Node: n.cfg.ID, Alive: l.Alive, HeartbeatAge: l.HeartbeatAge,
			Pending: l.Pending, Oldest: l.PendingAge, PendingBytes: l.PendingBytes,
		})
	}
	return out
}
