package coord

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/atolldb/atoll/geo"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/quorum"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/wire"
)

var _ geo.Sink = (*Coordinator)(nil)

// ApplyRemote applies entries from another region: all owners are asked, and
// it returns nil when each entry is durable at a quorum of them. An error wraps
// geo.ErrPoison if an owner said that what it got is nothing to apply.
func (c *Coordinator) ApplyRemote(ctx context.Context, origin string, entries []geo.Entry) error {
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(DefaultTimeout)
	}
	s := &spread{done: make(chan error, 1), tallies: map[hashring.Partition]*quorum.Tally{}}
	shares := map[string]*share{}
	for _, e := range entries {
		p := hashring.PartitionOf(hashring.KeyHash(e.Key), c.Topology().Table.Partitions())
		owners := c.Topology().Owners(p)
		fresh := s.tallies[p] == nil
		if fresh {
			t := quorum.NewTally(len(owners)/2+1, len(owners))
			s.tallies[p] = &t
		}
		for i, o := range owners {
			sh := shares[o]
			if sh == nil {
				sh = &share{}
				shares[o] = sh
			}
			sh.entries = append(sh.entries, wire.Entry{Key: e.Key, Record: e.Record, Dots: e.Dots})
			if fresh {
				sh.seats = append(sh.seats, seat{p, i})
			}
		}
	}
	s.open = len(s.tallies)
	if s.open == 0 {
		return nil
	}
	for o, sh := range shares {
		c.applyAt(topology.NodeID(o), sh, deadline, s)
	}
	select {
	case err := <-s.done:
		if err != nil {
			return fmt.Errorf("apply %d entries of region %s: %w", len(entries), origin, err)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("apply %d entries of region %s: %w", len(entries), origin, ctx.Err())
	}
}

func (c *Coordinator) applyAt(id topology.NodeID, sh *share, deadline time.Time, s *spread) {
	if id == c.cfg.Self {
		c.Replica.Apply(sh.entries, func(_ int, err error) { s.vote(sh.seats, err) })
		return
	}
	if !c.Alive(id) {
		c.stats.Missed.Add(uint64(len(sh.entries)))
		s.vote(sh.seats, peer.ErrNotSent)
		return
	}
	body := wire.AppendApply(nil, wire.Apply{Entries: sh.entries})
	c.send(id, peer.VerbApply, body, deadline, func(_ []byte, err error) {
		if err != nil {
			c.stats.Missed.Add(uint64(len(sh.entries)))
		}
		s.vote(sh.seats, err)
	})
}

// share is what one owner gets of a spread, and where it votes.
type share struct {
	entries []wire.Entry
	seats   []seat
}

// seat is an owner's place in a partition's row.
type seat struct {
	p     hashring.Partition
	index int
}

// spread is an ApplyRemote under way.
type spread struct {
	mu      sync.Mutex
	tallies map[hashring.Partition]*quorum.Tally
	open    int
	ended   bool
	done    chan error
}

func (s *spread) vote(seats []seat, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, st := range seats {
		t := s.tallies[st.p]
		before := t.Verdict()
		after := before
		if err == nil {
			after = t.Ack(st.index)
		} else {
			after = t.Fail(st.index)
		}
		if s.ended || before != quorum.Pending {
			continue
		}
		switch after {
		case quorum.Met:
			if s.open--; s.open == 0 {
				s.ended = true
				s.done <- nil
			}
		case quorum.Lost:
			s.ended = true
			if invalidEntry(err) {
				err = fmt.Errorf("%w: %w", geo.ErrPoison, err)
			}
			s.done <- fmt.Errorf("partition %d has no quorum: %w", st.p, err)
		case quorum.Pending:
		}
	}
}

// invalidEntry reports whether an owner, this one or another, refused an entry
// for what it is.
func invalidEntry(err error) bool {
	var no *peer.Refusal
	return errors.Is(err, wire.ErrMalformed) || errors.As(err, &no) && no.Code == peer.CodeInvalid
}
