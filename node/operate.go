package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/api"
	"github.com/atolldb/atoll/node/api/members"
	"github.com/atolldb/atoll/node/collect"
	"github.com/atolldb/atoll/node/hotkey"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/repair"
	"github.com/atolldb/atoll/node/topology"
)

// Operators talk to one node, and mean all of the region: that one asks the
// others, by VerbOperate, in JSON.

const (
	operateTimeout = 5 * time.Second
	// hotSpare: so many times more keys than asked for are taken from each node,
	// since one that is hot in sum need not be hot everywhere.
	hotSpare = 4
)

// order is what is asked of every node; one field is set.
type order struct {
	// Repair starts one; Progress asks about it.
	Repair   *repairOrder `json:",omitempty"`
	Progress bool         `json:",omitempty"`
	// Hot asks for so many hot keys.
	Hot int `json:",omitempty"`
	// Collect begins rounds, Collects asks about them, Aside for a page of the side
	// log, and Forget deletes entries of it.
	Collect  *collectOrder `json:",omitempty"`
	Collects bool          `json:",omitempty"`
	Aside    *asideOrder   `json:",omitempty"`
	Forget   [][]byte      `json:",omitempty"`
	// Announce has the clocks announced to other regions, all of them.
	Announce bool `json:",omitempty"`
	// Lag asks what regions lack of each other, and Sums what partitions hold.
	Lag  bool       `json:",omitempty"`
	Sums *sumsOrder `json:",omitempty"`
	// Clocks asks about those of partitions.
	Clocks *clockOrder `json:",omitempty"`
	// Tally asks to which buckets writes belong.
	Tally *tallyOrder `json:",omitempty"`
	// Settle asks to settle what is undecided.
	Settle bool `json:",omitempty"`
	// Origin asks what is known of a region.
	Origin string `json:",omitempty"`
}

type repairOrder struct {
	Deep      bool
	Partition *hashring.Partition `json:",omitempty"`
}

type answer struct {
	Repair    *repairAnswer   `json:",omitempty"`
	Hot       *hotkey.Report  `json:",omitempty"`
	Collect   *collect.Report `json:",omitempty"`
	Aside     *asideAnswer    `json:",omitempty"`
	Forgotten int             `json:",omitempty"`
	Lag       *lagAnswer      `json:",omitempty"`
	Sums      []partSum       `json:",omitempty"`
	Clocks    *clockAnswer    `json:",omitempty"`
	Tally     *tallyAnswer    `json:",omitempty"`
	// Undecided is what a Settle left.
	Undecided *int          `json:",omitempty"`
	Origin    *originAnswer `json:",omitempty"`
}

type repairAnswer struct {
	Running, Deep             bool
	Began, Ended              time.Time
	Partitions, Done, Skipped int
	Repaired, Unreadable      uint64
	Err                       string
}

func (n *Node) serveOperate(req peer.Request, reply peer.Done) {
	var o order
	if err := json.Unmarshal(req.Body, &o); err != nil {
		reply(nil, &peer.Refusal{Code: peer.CodeInvalid, Detail: err.Error()})
		return
	}
	do := func() {
		a, err := n.obey(o)
		if err != nil {
			reply(nil, &peer.Refusal{Code: peer.CodeInvalid, Detail: err.Error()})
			return
		}
		b, err := json.Marshal(a)
		reply(b, err)
	}
	if o.Aside != nil || o.Forget != nil || o.Sums != nil || o.Tally != nil || o.Settle { // it reads or writes the store, or waits
		go do()
		return
	}
	do()
}

// obey does what is asked of this node itself.
func (n *Node) obey(o order) (answer, error) {
	if o.Announce {
		if n.herald != nil {
			n.herald.Full()
		}
		return answer{}, nil
	}
	if o.Lag {
		return answer{Lag: n.lagAnswer()}, nil
	}
	if o.Sums != nil {
		sums, err := n.partSums(*o.Sums)
		return answer{Sums: sums}, err
	}
	if o.Tally != nil {
		a, err := n.tallyHere(*o.Tally)
		return answer{Tally: a}, err
	}
	if o.Settle {
		left, err := n.settleHere()
		return answer{Undecided: &left}, err
	}
	if o.Origin != "" {
		a, err := n.originOf(topology.Region(o.Origin))
		return answer{Origin: a}, err
	}
	if o.Clocks != nil {
		return answer{Clocks: n.obeyClocks(*o.Clocks)}, nil
	}
	if o.Hot > 0 {
		report := hotkey.Report{}
		if hot := n.hot.Load(); hot != nil {
			report = (*hot)(o.Hot)
		}
		return answer{Hot: &report}, nil
	}
	if o.Collect != nil || o.Collects || o.Aside != nil || o.Forget != nil {
		return n.obeyCollect(o)
	}
	if o.Repair != nil {
		if err := n.startRepair(*o.Repair); err != nil {
			return answer{}, err
		}
	}
	p := n.repair.Progress()
	r := &repairAnswer{
		Running: p.Running, Deep: p.Deep, Began: p.Began, Ended: p.Ended,
		Partitions: p.Partitions, Done: p.Done, Skipped: p.Skipped, Repaired: p.Repaired, Unreadable: p.Unreadable,
	}
	if p.Err != nil {
		r.Err = p.Err.Error()
	}
	return answer{Repair: r}, nil
}

// startRepair goes on with one that runs if that does at least as much.
func (n *Node) startRepair(o repairOrder) error {
	parts := n.replica.Owned()
	if o.Partition != nil {
		if !n.replica.Owns(*o.Partition) {
			return nil // others own it
		}
		parts = []hashring.Partition{*o.Partition}
	}
	err := n.repair.StartRepair(parts, o.Deep)
	if !errors.Is(err, repair.ErrRepairing) {
		return err
	}
	runs := n.repair.Progress()
	if (runs.Deep || !o.Deep) && runs.Partitions >= len(parts) {
		return nil
	}
	n.repair.CancelRepair()
	return n.repair.StartRepair(parts, o.Deep)
}

// orderAll asks all members that are there, this node included, and returns
// their answers and errors in the order of ids.
func (n *Node) orderAll(ctx context.Context, o order) (ids []topology.NodeID, answers []answer, errs []error) {
	ids = n.Topology().Present()
	answers, errs = n.orderThese(ctx, ids, o)
	return ids, answers, errs
}

// orderThese is orderAll for some nodes, of any region.
func (n *Node) orderThese(ctx context.Context, ids []topology.NodeID, o order) (answers []answer, errs []error) {
	answers, errs = make([]answer, len(ids)), make([]error, len(ids))
	body, err := json.Marshal(o)
	if err != nil {
		return answers, slices.Repeat([]error{err}, len(ids))
	}
	var wg sync.WaitGroup
	for i, id := range ids {
		wg.Go(func() {
			if id == n.cfg.ID {
				answers[i], errs[i] = n.obey(o)
				return
			}
			b, err := peer.Call(ctx, n.deps.Transport, id, peer.Request{Verb: peer.VerbOperate, Timeout: operateTimeout, Body: body})
			if err == nil {
				err = json.Unmarshal(b, &answers[i])
			}
			errs[i] = err
		})
	}
	wg.Wait()
	return answers, errs
}

// operators serves what operators ask of the region.
type operators struct{ n *Node }

var (
	_ api.Repairs = operators{}
	_ api.HotKeys = operators{}
)

// StartRepair implements api.Repairs.
func (o operators) StartRepair(ctx context.Context, s api.RepairScope) (api.RepairProgress, error) {
	if s.Partition != nil && int(*s.Partition) >= o.n.Topology().Table.Partitions() {
		return api.RepairProgress{}, fmt.Errorf("there is no partition %d", *s.Partition)
	}
	return o.repairs(ctx, order{Repair: &repairOrder{Deep: s.Deep, Partition: s.Partition}})
}

// RepairProgress implements api.Repairs.
func (o operators) RepairProgress(ctx context.Context) (api.RepairProgress, error) {
	return o.repairs(ctx, order{Progress: true})
}

func (o operators) repairs(ctx context.Context, ask order) (api.RepairProgress, error) {
	ids, answers, errs := o.n.orderAll(ctx, ask)
	var out api.RepairProgress
	for i, id := range ids {
		node := api.NodeRepair{ID: id}
		switch r := answers[i].Repair; {
		case errs[i] != nil:
			node.Error = errs[i].Error()
		case r != nil:
			node.Error, node.Running, node.Deep, node.Begun, node.Ended = r.Err, r.Running, r.Deep, r.Began, r.Ended
			node.Partitions, node.Done, node.Skipped = r.Partitions, r.Done, r.Skipped
			node.RepairedKeys, node.Unreadable = r.Repaired, r.Unreadable
		}
		out.Nodes = append(out.Nodes, node)
	}
	return out, nil
}

// HotKeys implements api.HotKeys.
func (o operators) HotKeys(ctx context.Context, limit int) (api.Hot, error) {
	ids, answers, errs := o.n.orderAll(ctx, order{Hot: limit * hotSpare})
	var reports []hotkey.Report
	var out api.Hot
	for i := range ids {
		if errs[i] != nil || answers[i].Hot == nil {
			out.Silent = append(out.Silent, ids[i])
			continue
		}
		reports = append(reports, *answers[i].Hot)
	}
	out.Report = hotkey.Merge(limit, reports...)
	return out, nil
}

// Operations are what operators can do through this node, which must have a
// store of the topology.
func (n *Node) Operations() api.Operations {
	return api.Operations{
		Repairs: operators{n}, HotKeys: operators{n}, Collections: operators{n}, Links: operators{n}, Regions: regionsOps{n},
		Directory: n.directory,
		Membership: members.New(members.Deps{
			Store: n.deps.Store, Adopt: n.adopt, CopyBytes: n.copyBytes, View: n.view, Now: time.Now,
		}),
	}
}

// copyBytes is about what one copy of a partition takes, by what the store of
// this node does; 0 when it holds none.
func (n *Node) copyBytes(context.Context) uint64 {
	held := len(n.replica.Held())
	u, err := n.replica.Usage()
	if err != nil || held == 0 || u.Store < 0 {
		return 0
	}
	return uint64(u.Store) / uint64(held)
}

// CountHot says who counts the keys that clients ask this node for.
func (n *Node) CountHot(top func(limit int) hotkey.Report) { n.hot.Store(&top) }
