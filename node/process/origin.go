package process

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/atolldb/atoll/geo/regionmap"
	"github.com/atolldb/atoll/node"
	"github.com/atolldb/atoll/node/topology"
)

// A region all of whose members say that they have nothing is new, or its disks are
// gone. The other regions know: they hold what it wrote. Were it made as a new one, its
// nodes would name writes as others are named already, which then count as delivered
// and are lost; and clients would read "absent" of all that there is. So it waits
// until an operator has said that it begins anew ('atoll dr rebuild', which puts it
// into the state REBUILDING), and hands out actors and epochs above all that anybody
// knows of. The map that others know is kept before the node runs, so that it serves
// nobody who should not be served.

const (
	// lostEpochs is a bound of the changes of a region's topology that nobody else
	// has heard of; lostActors is that of actors.
	lostEpochs = 1 << 20
	// originGrace is how long the makers of a region wait for the others, which may
	// not be there yet either.
	originGrace = 5 * time.Second
)

// origins are what nodes of other regions know of this one, and the regions of which
// none says.
type origins struct {
	node.Origin
	silent []string
}

// askOrigins asks all nodes of all other regions.
func (p *Process) askOrigins(ctx context.Context) (out origins) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, t := range p.world.others.All() {
		says := false
		var region sync.WaitGroup
		fresh := 0
		for _, id := range t.Present() {
			region.Add(1)
			wg.Go(func() {
				defer region.Done()
				o, isNew, err := p.askOrigin(ctx, id)
				mu.Lock()
				defer mu.Unlock()
				switch {
				case isNew:
					fresh++
				case err == nil:
					says = true
					out.Actor, out.Epoch = max(out.Actor, o.Actor), max(out.Epoch, o.Epoch)
					out.Known = regionmap.Join(out.Known, o.Known)
				}
			})
		}
		wg.Go(func() {
			region.Wait()
			mu.Lock()
			defer mu.Unlock()
			if !says && fresh < len(t.Present()) {
				out.silent = append(out.silent, string(t.Region))
			}
		})
	}
	wg.Wait()
	slices.Sort(out.silent)
	return out
}

// askOrigin asks a node, which may be new itself.
func (p *Process) askOrigin(ctx context.Context, id topology.NodeID) (o node.Origin, isNew bool, err error) {
	has, err := p.hasTopology(ctx, id)
	if err != nil || !has {
		return o, err == nil, err
	}
	ctx, stop := context.WithTimeout(ctx, askTimeout)
	defer stop()
	o, err = node.AskOrigin(ctx, p.links, id, p.cfg.Region)
	return o, false, err
}

// beforeError is why a region is not made yet.
type beforeError struct{ why string }

func (e *beforeError) Error() string { return e.why }

// makeRegion makes a region out of nodes that have nothing, or says why not yet.
func (p *Process) makeRegion(ctx context.Context, store pendingStore, began time.Time) error {
	first := p.world.own
	if len(p.world.others.All()) > 0 {
		o := p.askOrigins(ctx)
		state := regionmap.State(0)
		if o.Known.Map != nil {
			state = o.Known.Map.State(string(p.cfg.Region))
		}
		switch {
		case o.Actor != 0 && state != regionmap.Rebuilding:
			return &beforeError{fmt.Sprintf("region %s has been here before: other regions hold its writes, up to those of actor %s, and it is %s. Give its nodes their disks back; if they are gone for good, take it out by 'atoll dr failover %s' and then let it begin anew by 'atoll dr rebuild %s', asked of another region",
				p.cfg.Region, o.Actor, cmp.Or(state, regionmap.Active), p.cfg.Region, p.cfg.Region)}
		case o.Actor != 0:
			first = first.Clone()
			first.Epoch = max(o.Epoch, first.Epoch) + lostEpochs
			if err := store.raise(ctx, o.Actor, lostActors); err != nil {
				return err
			}
			p.log.Info("the region begins anew", "above-actor", o.Actor.String(), "epoch", uint64(first.Epoch))
		case len(o.silent) > 0 && time.Since(began) < originGrace:
			return &beforeError{fmt.Sprintf("whether region %s is new: no answer yet from %s", p.cfg.Region, strings.Join(o.silent, ", "))}
		case len(o.silent) > 0:
			// Whether there was one of this name before is not known: no epoch may be one
			// that it had. Its nodes see to it that no actor is, see node/actors.go.
			first = first.Clone()
			first.Epoch = topology.Epoch(time.Now().Unix())
			p.log.Warn("the region is made without word from other regions", "silent", o.silent)
		}
	}
	_, err := store.Swap(ctx, first, 0)
	if err == nil {
		p.log.Info("the region is new", "members", len(first.Members))
	}
	return err
}

// learnMap keeps the map that other regions know, if this one has others: a node that
// starts for the first time is to go by it from the beginning.
func (p *Process) learnMap(ctx context.Context) {
	if len(p.world.others.All()) == 0 {
		return
	}
	known := p.askOrigins(ctx).Known
	if known.Map == nil || known.Map.N == 0 {
		return
	}
	if err := p.keepRegions(regionmap.EncodeKnown(known)); err != nil {
		p.log.Warn("the map of regions is not kept before the start", "error", err)
	}
}
