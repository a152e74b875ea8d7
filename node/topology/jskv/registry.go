package jskv

import (
	"context"
	"crypto/rand"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/node/topology"
)

// Registry hands out the actors of one region. It is safe for concurrent use.
type Registry struct {
	cfg Config
	b   *bucket
}

var _ topology.Registry = (*Registry)(nil)

// New returns a registry on nc, a connection to the region's own servers. It
// makes the bucket when first used.
func New(cfg Config, nc *nats.Conn) (*Registry, error) {
	b, err := newBucket(cfg, nc)
	if err != nil {
		return nil, fmt.Errorf("open registry of %s: %w", cfg.Region, err)
	}
	return &Registry{cfg: cfg, b: b}, nil
}

type counter struct {
	Seq uint32 `json:"seq"`
}

type identity struct {
	Actor uint32 `json:"actor"`
	Nonce string `json:"nonce"`
}

// Allocate implements topology.Registry.
func (r *Registry) Allocate(ctx context.Context, node topology.NodeID, floor crdt.Actor) (topology.Identity, error) {
	var actor crdt.Actor
	err := r.b.retry(ctx, func(ctx context.Context, kv jetstream.KeyValue) error {
		var c counter
		rev, err := load(ctx, kv, actorsKey, &c)
		if err != nil {
			return err
		}
		if actor, err = topology.NextActor(r.cfg.RegionID, c.Seq, floor); err != nil {
			return final{err}
		}
		return store(ctx, kv, actorsKey, counter{actor.Seq()}, rev)
	})
	if err != nil {
		return topology.Identity{}, fmt.Errorf("allocate actor for %s: %w", node, err)
	}
	// From here the actor is this call's alone, whatever happens.
	id := topology.Identity{Actor: actor, Nonce: rand.Text()}
	err = r.b.retry(ctx, func(ctx context.Context, kv jetstream.KeyValue) error {
		var have identity
		rev, err := load(ctx, kv, nodeKey(node), &have)
		switch {
		case err != nil:
			return err
		case have == encode(id):
			return nil // an unanswered try got through
		}
		id.Before = crdt.Actor(have.Actor)
		return store(ctx, kv, nodeKey(node), encode(id), rev)
	})
	if err != nil {
		return topology.Identity{}, fmt.Errorf("register %s of %s: %w", actor, node, err)
	}
	return id, nil
}

// Resume implements topology.Registry.
func (r *Registry) Resume(ctx context.Context, node topology.NodeID, id topology.Identity) (topology.Identity, error) {
	next := topology.Identity{Actor: id.Actor, Nonce: rand.Text()}
	err := r.b.retry(ctx, func(ctx context.Context, kv jetstream.KeyValue) error {
		var have identity
		rev, err := load(ctx, kv, nodeKey(node), &have)
		switch {
		case err != nil:
			return err
		case have == encode(next):
			return nil // an unanswered try got through
		case rev == 0 || have != encode(id):
			return final{topology.ErrNonceSpent}
		}
		return store(ctx, kv, nodeKey(node), encode(next), rev)
	})
	if err != nil {
		return topology.Identity{}, fmt.Errorf("resume actor %s of %s: %w", id.Actor, node, err)
	}
	return next, nil
}

func encode(id topology.Identity) identity {
	return identity{Actor: uint32(id.Actor), Nonce: id.Nonce}
}

// Raise makes everything that is handed out from now on come at least by behind
// floor: for a registry that lost its state, by a node that has not heard of
// all actors.
func (r *Registry) Raise(ctx context.Context, floor crdt.Actor, by uint32) error {
	err := r.b.retry(ctx, func(ctx context.Context, kv jetstream.KeyValue) error {
		var c counter
		rev, err := load(ctx, kv, actorsKey, &c)
		if err != nil || c.Seq >= floor.Seq()+by {
			return err
		}
		up, err := topology.NextActor(r.cfg.RegionID, floor.Seq()+by-1, 0)
		if err != nil {
			return final{err}
		}
		return store(ctx, kv, actorsKey, counter{up.Seq()}, rev)
	})
	if err != nil {
		return fmt.Errorf("raise actors above %s: %w", floor, err)
	}
	return nil
}
