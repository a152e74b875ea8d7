package api

import (
	"context"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/collect"
	"github.com/atolldb/atoll/node/topology"
)

// Collections collect tombstones on demand, and show what was set aside because
// of them.
type Collections interface {
	// StartCollect begins a round of every partition, of what is older than grace;
	// 0 is what each node is configured with.
	StartCollect(ctx context.Context, grace time.Duration) (CollectProgress, error)
	// CollectProgress of the nodes of all regions.
	CollectProgress(ctx context.Context) (CollectProgress, error)
	// ListAside returns entries of a node's side log behind that of an id, and
	// whether more follow. An error is a *coord.Error, or that of asking.
	ListAside(ctx context.Context, node topology.NodeID, after []byte) (entries []Aside, more bool, err error)
	// ForgetAside deletes entries and returns how many there were.
	ForgetAside(ctx context.Context, node topology.NodeID, ids [][]byte) (int, error)
}

// CollectProgress of all regions.
type CollectProgress struct {
	Nodes []NodeCollect
}

// NodeCollect is what one node tells.
type NodeCollect struct {
	ID     topology.NodeID
	Region topology.Region
	// Error is set when the node did not answer; then the rest is empty.
	Error string
	collect.Report
}

// Aside is an entry of a side log.
type Aside struct {
	ID        []byte
	Partition hashring.Partition
	Bucket    string
	Key       []byte
	Record    crdt.Record
}
