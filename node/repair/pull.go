package repair

import (
	"context"
	"fmt"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/wire"
)

// pull fetches the records behind all dots of p that o has and this node has
// not, page by page.
func (r *Repairer) pull(ctx context.Context, o *other, p hashring.Partition) error {
	for {
		ask := wire.Pull{Partition: p, Clock: r.Replica.Clock(p), MaxBytes: r.cfg.PageBytes}
		b, err := r.call(ctx, o.id, peer.VerbPull, wire.AppendPull(nil, ask))
		if err != nil {
			return fmt.Errorf("pull partition %d: %w", p, err)
		}
		got, err := wire.DecodePulled(b)
		if err != nil {
			return fmt.Errorf("pull partition %d: %w", p, err)
		}
		if len(got.Entries) > 0 {
			changed, err := o.apply(ctx, got.Entries)
			if err != nil {
				return fmt.Errorf("apply %d pulled records of partition %d: %w", len(got.Entries), p, err)
			}
			r.stats.PulledKeys.Add(uint64(len(got.Entries)))
			r.stats.RepairedKeys.Add(uint64(changed))
		}
		if got.Full {
			return r.fullSync(ctx, o, p)
		}
		if !got.More || len(got.Entries) == 0 {
			return nil
		}
	}
}

// fullSync joins all records of p at o, and then the clock that o had before
// the first of them was read.
func (r *Repairer) fullSync(ctx context.Context, o *other, p hashring.Partition) error {
	r.stats.FullSyncs.Add(1)
	r.Log.Info("full sync of a partition", "peer", string(o.id), "partition", int(p))
	first, last := hashring.Range(p, r.Topology().Table.Partitions())
	var clock *crdt.Clock
	err := r.scan(ctx, o, wire.Scan{Partition: p, First: first, Last: last}, func(page wire.Page) error {
		if clock == nil {
			clock = page.Clock
		}
		changed, err := o.apply(ctx, page.Entries)
		r.stats.RepairedKeys.Add(uint64(changed))
		return err
	})
	if err != nil {
		return fmt.Errorf("full sync of partition %d: %w", p, err)
	}
	if err := o.joinClock(ctx, p, clock); err != nil {
		return fmt.Errorf("join clock of partition %d: %w", p, err)
	}
	return nil
}

// scan pages through a range of o's records.
func (r *Repairer) scan(ctx context.Context, o *other, q wire.Scan, each func(wire.Page) error) error {
	q.MaxBytes = r.cfg.PageBytes
	for {
		b, err := r.call(ctx, o.id, peer.VerbScan, wire.AppendScan(nil, q))
		if err != nil {
			return err
		}
		page, err := wire.DecodePage(b)
		if err != nil {
			return err
		}
		if err := each(page); err != nil {
			return err
		}
		if !page.More || len(page.Entries) == 0 {
			return nil
		}
		q.After = page.Entries[len(page.Entries)-1].Key
	}
}
