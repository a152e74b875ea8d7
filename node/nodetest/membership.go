package nodetest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/atolldb/atoll/internal/pause"
	"github.com/atolldb/atoll/node/topology"
)

const (
	// fewest nodes of a region that own something, and most nodes that it ever
	// has.
	fewest = 3
	most   = 9
)

// known is what a node that starts is told of its region: what the store has,
// or what the region began with.
func (w *World) known(region int) *topology.Topology {
	ctx, stop := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer stop()
	if t, _, err := w.stores[region].Load(ctx); err == nil && t != nil {
		return t
	}
	return w.tops[region]
}

// stored is the region's topology, nil while its store is down or empty.
func (w *World) stored(region int) *topology.Topology {
	ctx, stop := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer stop()
	t, _, err := w.stores[region].Load(ctx)
	if err != nil {
		return nil
	}
	return t
}

// moving says which region is not at rest: a task runs, a node has not got the
// newest topology, or one still holds what moved away.
func (w *World) moving() string {
	for r := range w.tops {
		t := w.stored(r)
		if t == nil {
			return fmt.Sprintf("region %s has no topology", w.name(r))
		}
		for _, task := range t.Tasks {
			if task.Ended == 0 {
				return fmt.Sprintf("region %s: task %d (%s %v) runs, %d moves left", w.name(r), task.ID, task.Kind, task.Nodes, len(t.MovesOf(task.ID)))
			}
		}
		for _, m := range w.all() {
			up := m.running.Load()
			if m.region != r || m.gone.Load() || up == nil {
				continue
			}
			if e := up.node.Topology().Epoch; e != t.Epoch {
				return fmt.Sprintf("%s is at epoch %d of %d", m.id, e, t.Epoch)
			}
		}
	}
	return ""
}

// leftovers says who holds what it no longer owns.
func (w *World) leftovers() string {
	for _, m := range w.all() {
		if up := m.running.Load(); up != nil {
			if left := up.node.Replica().Leftovers(); len(left) > 0 {
				return fmt.Sprintf("%s still holds %v: %v", m.id, left, up.node.Kept())
			}
		}
	}
	return ""
}

// swap changes a region's topology as an operator's command does: it may be
// refused, and then nothing happens.
func (w *World) swap(ctx context.Context, region int, change func(*topology.Topology) (*topology.Topology, error)) bool {
	ctx, stop := context.WithTimeout(ctx, 2*time.Second)
	defer stop()
	for range 5 {
		t, at, err := w.stores[region].Load(ctx)
		if err != nil || t == nil {
			return false
		}
		next, err := change(t)
		if err != nil {
			return false
		}
		if _, err = w.stores[region].Swap(ctx, next, at); err == nil {
			return true
		} else if !errors.Is(err, topology.ErrConflict) {
			return false // it may have happened all the same
		}
	}
	return false
}

func (w *World) commit(ctx context.Context, region int, c topology.Change) bool {
	return w.swap(ctx, region, func(t *topology.Topology) (*topology.Topology, error) {
		p, err := topology.PlanChange(t, c, topology.PlanOptions{Now: time.Now().UnixMilli()})
		return p.Next, err
	})
}

// newcomer starts a node that owns nothing, nil if there are too many already.
func (w *World) newcomer(ctx context.Context, region int) *member {
	of := 0
	var registry = w.nodes[0].registry
	for _, m := range w.all() {
		if m.region == region {
			of++
			registry = m.registry
		}
	}
	if of >= most {
		return nil
	}
	id := topology.NodeID(fmt.Sprintf("%s%d", w.name(region), of+1))
	joined := w.swap(ctx, region, func(t *topology.Topology) (*topology.Topology, error) {
		next := t.Clone()
		next.Epoch++
		next.Members = append(next.Members, topology.Member{ID: id, Rack: fmt.Sprint("r", of%3), Weight: 1, State: topology.Joining})
		return next, nil
	})
	if !joined {
		return nil
	}
	m := w.place(id, region, registry)
	w.places.Lock()
	w.nodes = append(w.nodes[:len(w.nodes):len(w.nodes)], m)
	w.places.Unlock()
	w.Start(m)
	return m
}

// owners are the members that are up, by the topology.
func (w *World) owners(region int) []topology.NodeID {
	var out []topology.NodeID
	if t := w.stored(region); t != nil {
		for _, m := range t.Members {
			if m.State == topology.Up {
				out = append(out, m.ID)
			}
		}
	}
	return out
}

func (w *World) joinOne(ctx context.Context) {
	region := w.rng.IntN(len(w.tops))
	if m := w.newcomer(ctx, region); m != nil && w.commit(ctx, region, topology.Join{Nodes: []topology.NodeID{m.id}}) {
		w.faults.joins++
	}
}

func (w *World) drainOne(ctx context.Context) {
	region := w.rng.IntN(len(w.tops))
	up := w.owners(region)
	if len(up) <= fewest {
		w.joinOne(ctx)
		return
	}
	if w.commit(ctx, region, topology.Drain{Nodes: []topology.NodeID{up[w.rng.IntN(len(up))]}}) {
		w.faults.drains++
	}
}

// replaceOne kills a node and puts another into its place. The dead one may
// come back when all is over, and find out that it is no owner any more. It
// waits for a calm region: what the dead node alone had would be gone.
func (w *World) replaceOne(ctx context.Context) {
	if !w.settle(ctx) {
		return
	}
	region := w.rng.IntN(len(w.tops))
	up := w.owners(region)
	if len(up) < fewest {
		return
	}
	dead := w.member(up[w.rng.IntN(len(up))])
	w.Crash(dead)
	dead.gone.Store(true)
	by := w.newcomer(ctx, region)
	if by == nil || !w.commit(ctx, region, topology.Replace{Dead: dead.id, By: by.id}) {
		dead.gone.Store(false)
		w.Start(dead)
		return
	}
	w.faults.replaced++
	if w.rng.IntN(2) == 0 {
		pause.For(ctx, time.Duration(w.rng.IntN(20000))*time.Millisecond)
		dead.gone.Store(false)
		w.Start(dead)
	}
	w.settle(ctx)
}

// storeOutage takes the metadata away for a while, or for good what is in it.
func (w *World) storeOutage(ctx context.Context) {
	w.faults.storeOutages++
	store := w.stores[w.rng.IntN(len(w.stores))]
	if w.rng.IntN(4) == 0 {
		store.Forget()
		return
	}
	store.SetDown(true)
	pause.For(ctx, time.Duration(w.rng.IntN(8000))*time.Millisecond)
	store.SetDown(false)
}
