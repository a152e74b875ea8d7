package apitest

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/node/api"
	"github.com/atolldb/atoll/node/collect"
	"github.com/atolldb/atoll/node/topology"
)

// collections of a region are done at once, but for nodes that are dead, whom they
// wait for.
type collections struct {
	region *Region
	mu     sync.Mutex
	last   *collect.Demand
	aside  map[topology.NodeID][]api.Aside
}

// SetAside is what a node has in its side log from now on, in the order of ids.
func (r *Region) SetAside(node topology.NodeID, entries []api.Aside) {
	r.collections.mu.Lock()
	defer r.collections.mu.Unlock()
	if r.collections.aside == nil {
		r.collections.aside = map[topology.NodeID][]api.Aside{}
	}
	r.collections.aside[node] = entries
}

// StartCollect implements api.Collections.
func (s *collections) StartCollect(ctx context.Context, grace time.Duration) (api.CollectProgress, error) {
	now := time.Now()
	d := &collect.Demand{Floor: hlc.FromMillis(now.Add(-grace).UnixMilli()), Begun: now, Ended: now, Partitions: partitions}
	d.Done = partitions
	for _, n := range s.region.Nodes {
		if s.region.Members.isDead(n.ID) {
			d.Done, d.Off = 0, partitions
		}
	}
	s.mu.Lock()
	s.last = d
	s.mu.Unlock()
	return s.CollectProgress(ctx)
}

// CollectProgress implements api.Collections.
func (s *collections) CollectProgress(context.Context) (api.CollectProgress, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out api.CollectProgress
	for i, n := range s.region.Nodes {
		c := api.NodeCollect{ID: n.ID, Region: s.region.Name}
		if s.region.Members.isDead(n.ID) {
			c.Error = "no answer"
			out.Nodes = append(out.Nodes, c)
			continue
		}
		c.Every, c.Grace, c.Owned = 24*time.Hour, 24*time.Hour, partitions
		c.Never, c.Aside = partitions, len(s.aside[n.ID])
		if i == 0 && s.last != nil {
			c.Demand = s.last
		}
		if s.last != nil && s.last.Off == 0 {
			c.Never, c.Oldest = 0, s.last.Floor.Time()
		}
		for _, dead := range s.region.Nodes {
			if i == 0 && s.last != nil && s.region.Members.isDead(dead.ID) {
				c.Stalls = append(c.Stalls, collect.Group{
					Partitions: partitions, Since: s.last.Begun,
					Why: collect.Cause{Reason: collect.Silent, Node: dead.ID, Detail: "it does not answer"},
				})
			}
		}
		out.Nodes = append(out.Nodes, c)
	}
	return out, nil
}

// ListAside implements api.Collections: one entry at a time.
func (s *collections) ListAside(_ context.Context, node topology.NodeID, after []byte) ([]api.Aside, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, e := range s.aside[node] {
		if bytes.Compare(e.ID, after) > 0 {
			return []api.Aside{e}, i < len(s.aside[node])-1, nil
		}
	}
	return nil, false, nil
}

// ForgetAside implements api.Collections.
func (s *collections) ForgetAside(_ context.Context, node topology.NodeID, ids [][]byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := len(s.aside[node])
	s.aside[node] = slices.DeleteFunc(slices.Clone(s.aside[node]), func(e api.Aside) bool {
		return slices.ContainsFunc(ids, func(id []byte) bool { return bytes.Equal(id, e.ID) })
	})
	return before - len(s.aside[node]), nil
}
