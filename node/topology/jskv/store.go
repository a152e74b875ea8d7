package jskv

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/atolldb/atoll/node/topology"
)

// Store keeps the topology of one region. It is safe for concurrent use; each
// node has one of its own, since it remembers what this node saw of the lease.
type Store struct {
	cfg Config
	b   *bucket

	mu   sync.Mutex
	seen leaseSeen
}

var _ topology.Store = (*Store)(nil)

// NewStore returns a store on nc, a connection to the region's own servers. It
// makes the bucket when first used.
func NewStore(cfg Config, nc *nats.Conn) (*Store, error) {
	b, err := newBucket(cfg, nc)
	if err != nil {
		return nil, fmt.Errorf("open topology store of %s: %w", cfg.Region, err)
	}
	return &Store{cfg: cfg, b: b}, nil
}

// Load implements topology.Store.
func (s *Store) Load(ctx context.Context) (*topology.Topology, topology.Revision, error) {
	var t *topology.Topology
	var at topology.Revision
	err := s.b.retry(ctx, func(ctx context.Context, kv jetstream.KeyValue) (err error) {
		t, at, err = s.get(ctx, kv)
		return err
	})
	if err != nil {
		return nil, 0, fmt.Errorf("load topology of %s: %w", s.cfg.Region, err)
	}
	return t, at, nil
}

func (s *Store) get(ctx context.Context, kv jetstream.KeyValue) (*topology.Topology, topology.Revision, error) {
	entry, err := kv.Get(ctx, topologyKey)
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
		return nil, 0, nil
	case err != nil:
		return nil, 0, err
	}
	t, err := s.parse(entry)
	return t, topology.Revision(entry.Revision()), err
}

// parse decodes an entry. What it refuses no repetition helps.
func (s *Store) parse(entry jetstream.KeyValueEntry) (*topology.Topology, error) {
	t, err := parseValue(entry.Value())
	if err != nil {
		return nil, final{fmt.Errorf("revision %d: %w", entry.Revision(), err)}
	}
	if t.Region != s.cfg.Region || t.RegionID != s.cfg.RegionID {
		return nil, final{fmt.Errorf("revision %d is of region %s with id %d, this is %s with id %d: two regions use one bucket",
			entry.Revision(), t.Region, t.RegionID, s.cfg.Region, s.cfg.RegionID)}
	}
	return t, nil
}

// Swap implements topology.Store.
func (s *Store) Swap(ctx context.Context, t *topology.Topology, at topology.Revision) (topology.Revision, error) {
	w := swap{store: s, t: t, at: at}
	err := t.Validate()
	if err == nil {
		w.value, err = makeValue(t)
	}
	if err == nil {
		err = s.b.retry(ctx, w.try)
	}
	if err != nil {
		return 0, fmt.Errorf("swap topology of %s: %w", s.cfg.Region, err)
	}
	return w.now, nil
}

// swap is one call of Swap.
type swap struct {
	store *Store
	t     *topology.Topology
	at    topology.Revision
	value []byte
	// doubt: a write was sent and not answered.
	doubt bool
	now   topology.Revision // once it got through
}

var errNotKnown = errors.New("not known whether it was stored: no answer, and too much has changed since")

func (w *swap) try(ctx context.Context, kv jetstream.KeyValue) error {
	if limit := w.store.b.nc.MaxPayload(); limit > 0 && int64(len(w.value)) > limit {
		return final{fmt.Errorf("it takes %d bytes, more than the servers let through (max_payload: %d)", len(w.value), limit)}
	}
	have, at, err := w.store.get(ctx, kv)
	switch {
	case err != nil:
		return err
	case at != w.at && w.doubt:
		return w.settle(ctx)
	case at != w.at || have != nil && have.Epoch >= w.t.Epoch:
		return final{topology.ErrConflict}
	}
	now, err := kv.Update(ctx, topologyKey, w.value, uint64(w.at))
	switch {
	case err == nil:
		w.now = topology.Revision(now)
	case !isMismatch(err):
		w.doubt = true
	}
	// After a mismatch somebody else's write may still be lost, or this may be
	// about an own one before: look again.
	return err
}

// settle finds out whose write followed the revision that this one was for.
func (w *swap) settle(ctx context.Context) error {
	stream, err := w.store.b.js.Stream(ctx, w.store.b.stream())
	if err != nil {
		return err
	}
	subject := w.store.b.subject(topologyKey)
	next, err := stream.GetMsg(ctx, uint64(w.at)+1, jetstream.WithGetMsgSubject(subject))
	switch {
	case err != nil:
		return err
	case sameWriter(next.Data, w.value):
		w.now = topology.Revision(next.Sequence)
		return nil
	}
	// Only the last few writes are kept; with none dropped this is the one.
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter(subject))
	switch {
	case err != nil:
		return err
	case info.State.Subjects[subject] < history:
		return final{topology.ErrConflict}
	}
	return final{errNotKnown}
}
