package memtopo

import (
	"bytes"
	"context"

	"github.com/atolldb/atoll/node/topology"
)

// regions is the region's part in the map of all regions.
type regions struct {
	encoded []byte
	at      topology.Revision
}

var _ topology.RegionStore = (*Store)(nil)

// LoadRegions implements topology.RegionStore.
func (s *Store) LoadRegions(ctx context.Context) (b []byte, at topology.Revision, err error) {
	err = s.await(ctx, func() error {
		b, at = bytes.Clone(s.regions.encoded), s.regions.at
		return nil
	})
	return b, at, err
}

// SwapRegions implements topology.RegionStore.
func (s *Store) SwapRegions(ctx context.Context, b []byte, at topology.Revision) error {
	return s.await(ctx, func() error {
		if s.regions.at != at {
			return topology.ErrConflict
		}
		s.last++
		s.regions = regions{bytes.Clone(b), s.last}
		return nil
	})
}
