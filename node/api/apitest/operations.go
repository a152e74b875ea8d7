package apitest

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/atolldb/atoll/node/api"
	"github.com/atolldb/atoll/node/hotkey"
)

// operations of all nodes of the region.
func (r *Region) operations() api.Operations {
	return api.Operations{Membership: r.Members, Repairs: &r.repairs, HotKeys: hotKeys{r}, Collections: &r.collections, Links: &r.links}
}

// repairs of a region are through at once: there is nothing to compare.
type repairs struct {
	region *Region
	mu     sync.Mutex
	last   []api.NodeRepair
}

// StartRepair implements api.Repairs.
func (s *repairs) StartRepair(_ context.Context, scope api.RepairScope) (api.RepairProgress, error) {
	now := time.Now()
	var last []api.NodeRepair
	for _, n := range s.region.Nodes {
		one := api.NodeRepair{ID: n.ID, Deep: scope.Deep, Begun: now, Ended: now, Partitions: partitions}
		if scope.Partition != nil {
			one.Partitions = 1
		}
		one.Done = one.Partitions
		if s.region.Members.isDead(n.ID) {
			one = api.NodeRepair{ID: n.ID, Error: "no answer"}
		}
		last = append(last, one)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = last
	return api.RepairProgress{Nodes: last}, nil
}

// RepairProgress implements api.Repairs.
func (s *repairs) RepairProgress(context.Context) (api.RepairProgress, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last != nil {
		return api.RepairProgress{Nodes: slices.Clone(s.last)}, nil
	}
	var p api.RepairProgress
	for _, n := range s.region.Nodes {
		p.Nodes = append(p.Nodes, api.NodeRepair{ID: n.ID})
	}
	return p, nil
}

// hotKeys are what the nodes' servers counted.
type hotKeys struct{ region *Region }

// HotKeys implements api.HotKeys.
func (h hotKeys) HotKeys(_ context.Context, limit int) (api.Hot, error) {
	var reports []hotkey.Report
	for _, n := range h.region.Nodes {
		reports = append(reports, n.KV.HotKeys(limit))
	}
	return api.Hot{Report: hotkey.Merge(limit, reports...)}, nil
}
