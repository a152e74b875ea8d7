package handoff

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/internal/pause"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/wire"
	"github.com/atolldb/atoll/node/yield"
)

// Sweeper deletes what this node has of partitions in which it has no role any
// more, after a grace, and when every server of the partition has all of it; what
// one lacks it is given.
type Sweeper struct {
	cfg  Config
	deps Deps
	pace yield.Pacer
	left map[hashring.Partition]leftover // of Run's goroutine

	mu   sync.Mutex
	kept map[hashring.Partition]error
}

// leftover is since when a partition has been one, without another change, and
// whether it was told of.
type leftover struct {
	since topology.Epoch
	seen  time.Time
	told  bool
}

// longKept is after how many times Grace a leftover is worth a warning.
const longKept = 20

// NewSweeper returns a sweeper.
func NewSweeper(cfg Config, deps Deps) *Sweeper {
	return &Sweeper{cfg: cfg.filled(), deps: deps, pace: yield.Pacer{Governor: deps.Yield}, left: map[hashring.Partition]leftover{}, kept: map[hashring.Partition]error{}}
}

// Kept says why partitions that were given away are still there, of those whose
// time had come.
func (s *Sweeper) Kept() map[hashring.Partition]error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.kept)
}

// Run sweeps until ctx ends.
func (s *Sweeper) Run(ctx context.Context) error {
	for pause.For(ctx, s.cfg.Grace/4) {
		top := s.deps.Replica.Topology()
		left := map[hashring.Partition]leftover{}
		for _, p := range s.deps.Replica.Leftovers() {
			l, known := s.left[p]
			if since := top.SinceOf(p); !known || l.since != since {
				l = leftover{since: since, seen: time.Now()}
			}
			left[p] = l
		}
		s.left = left
		kept := map[hashring.Partition]error{}
		for p, l := range left {
			if time.Since(l.seen) < s.cfg.Grace || ctx.Err() != nil {
				continue
			}
			if why := s.sweep(ctx, top, p); why != nil {
				kept[p] = why
				level := hclog.Debug
				if !l.told && time.Since(l.seen) > longKept*s.cfg.Grace {
					level, l.told = hclog.Warn, true
					left[p] = l
				}
				s.deps.Log.Log(level, "a partition that was given away is kept for now", "partition", int(p), "error", why)
				continue
			}
			s.deps.Log.Info("deleted a partition that was given away", "partition", int(p))
		}
		s.mu.Lock()
		s.kept = kept
		s.mu.Unlock()
	}
	return nil
}

// sweep drops p, or says why not.
func (s *Sweeper) sweep(ctx context.Context, top *topology.Topology, p hashring.Partition) error {
	for _, slot := range top.Row(p).Slots {
		if err := s.give(ctx, top.Epoch, p, slot.Serves()); err != nil {
			return err
		}
	}
	done := make(chan error, 1)
	s.deps.Replica.Drop(p, func(err error) { done <- err })
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// give makes a server of p have everything that this node has of it. Mostly it
// does already: what it lacks are writes that reached this node at the end and
// too few others to be acknowledged, or those of a copy that was taken back.
func (s *Sweeper) give(ctx context.Context, epoch topology.Epoch, p hashring.Partition, to topology.NodeID) error {
	src := s.deps.source(to, p, s.cfg.PageBytes)
	for last := uint64(0); ; {
		mine := s.deps.Replica.Clock(p)
		if mine == nil {
			return nil // it is gone
		}
		theirs, _, _, err := src.clock(ctx)
		if err != nil {
			return err
		}
		lacking := theirs.CountMissing(mine)
		switch {
		case lacking == 0:
			return nil
		case lacking == last:
			return &notYet{fmt.Sprintf("%s does not take %d writes that this node has", to, lacking)}
		}
		last = lacking
		got, err := s.deps.Replica.Pull(wire.Pull{Partition: p, Clock: theirs, MaxBytes: s.deps.Yield.Page(s.cfg.PageBytes)})
		if err != nil {
			return fmt.Errorf("read what is left of partition %d: %w", p, err)
		}
		if len(got.Entries) == 0 {
			err = s.giveAll(ctx, epoch, p, to, mine, theirs)
		} else {
			err = s.hand(ctx, epoch, p, to, got.Entries)
		}
		if err != nil {
			return err
		}
	}
}

// maxTold bounds the dots that are told with one record.
const maxTold = 4096

// giveAll makes a server have everything that this node has of p, where the
// index does not know any more which records it lacks: those of a copy that was
// made whole have no entries. The dots of mine that are not in theirs go with
// the last record, after all others: a clock never speaks for what is not there.
func (s *Sweeper) giveAll(ctx context.Context, epoch topology.Epoch, p hashring.Partition, to topology.NodeID, mine, theirs *crdt.Clock) error {
	first, last := hashring.Range(p, s.deps.Replica.Topology().Table.Partitions())
	ask := wire.Scan{Partition: p, First: first, Last: last}
	var end wire.Entry
	for more := true; more; {
		ask.MaxBytes = s.deps.Yield.Page(s.cfg.PageBytes)
		page, err := s.deps.Replica.Scan(ask)
		if err != nil {
			return fmt.Errorf("read what is left of partition %d: %w", p, err)
		}
		if !page.Clock.Covers(mine) {
			return &notYet{fmt.Sprintf("%s lacks writes, and not all that this node has of the partition can be read", to)}
		}
		if len(page.Entries) == 0 {
			break
		}
		if err := s.hand(ctx, epoch, p, to, page.Entries); err != nil {
			return err
		}
		end = page.Entries[len(page.Entries)-1]
		ask.After, more = end.Key, page.More
	}
	if end.Key == nil {
		return &notYet{fmt.Sprintf("%s lacks writes of which this node has the dots and no record", to)}
	}
	end.Dots = nil
	for _, run := range theirs.Missing(mine) {
		for n := run.Lo; n <= run.Hi; n++ {
			end.Dots = append(end.Dots, crdt.Dot{Actor: run.Actor, N: n})
			if len(end.Dots) == maxTold {
				if err := s.hand(ctx, epoch, p, to, []wire.Entry{end}); err != nil {
					return err
				}
				end.Dots = nil
			}
		}
	}
	return s.hand(ctx, epoch, p, to, []wire.Entry{end})
}

// hand gives a server records, and keeps the pace.
func (s *Sweeper) hand(ctx context.Context, epoch topology.Epoch, p hashring.Partition, to topology.NodeID, entries []wire.Entry) error {
	body := wire.AppendApply(nil, wire.Apply{Entries: entries})
	_, err := peer.Call(ctx, s.deps.Transport, to, peer.Request{
		Verb: peer.VerbApply, Epoch: epoch, Timeout: callTimeout, Body: body,
	})
	if err != nil {
		return fmt.Errorf("give %d records of partition %d to %s: %w", len(entries), p, to, err)
	}
	return s.pace.Pay(ctx, len(body), s.deps.pace)
}
