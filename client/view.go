package client

import (
	"errors"
	"fmt"
	"math/bits"
	"math/rand/v2"

	"github.com/atolldb/atoll/hashring"
	adminv1 "github.com/atolldb/atoll/proto/atoll/admin/v1"
)

// view says where to send what; immutable. Without a table every node is as
// good as another: any node answers any key.
type view struct {
	region string
	epoch  uint64
	rows   [][]uint32 // by partition, indexes into nodes
	nodes  []*node
}

// checkTopology refuses what can not be routed by.
func checkTopology(t *adminv1.GetTopologyResponse) error {
	switch {
	case t.Partitions == 0 || t.Partitions > 1<<16 || bits.OnesCount32(t.Partitions) != 1:
		return fmt.Errorf("topology has %d partitions", t.Partitions)
	case len(t.Rows) > 0 && uint64(len(t.Rows)) != uint64(t.Partitions):
		return fmt.Errorf("topology has %d rows for %d partitions", len(t.Rows), t.Partitions)
	case len(t.Rows) == 0 && (t.Replicas == 0 || uint64(len(t.Owners)) != uint64(t.Partitions)*uint64(t.Replicas)):
		return fmt.Errorf("topology has %d owners for %d partitions with %d each", len(t.Owners), t.Partitions, t.Replicas)
	}
	for p, row := range rowsOf(t) {
		if len(row) == 0 {
			return fmt.Errorf("topology has no owner for partition %d", p)
		}
		for _, o := range row {
			if int(o) >= len(t.Members) {
				return errors.New("topology names an owner that is not a member")
			}
		}
	}
	for _, m := range t.Members {
		if m.ClientAddr == "" {
			return fmt.Errorf("topology has no client address for node %s", m.Id)
		}
	}
	return nil
}

// rowsOf returns the owners of each partition in whichever form t has them.
func rowsOf(t *adminv1.GetTopologyResponse) [][]uint32 {
	rows := make([][]uint32, t.Partitions)
	for p := range rows {
		if len(t.Rows) > 0 {
			rows[p] = t.Rows[p].Owners
			continue
		}
		n := int(t.Replicas)
		rows[p] = t.Owners[p*n : (p+1)*n : (p+1)*n]
	}
	return rows
}

// ownersOf returns indexes into nodes, the primary first; none without a
// table.
func (v *view) ownersOf(hash uint64) []uint32 {
	if len(v.rows) == 0 {
		return nil
	}
	return v.rows[hashring.PartitionOf(hash, len(v.rows))]
}

// pick chooses the node for the next attempt: for a write the first owner that
// is live, which is the primary nearly always, so that writes of a key meet in
// one place; for a read the less busy of two owners. If no owner is live and
// untried, any live node does, then an owner that is not live, then one that
// was tried.
// It also reports whether the node is live.
func (v *view) pick(hash uint64, write bool, tried []*node) (n *node, live bool) {
	if len(v.nodes) == 1 {
		return v.nodes[0], v.nodes[0].link.live()
	}
	owners := v.ownersOf(hash)
	if write {
		for _, i := range owners {
			if n := v.nodes[i]; fresh(n, tried) && n.link.live() {
				return n, true
			}
		}
	} else if n := v.lessBusy(len(owners), func(i int) *node { return v.nodes[owners[i]] }, tried); n != nil {
		return n, true
	}
	if n := v.lessBusy(len(v.nodes), func(i int) *node { return v.nodes[i] }, tried); n != nil {
		return n, true
	}
	for _, i := range owners {
		if n := v.nodes[i]; fresh(n, tried) {
			return n, false
		}
	}
	// All were tried, and any may be the first one that is back: in turn.
	n = v.nodes[len(tried)%len(v.nodes)]
	if len(owners) > 0 {
		n = v.nodes[owners[len(tried)%len(owners)]]
	}
	return n, n.link.live()
}

// lessBusy is the less busy of two nodes, among the live ones that were not
// tried (Mitzenmacher's power of two choices); nil if there is none. The two
// are neighbours from a random start, which for three owners is any two.
func (v *view) lessBusy(count int, at func(int) *node, tried []*node) *node {
	if count == 0 {
		return nil
	}
	var a *node
	start := rand.IntN(count)
	for i := range count {
		n := at((start + i) % count)
		if !fresh(n, tried) || !n.link.live() {
			continue
		}
		if a == nil {
			a = n
			continue
		}
		if n.inFlight.Load() < a.inFlight.Load() {
			return n
		}
		return a
	}
	return a
}

func fresh(n *node, tried []*node) bool {
	for _, t := range tried {
		if t == n {
			return false
		}
	}
	return true
}
