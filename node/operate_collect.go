package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/api"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/replica"
	"github.com/atolldb/atoll/node/topology"
)

// asidePage is about how many bytes of entries one answer has.
const asidePage = 1 << 20

type collectOrder struct {
	// Grace is how old deletes have to be; 0 is what the node is configured with.
	Grace time.Duration
}

type asideOrder struct {
	After []byte
}

type asideAnswer struct {
	Entries []asideEntry
	More    bool
}

type asideEntry struct {
	ID        []byte
	Partition hashring.Partition
	Key       []byte // full key
	Record    []byte // encoded
}

// obeyCollect does what is asked about collection.
func (n *Node) obeyCollect(o order) (answer, error) {
	switch {
	case o.Aside != nil:
		page, err := n.asidePage(o.Aside.After)
		return answer{Aside: page}, err
	case o.Forget != nil:
		forgotten, err := n.replica.ForgetAside(o.Forget)
		return answer{Forgotten: forgotten}, err
	case o.Collect != nil:
		grace := o.Collect.Grace
		if grace == 0 {
			grace = n.dead.Report().Grace
		}
		if err := n.dead.Demand(grace); err != nil {
			return answer{}, err
		}
	}
	r := n.dead.Report()
	return answer{Collect: &r}, nil
}

func (n *Node) asidePage(after []byte) (*asideAnswer, error) {
	page, size := &asideAnswer{}, 0
	err := n.replica.EachAside(after, func(a replica.Aside) bool {
		if size >= asidePage {
			page.More = true
			return false
		}
		e := asideEntry{a.ID(), a.Partition, a.Key, crdt.AppendRecord(nil, a.KeyHash, a.Record)}
		page.Entries = append(page.Entries, e)
		size += len(e.ID) + len(e.Key) + len(e.Record)
		return true
	})
	return page, err
}

var _ api.Collections = operators{}

// StartCollect implements api.Collections.
func (o operators) StartCollect(ctx context.Context, grace time.Duration) (api.CollectProgress, error) {
	return o.collects(ctx, order{Collect: &collectOrder{Grace: grace}})
}

// CollectProgress implements api.Collections.
func (o operators) CollectProgress(ctx context.Context) (api.CollectProgress, error) {
	return o.collects(ctx, order{Collects: true})
}

// collects asks all nodes of all regions: those of one region begin the rounds,
// and those of all drop what is dead.
func (o operators) collects(ctx context.Context, ask order) (api.CollectProgress, error) {
	var out api.CollectProgress
	var ids []topology.NodeID
	for _, t := range append([]*topology.Topology{o.n.Topology()}, o.n.deps.Others.All()...) {
		for _, id := range t.Present() {
			ids = append(ids, id)
			out.Nodes = append(out.Nodes, api.NodeCollect{ID: id, Region: t.Region})
		}
	}
	answers, errs := o.n.orderThese(ctx, ids, ask)
	for i := range ids {
		switch r := answers[i].Collect; {
		case errs[i] != nil:
			out.Nodes[i].Error = errs[i].Error()
		case r == nil: // a node of before
			out.Nodes[i].Error = "it tells nothing about collection"
		default:
			out.Nodes[i].Report = *r
		}
	}
	return out, nil
}

// ListAside implements api.Collections.
func (o operators) ListAside(ctx context.Context, node topology.NodeID, after []byte) (entries []api.Aside, more bool, err error) {
	a, err := o.orderOne(ctx, node, order{Aside: &asideOrder{After: after}})
	if err != nil {
		return nil, false, err
	}
	if a.Aside == nil {
		return nil, false, fmt.Errorf("%s has no answer about its side log", node)
	}
	for _, e := range a.Aside.Entries {
		bucket, key, ok := bytes.Cut(e.Key, []byte{0})
		rec, err := crdt.DecodeRecord(hashring.KeyHash(e.Key), e.Record)
		if err != nil || !ok {
			return nil, false, errors.Join(fmt.Errorf("entry of the side log of %s is unreadable", node), err)
		}
		entries = append(entries, api.Aside{ID: e.ID, Partition: e.Partition, Bucket: string(bucket), Key: key, Record: rec})
	}
	return entries, a.Aside.More, nil
}

// ForgetAside implements api.Collections.
func (o operators) ForgetAside(ctx context.Context, node topology.NodeID, ids [][]byte) (int, error) {
	a, err := o.orderOne(ctx, node, order{Forget: ids})
	return a.Forgotten, err
}

func (o operators) orderOne(ctx context.Context, node topology.NodeID, ask order) (answer, error) {
	answers, errs := o.n.orderThese(ctx, []topology.NodeID{node}, ask)
	if errs[0] != nil {
		return answer{}, asAdmin(node, errs[0])
	}
	return answers[0], nil
}

// asAdmin tells what a node refuses from one that does not answer. What was asked
// for may be asked for again.
func asAdmin(node topology.NodeID, err error) error {
	var no *peer.Refusal
	if errors.Is(err, replica.ErrNoAside) || errors.As(err, &no) && no.Code == peer.CodeInvalid {
		return &coord.Error{
			Code: coord.CodeInvalid, Detail: replica.ErrNoAside.Error(),
			Field: "id", Limit: "an id that ListAside returned", Seen: err.Error(),
		}
	}
	return &coord.Error{Code: coord.CodeUnavailable, Outcome: coord.Unknown, Detail: fmt.Sprintf("ask %s: %v", node, err)}
}
