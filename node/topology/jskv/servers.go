package jskv

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// heardWithin is for how long a server may not be heard by the leader and is still up.
// It is heard once a second.
const heardWithin = 5 * time.Second

// Servers are those that keep a region's bucket.
type Servers struct {
	// Total are all of them. Up are those that their leader hears, itself too: 0 where
	// they have none. One that catches up counts.
	Total, Up int
}

// Quorum says that the bucket can be changed.
func (s Servers) Quorum() bool { return 2*s.Up > s.Total }

// Servers asks how many of the bucket's servers are up: one small request, which the
// bucket's leader answers. Without a majority nobody answers, or one that knows of no
// leader; an error says that nobody did.
func (s *Store) Servers(ctx context.Context) (Servers, error) {
	stream, err := s.b.js.Stream(ctx, s.b.stream())
	if err != nil {
		return Servers{}, fmt.Errorf("ask for the servers of the topology of %s: %w", s.cfg.Region, err)
	}
	return serversOf(stream.CachedInfo().Cluster), nil
}

// serversOf counts what a leader says; nil is what a server alone says.
func serversOf(c *jetstream.ClusterInfo) Servers {
	if c == nil {
		return Servers{Total: 1, Up: 1}
	}
	if c.Leader == "" {
		// Whoever answers knows of the others only what was once.
		return Servers{Total: len(c.Replicas)}
	}
	s := Servers{Total: 1 + len(c.Replicas), Up: 1}
	for _, r := range c.Replicas {
		// What died without a word is not offline for minutes. Active is for how long it
		// was not heard: 0 for never, or just now.
		heard := r.Active > 0 || r.Current
		if !r.Offline && heard && r.Active < heardWithin {
			s.Up++
		}
	}
	return s
}
