package process

import (
	"context"
	"errors"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/geo"
	"github.com/atolldb/atoll/node/topology"
)

// pending stands for the region's NATS until the connection to it is made,
// which may take a while where nothing answers (P1).
type pending struct {
	made chan struct{} // closed when the rest is set
	topology.Registry
	log geo.Log
}

var errNotConnected = errors.New("not connected to the region's nats yet")

// pendingRegistry waits for the registry.
type pendingRegistry struct{ *pending }

var _ topology.Registry = pendingRegistry{}

func (r pendingRegistry) wait(ctx context.Context) error {
	select {
	case <-r.made:
		return nil
	case <-ctx.Done():
		return errors.Join(errNotConnected, ctx.Err())
	}
}

func (r pendingRegistry) Allocate(ctx context.Context, id topology.NodeID, floor crdt.Actor) (topology.Identity, error) {
	if err := r.wait(ctx); err != nil {
		return topology.Identity{}, err
	}
	return r.Registry.Allocate(ctx, id, floor)
}

func (r pendingRegistry) Resume(ctx context.Context, id topology.NodeID, last topology.Identity) (topology.Identity, error) {
	if err := r.wait(ctx); err != nil {
		return topology.Identity{}, err
	}
	return r.Registry.Resume(ctx, id, last)
}

// pendingLog fails until there is a log: the pump tries again.
type pendingLog struct{ *pending }

var _ geo.Log = pendingLog{}

func (l pendingLog) up() bool {
	select {
	case <-l.made:
		return true
	default:
		return false
	}
}

func (l pendingLog) Append(b geo.Batch, done func(error)) {
	if !l.up() {
		go done(errNotConnected)
		return
	}
	l.log.Append(b, done)
}

func (l pendingLog) Announce(data []byte) error {
	if !l.up() {
		return errNotConnected
	}
	return l.log.Announce(data)
}
