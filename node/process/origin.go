package process

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
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

// originGrace is how long the makers of a region wait for the others, which may
// not be there yet either.
const originGrace = 5 * time.Second

// askOrigins asks all nodes of all other regions what they know of this one.
func (p *Process) askOrigins(ctx context.Context) *node.Origin {
	o := node.AskOrigins(ctx, p.world.others.All(), func(ctx context.Context, id topology.NodeID) (node.Origin, error) {
		switch has, err := p.hasTopology(ctx, id); {
		case err != nil:
			return node.Origin{}, err
		case !has:
			return node.Origin{}, node.ErrNew
		}
		ctx, stop := context.WithTimeout(ctx, askTimeout)
		defer stop()
		return node.AskOrigin(ctx, p.links, id, p.cfg.Region)
	})
	return &o
}

// beforeError is why a region is not made yet.
type beforeError struct{ why string }

func (e *beforeError) Error() string { return e.why }

// makeRegion makes a region out of nodes that have nothing, or says why not yet.
func (p *Process) makeRegion(ctx context.Context, store pendingStore, o *node.Origin, began time.Time) error {
	state := regionmap.State(0)
	if o.Known.Map != nil {
		state = o.Known.Map.State(string(p.cfg.Region))
	}
	switch {
	case o.Actor != 0 && state != regionmap.Rebuilding:
		return &beforeError{fmt.Sprintf("region %s has been here before: other regions hold its writes, up to those of actor %s, and it is %s. Give its nodes their disks back; if they are gone for good, take it out by 'atoll dr failover %s' and then let it begin anew by 'atoll dr rebuild %s', asked of another region",
			p.cfg.Region, o.Actor, cmp.Or(state, regionmap.Active), p.cfg.Region, p.cfg.Region)}
	case o.Actor == 0 && len(o.Silent) > 0 && time.Since(began) < originGrace:
		return &beforeError{fmt.Sprintf("whether region %s is new: no answer yet from %s", p.cfg.Region, strings.Join(o.Silent, ", "))}
	}
	first := p.world.own.Clone()
	epoch, above := o.Begin(first.RegionID, first.Epoch, time.Now(), rand.Uint32())
	first.Epoch = epoch
	if above != 0 {
		if err := store.raise(ctx, above, 0); err != nil {
			return err
		}
	}
	_, err := store.Swap(ctx, first, 0)
	switch {
	case err != nil:
	case o.Actor != 0:
		p.log.Info("the region begins anew", "above-actor", above.String(), "epoch", uint64(epoch))
	case len(o.Silent) > 0:
		p.log.Warn("the region is made without word from other regions", "silent", o.Silent, "above-actor", above.String(), "epoch", uint64(epoch))
	default:
		p.log.Info("the region is new", "members", len(first.Members))
	}
	return err
}

// untold bounds the actors of a region of which no other one was told, where its
// registry was put back and nobody has noticed.
const untold = 64

// heedOrigins goes by what other regions say, for a node that starts for the first
// time: it keeps the map that they know, and has the registry hand out no actor that
// they have heard of.
func (p *Process) heedOrigins(ctx context.Context, store pendingStore, o *node.Origin) error {
	if o.Actor != 0 {
		if err := store.raise(ctx, o.Actor, untold); err != nil {
			return err
		}
	}
	if o.Known.Map == nil || o.Known.Map.N == 0 {
		return nil
	}
	if err := p.keepRegions(regionmap.EncodeKnown(o.Known)); err != nil {
		p.log.Warn("the map of regions is not kept before the start", "error", err)
	}
	return nil
}
