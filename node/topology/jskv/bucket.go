package jskv

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/atolldb/atoll/node/topology"
)

// bucket is the region's bucket, which may not be there yet.
type bucket struct {
	name     string
	replicas int
	nc       *nats.Conn
	js       jetstream.JetStream
	// fits is set once the bucket is known to take the largest value.
	fits atomic.Bool
}

func newBucket(cfg Config, nc *nats.Conn) (*bucket, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, err
	}
	return &bucket{name: "TOPO_" + string(cfg.Region), replicas: max(cfg.Replicas, 1), nc: nc, js: js}, nil
}

func (b *bucket) stream() string            { return "KV_" + b.name }
func (b *bucket) subject(key string) string { return "$KV." + b.name + "." + key }
func nodeKey(node topology.NodeID) string   { return "nodes." + string(node) }
func isMismatch(err error) bool             { return errors.Is(err, jetstream.ErrKeyRevisionMismatch) }
func (b *bucket) config() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:              b.stream(),
		Subjects:          []string{b.subject(">")},
		Storage:           jetstream.FileStorage,
		Replicas:          b.replicas,
		MaxMsgsPerSubject: history,
		MaxMsgSize:        maxValue,
		MaxBytes:          maxBytes,
		Discard:           jetstream.DiscardNew,
		DenyDelete:        true,
		AllowRollup:       true,
		AllowDirect:       false,
	}
}

// final is an error that no repetition helps.
type final struct{ error }

func (f final) Unwrap() error { return f.error }

// retry repeats try until it returns nil or a final error, or ctx ends.
func (b *bucket) retry(ctx context.Context, try func(context.Context, jetstream.KeyValue) error) error {
	pause := pauseMin
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := b.once(ctx, try)
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

func (b *bucket) once(ctx context.Context, try func(context.Context, jetstream.KeyValue) error) error {
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	kv, err := b.open(ctx)
	if err != nil {
		return err
	}
	return try(ctx, kv)
}

// open opens the bucket, or makes it: as a stream, since the bucket calls of
// the client would switch direct get on (K2).
func (b *bucket) open(ctx context.Context) (jetstream.KeyValue, error) {
	kv, err := b.js.KeyValue(ctx, b.name)
	switch {
	case errors.Is(err, jetstream.ErrBucketNotFound):
		_, err = b.js.CreateStream(ctx, b.config())
		if err != nil && !errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
			return nil, err
		}
		kv, err = b.js.KeyValue(ctx, b.name)
	case err == nil && !b.fits.Load():
		err = b.widen(ctx)
	}
	if err != nil {
		return nil, err
	}
	b.fits.Store(true)
	return kv, nil
}

// widen lets a bucket that was made for smaller values take larger ones.
func (b *bucket) widen(ctx context.Context) error {
	s, err := b.js.Stream(ctx, b.stream())
	if err != nil {
		return err
	}
	cfg := s.CachedInfo().Config
	if cfg.MaxMsgSize < 0 || cfg.MaxMsgSize >= maxValue {
		return nil
	}
	cfg.MaxMsgSize = maxValue
	_, err = b.js.UpdateStream(ctx, cfg)
	return err
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
