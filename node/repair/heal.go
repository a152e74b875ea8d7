package repair

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/replica"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/wire"
)

// healers is how many damaged records are healed at once.
const healers = 4

// errTooFew says that too few of the servers told what they have of a key.
var errTooFew = errors.New("too few of the other servers answered")

// healLoop fetches, each Beat, the records that are unreadable here.
func (r *Repairer) healLoop(ctx context.Context) {
	for sleep(ctx, r.jitter(r.cfg.Beat)) {
		damaged := r.Replica.Damaged()
		each(healers, len(damaged), func(i int) {
			if ctx.Err() != nil {
				return
			}
			d := damaged[i]
			switch err := r.heal(ctx, d); {
			case err == nil:
				r.count(nil, 1, healedRecords)
				r.Log.Info("an unreadable record was fetched from other owners", "partition", int(d.Partition))
			case ctx.Err() == nil:
				r.Log.Debug("an unreadable record was not healed yet", "partition", int(d.Partition), "error", err)
			}
		})
	}
}

// heal joins what the other servers have of a damaged key. This node may have
// been one of those that acknowledged a write: so as many others are needed as
// every other quorum meets, N - W + 1 of them.
func (r *Repairer) heal(ctx context.Context, d replica.Damage) error {
	top := r.Topology()
	if top.Role(d.Partition, r.cfg.Self) == topology.None {
		return replica.ErrNotOwner
	}
	all := servers(top, d.Partition)
	need := len(all) - (len(all)/2 + 1) + 1
	var mu sync.Mutex
	var entries []wire.Entry
	told := 0
	each(len(all), len(all), func(i int) {
		if all[i] == r.cfg.Self {
			return
		}
		record, err := r.fetch(ctx, link{id: all[i]}, peer.VerbRead, d.Key)
		if err != nil {
			return
		}
		if len(record) > 0 {
			if _, err := crdt.DecodeRecord(d.KeyHash, record); err != nil {
				return
			}
		}
		mu.Lock()
		defer mu.Unlock()
		told++
		if len(record) > 0 {
			entries = append(entries, wire.Entry{Key: d.Key, Record: record})
		}
	})
	if told < need {
		return fmt.Errorf("%w: %d, not %d", errTooFew, told, need)
	}
	done := make(chan error, 1)
	r.Replica.Heal(d, entries, func(_ int, err error) { done <- err })
	return <-done
}
