package repair

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/session"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/wire"
)

// errPartial says that a full sync delivered records, and not all that its source
// should have.
var errPartial = errors.New("the source has unreadable records of the partition, and gives no clock")

// partialPause is how long a source that could not show all of a partition is
// not asked for all of it again: meanwhile it fetches what it cannot read.
const partialPause = time.Minute

// pauses of full syncs.
type pauses struct {
	mu    sync.Mutex
	until map[standstill]time.Time
}

type standstill struct {
	id topology.NodeID
	p  hashring.Partition
}

func (s *pauses) begin(id topology.NodeID, p hashring.Partition) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.until == nil {
		s.until = map[standstill]time.Time{}
	}
	now := time.Now()
	maps.DeleteFunc(s.until, func(_ standstill, t time.Time) bool { return t.Before(now) })
	s.until[standstill{id, p}] = now.Add(partialPause)
}

func (s *pauses) over(id topology.NodeID, p hashring.Partition) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !time.Now().Before(s.until[standstill{id, p}])
}

// fullSync joins all records of p at l, and then the clock that l had before
// the first of them was read, as far as it can speak for what was to come here.
func (r *Repairer) fullSync(ctx context.Context, l link, p hashring.Partition) error {
	r.count(l.task, 1, fullSyncs)
	r.Log.Info("full sync of a partition", "peer", string(l.id), "partition", int(p))
	first, last := hashring.Range(p, r.Topology().Table.Partitions())
	var clock *crdt.Clock
	var losses *session.Losses
	partial := false
	err := r.scan(ctx, l, wire.Scan{Partition: p, First: first, Last: last}, func(page wire.Page) error {
		if clock == nil {
			clock, losses = page.Clock, page.Losses
		}
		// Who cannot show all that was delivered to it gives no clock.
		partial = partial || page.Behind && len(page.Clock.Actors()) == 0 || !page.Clock.Covers(clock)
		src := l.from(page.Floors)
		src.Whole = true
		_, err := r.apply(ctx, l, src, page.Entries)
		return err
	})
	if err == nil && partial {
		err = errPartial
	}
	if err == nil {
		err = r.Replica.MeetLosses(p, losses)
	}
	if err == nil {
		err = r.joinClock(p, r.spoken(l, clock))
	}
	if err != nil {
		return fmt.Errorf("full sync of partition %d: %w", p, err)
	}
	return nil
}
