package memtopo

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/atolldb/atoll/node/topology"
)

// Store keeps the topology of one region. All nodes of the region share it. It
// holds the encoding, so that what cannot be kept cannot be swapped in.
type Store struct {
	mu      sync.Mutex
	down    bool
	mute    bool
	encoded []byte
	at      topology.Revision // of encoded, 0 for none
	last    topology.Revision // handed out so far
	regions regions
	leader  topology.NodeID
	until   time.Time
	changed chan struct{} // closed and made anew with every change
}

var _ topology.Store = (*Store)(nil)

// NewStore returns an empty store.
func NewStore() *Store { return &Store{changed: make(chan struct{})} }

// SetDown makes every call wait until that ends, or its context does.
func (s *Store) SetDown(down bool) { s.change(func() { s.down = down }) }

// SetMute loses every answer to a Swap, which is carried out: the call waits
// until its context ends, or that does.
func (s *Store) SetMute(mute bool) { s.change(func() { s.mute = mute }) }

// Forget loses all state, as a store whose disks died. Revisions begin again.
func (s *Store) Forget() {
	s.change(func() { s.encoded, s.at, s.last, s.leader, s.regions = nil, 0, 0, "", regions{} })
}

func (s *Store) change(what func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	what()
	s.wake()
}

// wake is called with the lock held.
func (s *Store) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// await runs do once the store is up, with the lock held.
func (s *Store) await(ctx context.Context, do func() error) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		s.mu.Lock()
		if !s.down {
			defer s.mu.Unlock()
			return do()
		}
		changed := s.changed
		s.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return errors.Join(ErrDown, ctx.Err())
		}
	}
}

// Load implements topology.Store.
func (s *Store) Load(ctx context.Context) (*topology.Topology, topology.Revision, error) {
	var encoded []byte
	var at topology.Revision
	err := s.await(ctx, func() error {
		encoded, at = s.encoded, s.at
		return nil
	})
	if err != nil {
		return nil, 0, fmt.Errorf("load topology: %w", err)
	}
	return decode(encoded, at)
}

func decode(encoded []byte, at topology.Revision) (*topology.Topology, topology.Revision, error) {
	if at == 0 {
		return nil, 0, nil
	}
	t, err := topology.Decode(encoded)
	if err != nil {
		return nil, 0, fmt.Errorf("load topology: %w", err)
	}
	return t, at, nil
}

// Swap implements topology.Store.
func (s *Store) Swap(ctx context.Context, t *topology.Topology, at topology.Revision) (topology.Revision, error) {
	if err := t.Validate(); err != nil {
		return 0, fmt.Errorf("swap topology: %w", err)
	}
	encoded := topology.Encode(t)
	var now topology.Revision
	err := s.await(ctx, func() error {
		if s.at != at {
			return topology.ErrConflict
		}
		if have, _, err := decode(s.encoded, s.at); err != nil || have != nil && have.Epoch >= t.Epoch {
			return errors.Join(err, topology.ErrConflict)
		}
		s.last++
		s.encoded, s.at, now = encoded, s.last, s.last
		s.wake()
		return nil
	})
	if err == nil {
		err = s.awaitAnswer(ctx)
	}
	if err != nil {
		return 0, fmt.Errorf("swap topology: %w", err)
	}
	return now, nil
}

// awaitAnswer waits while the store is mute.
func (s *Store) awaitAnswer(ctx context.Context) error {
	for {
		s.mu.Lock()
		mute, changed := s.mute, s.changed
		s.mu.Unlock()
		if !mute {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Watch implements topology.Store.
func (s *Store) Watch(ctx context.Context, each func(*topology.Topology, topology.Revision)) error {
	var told []byte
	for {
		var encoded []byte
		var at topology.Revision
		var changed chan struct{}
		err := s.await(ctx, func() error {
			encoded, at, changed = s.encoded, s.at, s.changed
			return nil
		})
		if err != nil {
			return fmt.Errorf("watch topology: %w", err)
		}
		if at != 0 && &encoded[0] != addr(told) {
			t, at, err := decode(encoded, at)
			if err != nil {
				return err
			}
			told = encoded
			each(t, at)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// addr tells two values of the store apart.
func addr(b []byte) *byte {
	if len(b) == 0 {
		return nil
	}
	return &b[0]
}

// Lead implements topology.Store.
func (s *Store) Lead(ctx context.Context, node topology.NodeID, ttl time.Duration) (topology.NodeID, error) {
	var leader topology.NodeID
	err := s.await(ctx, func() error {
		if now := time.Now(); s.leader == node || !now.Before(s.until) {
			s.leader, s.until = node, now.Add(ttl)
		}
		leader = s.leader
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("lead: %w", err)
	}
	return leader, nil
}
