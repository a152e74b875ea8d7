package repair

import (
	"context"
	"errors"
	"fmt"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/internal/pause"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/replica"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/wire"
)

// errTooFew says that too few of the servers told what they have of a key.
var errTooFew = errors.New("too few of the other servers answered")

// healers is how many damaged records are fetched at once.
const healers = 4

// healLoop fetches what this node's disk cannot give any more, as soon as it is
// known.
func (r *Repairer) healLoop(ctx context.Context) {
	for pause.For(ctx, r.jitter(r.cfg.Beat)) {
		if r.Replica.DamagedCount() > 0 {
			r.heal(ctx, nil, nil)
		}
	}
}

// heal fetches the damaged records of parts (nil: of all). A partition of which
// a record cannot be fetched now waits for the next time.
func (r *Repairer) heal(ctx context.Context, parts []hashring.Partition, task *Counts) {
	select {
	case r.healing <- struct{}{}:
		defer func() { <-r.healing }()
	case <-ctx.Done():
		return
	}
	var failed partitionSet
	damaged := r.damaged(parts)
	each(healers, len(damaged), func(i int) {
		d := damaged[i]
		if ctx.Err() != nil || failed.has(d.Partition) {
			return
		}
		if err := r.healOne(ctx, d); err != nil {
			if failed.add(d.Partition) {
				r.Log.Warn("an unreadable record could not be fetched from other owners yet", "partition", int(d.Partition), "error", err)
			}
			return
		}
		r.count(task, 1, healedRecords)
	})
	if n := len(damaged); n > 0 && failed.empty() && ctx.Err() == nil {
		r.Log.Info("unreadable records were fetched from other owners", "records", n)
	}
}

// damaged returns some damaged records of parts (nil: of all), in no order.
func (r *Repairer) damaged(parts []hashring.Partition) []replica.Damage {
	all := r.Replica.Damaged()
	if parts == nil {
		return all
	}
	var in partitionSet
	for _, p := range parts {
		in.add(p)
	}
	var out []replica.Damage
	for _, d := range all {
		if in.has(d.Partition) {
			out = append(out, d)
		}
	}
	return out
}

// healOne asks every other server of the region. This node may itself have been
// one of the W that acknowledged a write: so as many others must answer as every
// other quorum meets, N - W + 1 of them. Other regions are asked, too, and need
// not answer.
func (r *Repairer) healOne(ctx context.Context, d replica.Damage) error {
	top := r.Topology()
	if top.Role(d.Partition, r.cfg.Self) == topology.None {
		return replica.ErrNotOwner
	}
	var entries []wire.Entry
	ask := func(l link) error {
		b, err := r.fetch(ctx, l, peer.VerbRead, wire.AppendRead(nil, wire.Read{Key: d.Key}))
		if err != nil {
			return err
		}
		held, err := wire.DecodeHeld(b)
		if err != nil || len(held.Record) == 0 {
			return err
		}
		if _, err := crdt.DecodeRecord(d.KeyHash, held.Record); err != nil {
			return fmt.Errorf("%w: %w", wire.ErrMalformed, err)
		}
		entries = append(entries, wire.Entry{Key: d.Key, Record: held.Record})
		return nil
	}
	all, told := servers(top, d.Partition), 0
	var failed error
	for _, id := range all {
		if id == r.cfg.Self {
			continue
		}
		if err := ask(link{id: id}); err != nil {
			failed = fmt.Errorf("read from %s: %w", id, err)
		} else {
			told++
		}
	}
	if need := len(all) - (len(all)/2 + 1) + 1; told < need {
		return errors.Join(fmt.Errorf("%w: %d, not %d", errTooFew, told, need), failed)
	}
	for _, g := range r.Regions() {
		if g.Topology == nil || int(d.Partition) >= g.Topology.Table.Partitions() {
			continue
		}
		for _, id := range servers(g.Topology, d.Partition) {
			if ask(link{id: id, region: g.Name}) == nil {
				break
			}
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	done := make(chan error, 1)
	r.Replica.Heal(d, entries, func(_ int, err error) { done <- err })
	return <-done
}
