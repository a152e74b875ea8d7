package fleet

import (
	"context"
	"fmt"
	"slices"

	"github.com/atolldb/atoll/node/process"
	"github.com/atolldb/atoll/node/topology"
)

// AddRegion starts a region that is new, and then has the nodes of the others know
// of it, one after the other: each is stopped in order and started with the longer
// list of regions. It returns when all nodes take writes; the new region gets what
// there is after that. (NewRegion is what an operator does today.)
func (f *Fleet) AddRegion(ctx context.Context, name topology.Region) error {
	f.mu.Lock()
	before := f.order
	f.mu.Unlock()
	if _, err := f.NewRegion(ctx, name); err != nil {
		return err
	}
	f.mu.Lock()
	for _, p := range f.nodes {
		p.cfg.Regions = f.regions
	}
	f.mu.Unlock()
	return f.roll(ctx, before)
}

// ExpectOthers prepares the nodes of all regions for others to come in (geo.others),
// or takes that back: each of some is stopped in order and started again, all of them
// where none is named.
func (f *Fleet) ExpectOthers(ctx context.Context, others bool, ids ...topology.NodeID) error {
	f.mu.Lock()
	if len(ids) == 0 {
		ids = f.order
	}
	for _, id := range ids {
		f.nodes[id].cfg.Geo.Others = others
	}
	f.mu.Unlock()
	return f.roll(ctx, ids)
}

// NewRegion starts a region that is new, which no node of the others knows of: it is
// to be taken in by 'atoll region add' or its like. It returns the region as its own
// nodes are configured with it, when they serve.
func (f *Fleet) NewRegion(ctx context.Context, name topology.Region) (process.Region, error) {
	f.mu.Lock()
	if slices.Contains(f.cfg.Regions, name) {
		f.mu.Unlock()
		return process.Region{}, fmt.Errorf("there is a region %s already", name)
	}
	before := len(f.order)
	// No id comes twice: the actors of a region that was removed are in use.
	id := f.nextID
	f.nextID++
	err := f.layRegion(name, id)
	added := slices.Clone(f.order[before:])
	made := f.regions[len(f.regions)-1]
	if err == nil {
		f.cfg.Regions = append(slices.Clone(f.cfg.Regions), name)
	}
	f.mu.Unlock()
	if err != nil {
		return made, err
	}
	for _, id := range added {
		if err := f.launch(ctx, id); err != nil {
			return made, err
		}
	}
	for _, id := range added {
		if err := f.await(ctx, id); err != nil {
			return made, err
		}
	}
	return made, nil
}

// DropRegion stops a region for good; it was removed by 'atoll region remove' or its
// like. The configuration of the others has it no more from their next start on.
func (f *Fleet) DropRegion(name topology.Region) error {
	f.mu.Lock()
	if !slices.Contains(f.cfg.Regions, name) || len(f.cfg.Regions) == 1 {
		f.mu.Unlock()
		return fmt.Errorf("region %s cannot be dropped: there are %v", name, f.cfg.Regions)
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
	return nil
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
