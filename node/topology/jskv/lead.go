package jskv

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/atolldb/atoll/node/topology"
)

// lease is the value of the key lead. The count makes every write of it new.
type lease struct {
	Holder topology.NodeID `json:"holder"`
	Count  uint64          `json:"count"`
	TTL    int64           `json:"ttl_ms"`
}

// leaseSeen is the write of the lease that was seen last, and when first.
type leaseSeen struct {
	rev uint64
	at  time.Time
}

// Lead implements topology.Store. A lease whose holder has gone is taken when
// it was seen unchanged, by calls of this very store, for as long as it says.
func (s *Store) Lead(ctx context.Context, node topology.NodeID, ttl time.Duration) (topology.NodeID, error) {
	leader := node
	err := s.b.retry(ctx, func(ctx context.Context, kv jetstream.KeyValue) error {
		var have lease
		rev, err := load(ctx, kv, leadKey, &have)
		if err != nil {
			return err
		}
		if rev != 0 && have.Holder != node && !s.isOver(rev, time.Duration(have.TTL)*time.Millisecond) {
			leader = have.Holder
			return nil
		}
		leader = node
		return store(ctx, kv, leadKey, lease{Holder: node, Count: have.Count + 1, TTL: ttl.Milliseconds()}, rev)
	})
	if err != nil {
		return "", fmt.Errorf("lead %s: %w", s.cfg.Region, err)
	}
	return leader, nil
}

// isOver reports whether the write rev of the lease has been the last one for
// ttl, as seen from here (K5).
func (s *Store) isOver(rev uint64, ttl time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seen.rev != rev {
		s.seen = leaseSeen{rev, time.Now()}
		return false
	}
	return time.Since(s.seen.at) >= ttl
}

type fact struct {
	Value string `json:"value"`
}

// Agree returns what the region's nodes agree on under a name: value, if nobody
// has said anything before. A name is [a-z-]. It is for facts that never
// change, so that a node that was configured otherwise finds out.
func (s *Store) Agree(ctx context.Context, name, value string) (string, error) {
	agreed := value
	err := s.b.retry(ctx, func(ctx context.Context, kv jetstream.KeyValue) error {
		var have fact
		rev, err := load(ctx, kv, "facts."+name, &have)
		switch {
		case err != nil:
			return err
		case rev != 0:
			agreed = have.Value
			return nil
		}
		agreed = value
		return store(ctx, kv, "facts."+name, fact{value}, 0)
	})
	if err != nil {
		return "", fmt.Errorf("agree on %s in %s: %w", name, s.cfg.Region, err)
	}
	return agreed, nil
}
