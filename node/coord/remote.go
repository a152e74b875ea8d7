package coord

import (
	"context"
	"encoding/binary"
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

// ApplyRemote applies entries from another region: all who take writes are
// asked, and it returns nil when each entry is durable at a majority of its
// partition's slots. An error wraps geo.ErrPoison if an owner said that what it
// got is nothing to apply.
func (c *Coordinator) ApplyRemote(ctx context.Context, origin string, entries []geo.Entry) error {
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(DefaultTimeout)
	}
	for turn := 0; ; turn++ {
		top := c.Topology()
		done := make(chan error, 1)
		c.spread(top, entries, want{}, deadline, func(_ *spread, err error) { done <- err })
		var err error
		select {
		case err = <-done:
		case <-ctx.Done():
			err = ctx.Err()
		}
		switch {
		case err == nil:
			return nil
		case stale(err) && turn < maxTurns && c.Topology().Epoch > top.Epoch && ctx.Err() == nil:
			continue // nothing counts but what was sent by one topology
		}
		return fmt.Errorf("apply %d entries of region %s: %w", len(entries), origin, err)
	}
}

// spread has all who take writes apply the entries, by one topology. It calls
// done once: with nil when each entry is durable at as many slots of its
// partition as w wants.
func (c *Coordinator) spread(top *topology.Topology, entries []geo.Entry, w want, deadline time.Time, done func(*spread, error)) *spread {
	s := &spread{top: top, done: done, tallies: map[hashring.Partition]*quorum.Slots{}}
	shares := map[topology.NodeID]*share{}
	for at, e := range entries {
		p := e.Partition // of dots without a key; nothing else is believed
		if len(e.Record) > 0 {
			p = hashring.PartitionOf(hashring.KeyHash(e.Key), top.Table.Partitions())
		} else if int(p) >= top.Table.Partitions() {
			done(nil, fmt.Errorf("%w: no partition %d", wire.ErrMalformed, p))
			return s
		}
		row := top.Row(p)
		fresh := s.tallies[p] == nil
		give := func(id topology.NodeID, st seat) {
			sh := shares[id]
			if sh == nil {
				sh = &share{}
				shares[id] = sh
			}
			sh.part = sh.part || len(sh.entries) != at
			sh.entries = append(sh.entries, wireEntry(e))
			if fresh {
				sh.seats = append(sh.seats, st)
			}
		}
		var moving uint64
		for i, slot := range row.Slots {
			give(slot.Owner, seat{p, i, false})
			if slot.Moving() {
				moving |= 1 << i
				give(slot.Next, seat{p, i, true})
			}
		}
		slots, extra := len(row.Slots), -1
		need, err := (&key{row: row}).need(w)
		if err != nil {
			done(s, err)
			return s
		}
		if row.Extra != "" {
			if w.everybody() {
				extra, slots, need = slots, slots+1, need+1
			}
			give(row.Extra, seat{p, extra, false})
		}
		if fresh {
			t := quorum.NewSlots(need, slots, moving)
			s.tallies[p] = &t
		}
	}
	s.open = len(s.tallies)
	if s.open == 0 {
		done(s, nil)
		return s
	}
	// Who gets all of it gets the same bytes, packed once.
	var whole *share
	all := sync.OnceValue(func() []byte { return packed(whole.entries) })
	for id, sh := range shares {
		if sh.part = sh.part || len(sh.entries) != len(entries); !sh.part {
			whole, sh.body = sh, all
		}
		c.applyAt(id, sh, deadline, s)
	}
	return s
}

func (c *Coordinator) applyAt(id topology.NodeID, sh *share, deadline time.Time, s *spread) {
	answer := func(err error) {
		if err != nil {
			c.stats.Missed.Add(uint64(len(sh.entries)))
		}
		if err != nil && stale(err) {
			c.learn(id, s.top.Epoch, func(bool) { s.vote(sh.seats, err) })
			return
		}
		s.vote(sh.seats, err)
	}
	switch {
	case id == c.cfg.Self:
		c.Replica.ApplyAt(s.top.Epoch, sh.entries, func(_ int, err error) { answer(err) })
	case !c.Alive(id):
		answer(peer.ErrNotSent)
	default:
		c.send(id, s.top.Epoch, peer.VerbApply, sh.packed(), deadline, func(_ []byte, err error) { answer(err) })
	}
}

// share is what one node gets of a spread, and where it votes.
type share struct {
	entries []wire.Entry
	seats   []seat
	part    bool // it is not all entries, once each and in order
	body    func() []byte
}

// packed is the Apply that the node gets; nobody may change it.
func (sh *share) packed() []byte {
	if sh.body != nil {
		return sh.body()
	}
	return packed(sh.entries)
}

func packed(entries []wire.Entry) []byte {
	size := binary.MaxVarintLen64
	for i := range entries {
		e := &entries[i]
		size += len(e.Key) + len(e.Record) + 4*binary.MaxVarintLen32 + 15*len(e.Dots) + 31*len(e.IDs)
	}
	return wire.AppendApply(make([]byte, 0, size), wire.Apply{Entries: entries})
}

// seat is a node's place in a partition's row: a slot, and whether it is the
// second node of it; -1 is that of Extra where that does not count.
type seat struct {
	p      hashring.Partition
	slot   int
	second bool
}

// spread is the entries of an ApplyRemote on their way, by one topology.
type spread struct {
	top     *topology.Topology
	mu      sync.Mutex
	tallies map[hashring.Partition]*quorum.Slots
	open    int
	ended   bool
	done    func(*spread, error)
}

// yes is how many slots of the only partition have acknowledged, and how many it
// takes.
func (s *spread) yes() (yes, need int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.tallies {
		yes, need = t.Yes(), t.Need()
	}
	return yes, need
}

func (s *spread) vote(seats []seat, err error) {
	if met, why := s.count(seats, err); met || why != nil {
		s.done(s, why)
	}
}

// count reports that this vote has met all, or why it has made that impossible.
func (s *spread) count(seats []seat, err error) (met bool, why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, st := range seats {
		if st.slot < 0 {
			continue
		}
		t := s.tallies[st.p]
		before := t.Verdict()
		after := before
		if err == nil {
			after = t.Ack(st.slot, st.second)
		} else {
			after = t.Fail(st.slot, st.second)
		}
		if s.ended || before != quorum.Pending {
			continue
		}
		switch after {
		case quorum.Met:
			if s.open--; s.open == 0 {
				s.ended, met = true, true
			}
		case quorum.Lost:
			s.ended = true
			if invalidEntry(err) {
				err = fmt.Errorf("%w: %w", geo.ErrPoison, err)
			}
			why = fmt.Errorf("partition %d has no quorum: %w", st.p, err)
		case quorum.Pending:
		}
	}
	return met, why
}

// invalidEntry reports whether an owner, this one or another, refused an entry
// for what it is.
func invalidEntry(err error) bool {
	var no *peer.Refusal
	return errors.Is(err, wire.ErrMalformed) || errors.As(err, &no) && no.Code == peer.CodeInvalid
}

// wireEntry is what an owner is told of an entry.
func wireEntry(e geo.Entry) wire.Entry {
	out := wire.Entry{Key: e.Key, Record: e.Record, Dots: e.Dots, IDs: e.IDs}
	if out.Skips() {
		out.Skip = e.Partition
	}
	return out
}
