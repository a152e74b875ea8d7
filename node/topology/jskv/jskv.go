// Package jskv is the topology registry on a JetStream key-value bucket of the
// region's own NATS servers. It holds what nodes must agree on before they
// mint; nothing that a client waits for goes through it.
//
// The bucket of region east is TOPO_east, one key a fact, values in JSON:
//
//	actors        {"seq":12}                     highest sequence handed out
//	nodes.<id>    {"actor":771,"nonce":"..."}    the node's current identity
//
// Invariants:
//
//	K1  A change is a write at an expected revision; a majority of replicas
//	    has it before it counts. So changes are linearizable.
//	K2  Reads come from the stream's leader, never from any replica at hand
//	    (direct get, the default of buckets, answers with the past). A read
//	    may still be old while a leader is being replaced: it can then make a
//	    change fail or a nonce look spent, never make two nodes share one.
//	K3  A sequence is burnt when in doubt: after an unanswered request the
//	    next one takes the next number.
//	K4  Every call is repeated until its context ends; right after a start of
//	    the servers, and for some seconds after the loss of a leader, nothing
//	    answers.
package jskv

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/node/topology"
)

const (
	// tryTimeout bounds one request; the first ones after a start get lost.
	tryTimeout = 2 * time.Second
	pauseMin   = 20 * time.Millisecond
	pauseMax   = time.Second

	actorsKey = "actors"
	// history of each key, for whoever has to find out what happened.
	history  = 8
	maxValue = 4 << 10
	maxBytes = 64 << 20
)

// Config of a registry.
type Config struct {
	Region   topology.Region
	RegionID topology.RegionID
	// Replicas of the bucket: 1 on a standalone server, else 3.
	Replicas int
}

// Registry hands out the actors of one region. It is safe for concurrent use.
type Registry struct {
	cfg Config
	js  jetstream.JetStream
}

var _ topology.Registry = (*Registry)(nil)

// New returns a registry on nc, a connection to the region's own servers. It
// makes the bucket when first used.
func New(cfg Config, nc *nats.Conn) (*Registry, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, fmt.Errorf("open registry of %s: %w", cfg.Region, err)
	}
	return &Registry{cfg: cfg, js: js}, nil
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
	err := r.retry(ctx, func(ctx context.Context, kv jetstream.KeyValue) error {
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
	err = r.retry(ctx, func(ctx context.Context, kv jetstream.KeyValue) error {
		var have identity
		rev, err := load(ctx, kv, nodeKey(node), &have)
		switch {
		case err != nil:
			return err
		case have == encode(id):
			return nil // an unanswered try got through
		}
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
	err := r.retry(ctx, func(ctx context.Context, kv jetstream.KeyValue) error {
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

func nodeKey(node topology.NodeID) string { return "nodes." + string(node) }

func encode(id topology.Identity) identity {
	return identity{Actor: uint32(id.Actor), Nonce: id.Nonce}
}

// final is an error that no repetition helps.
type final struct{ error }

func (f final) Unwrap() error { return f.error }

// retry repeats try until it returns nil or a final error, or ctx ends.
func (r *Registry) retry(ctx context.Context, try func(context.Context, jetstream.KeyValue) error) error {
	pause := pauseMin
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := r.once(ctx, try)
		if err == nil {
			return nil
		}
		if f := (final{}); errors.As(err, &f) {
			return f.error
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w; last: %w", ctx.Err(), err)
		case <-time.After(pause):
		}
		pause = min(2*pause, pauseMax)
	}
}

func (r *Registry) once(ctx context.Context, try func(context.Context, jetstream.KeyValue) error) error {
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	kv, err := r.bucket(ctx)
	if err != nil {
		return err
	}
	return try(ctx, kv)
}

// bucket opens the bucket, or makes it: as a stream, since the bucket calls of
// the client would switch direct get on (K2).
func (r *Registry) bucket(ctx context.Context) (jetstream.KeyValue, error) {
	name := "TOPO_" + string(r.cfg.Region)
	kv, err := r.js.KeyValue(ctx, name)
	if err == nil || !errors.Is(err, jetstream.ErrBucketNotFound) {
		return kv, err
	}
	_, err = r.js.CreateStream(ctx, jetstream.StreamConfig{
		Name:              "KV_" + name,
		Subjects:          []string{"$KV." + name + ".>"},
		Storage:           jetstream.FileStorage,
		Replicas:          max(r.cfg.Replicas, 1),
		MaxMsgsPerSubject: history,
		MaxMsgSize:        maxValue,
		MaxBytes:          maxBytes,
		Discard:           jetstream.DiscardNew,
		DenyDelete:        true,
		AllowRollup:       true,
		AllowDirect:       false,
	})
	if err != nil && !errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
		return nil, err
	}
	return r.js.KeyValue(ctx, name)
}

// load reads key into to and returns its revision, 0 when there is none.
func load(ctx context.Context, kv jetstream.KeyValue, key string, to any) (uint64, error) {
	entry, err := kv.Get(ctx, key)
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
		return 0, nil
	case err != nil:
		return 0, err
	}
	dec := json.NewDecoder(bytes.NewReader(entry.Value()))
	dec.DisallowUnknownFields()
	if err := dec.Decode(to); err != nil {
		return 0, final{fmt.Errorf("decode %s: %w", key, err)}
	}
	return entry.Revision(), nil
}

// store writes key if its revision still is rev, 0 for none.
func store(ctx context.Context, kv jetstream.KeyValue, key string, value any, rev uint64) error {
	data, err := json.Marshal(value)
	if err != nil {
		return final{fmt.Errorf("encode %s: %w", key, err)}
	}
	_, err = kv.Update(ctx, key, data, rev)
	return err
}
