package jskv

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/atolldb/atoll/node/topology"
)

// regionsKey holds the region's part in the map of all regions. Its bytes carry the
// ballots of whoever wrote them, so a writer knows its own again.
const regionsKey = "regions"

var _ topology.RegionStore = (*Store)(nil)

// LoadRegions implements topology.RegionStore.
func (s *Store) LoadRegions(ctx context.Context) ([]byte, topology.Revision, error) {
	var b []byte
	var at topology.Revision
	err := s.b.retry(ctx, func(ctx context.Context, kv jetstream.KeyValue) error {
		entry, err := kv.Get(ctx, regionsKey)
		switch {
		case errors.Is(err, jetstream.ErrKeyNotFound):
			b, at = nil, 0
			return nil
		case err != nil:
			return err
		}
		b, at = entry.Value(), topology.Revision(entry.Revision())
		return nil
	})
	if err != nil {
		return nil, 0, fmt.Errorf("load map of regions of %s: %w", s.cfg.Region, err)
	}
	return b, at, nil
}

// SwapRegions implements topology.RegionStore.
func (s *Store) SwapRegions(ctx context.Context, b []byte, at topology.Revision) error {
	doubt := false
	err := s.b.retry(ctx, func(ctx context.Context, kv jetstream.KeyValue) error {
		if doubt { // an earlier try may have got through
			entry, err := kv.Get(ctx, regionsKey)
			switch {
			case err == nil && bytes.Equal(entry.Value(), b):
				return nil
			case err == nil && topology.Revision(entry.Revision()) != at:
				return final{topology.ErrConflict}
			case err != nil && !errors.Is(err, jetstream.ErrKeyNotFound):
				return err
			}
		}
		_, err := kv.Update(ctx, regionsKey, b, uint64(at))
		if isMismatch(err) && !doubt {
			return final{topology.ErrConflict}
		}
		doubt = doubt || err != nil
		return err
	})
	if err != nil {
		return fmt.Errorf("swap map of regions of %s: %w", s.cfg.Region, err)
	}
	return nil
}
