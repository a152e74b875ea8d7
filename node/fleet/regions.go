package fleet

import (
	"context"
	"fmt"
	"slices"

	"github.com/atolldb/atoll/node/process"
	"github.com/atolldb/atoll/node/topology"
)

// AddRegion starts a region that is new, and then has the nodes of the others know
// of it, one after the other, as an operator does: each is stopped in order and
// started with the longer list of regions. It returns when all nodes take writes; the
// new region gets what there is after that.
func (f *Fleet) AddRegion(ctx context.Context, name topology.Region) error {
	f.mu.Lock()
	if slices.Contains(f.cfg.Regions, name) {
		f.mu.Unlock()
		return fmt.Errorf("there is a region %s already", name)
	}
	before := f.order
	// No id comes twice: the actors of a region that was removed are in use.
	id := max(f.nextID, topology.RegionID(len(f.cfg.Regions)+1))
	f.nextID = id + 1
	err := f.layRegion(name, id)
	added := slices.Clone(f.order[len(before):])
	if err == nil {
		f.cfg.Regions = append(slices.Clone(f.cfg.Regions), name)
		for _, p := range f.nodes {
			p.cfg.Regions = f.regions
		}
	}
	f.mu.Unlock()
	if err != nil {
		return err
	}
	for _, id := range added {
		if err := f.launch(id); err != nil {
			return err
		}
	}
	for _, id := range added {
		if err := f.await(ctx, id); err != nil {
			return err
		}
	}
	return f.roll(ctx, before)
}

// RemoveRegion stops a region for good and has the nodes of the others forget it,
// one after the other. What was written there stays, where it has arrived.
func (f *Fleet) RemoveRegion(ctx context.Context, name topology.Region) error {
	f.mu.Lock()
	if !slices.Contains(f.cfg.Regions, name) || len(f.cfg.Regions) == 1 {
		f.mu.Unlock()
		return fmt.Errorf("region %s cannot be removed: there are %v", name, f.cfg.Regions)
	}
	var gone, stay []topology.NodeID
	for _, id := range f.order {
		if f.nodes[id].region == name {
			gone = append(gone, id)
		} else {
			stay = append(stay, id)
		}
	}
	f.mu.Unlock()
	for _, id := range gone {
		if f.at(id) == nil {
			continue
		}
		if err := f.StopNode(id); err != nil {
			return err
		}
	}
	f.mu.Lock()
	f.order = stay
	f.cfg.Regions = slices.DeleteFunc(slices.Clone(f.cfg.Regions), func(r topology.Region) bool { return r == name })
	f.regions = slices.DeleteFunc(slices.Clone(f.regions), func(r process.Region) bool { return r.Name == name })
	for _, id := range gone {
		delete(f.nodes, id)
	}
	for _, p := range f.nodes {
		p.cfg.Regions = f.regions
	}
	f.mu.Unlock()
	return f.roll(ctx, stay)
}

// roll stops and starts nodes that run, one after the other.
func (f *Fleet) roll(ctx context.Context, ids []topology.NodeID) error {
	for _, id := range ids {
		if f.at(id) == nil {
			continue // it learns when it is started
		}
		if err := f.StopNode(id); err != nil {
			return err
		}
		if err := f.StartNode(ctx, id); err != nil {
			return err
		}
	}
	return nil
}
