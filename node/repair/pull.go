package repair

import (
	"context"
	"errors"
	"fmt"

	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/wire"
)

// pull fetches the records behind all dots of p that l has and this node has
// not, page by page.
func (r *Repairer) pull(ctx context.Context, l link, p hashring.Partition) error {
	release, err := r.claimsOf(l).take(ctx, p)
	if err != nil {
		return fmt.Errorf("pull partition %d: %w", p, err)
	}
	defer release()
	left := leftOut{}
	for {
		mine := r.Replica.Clock(p)
		if mine == nil {
			return nil // given away meanwhile
		}
		left.addTo(mine)
		ask := wire.Pull{Partition: p, Clock: mine, MaxBytes: r.Yield.Page(r.cfg.PageBytes), Afar: r.afar(l)}
		b, err := r.fetch(ctx, l, peer.VerbPull, wire.AppendPull(nil, ask))
		if err != nil {
			return fmt.Errorf("pull partition %d: %w", p, err)
		}
		got, err := wire.DecodePulled(b)
		if err != nil {
			return fmt.Errorf("pull partition %d: %w", p, err)
		}
		told := len(got.Entries)
		got.Entries = r.unskip(ctx, l, p, got.Entries, &left)
		if _, err := r.apply(ctx, l, l.from(got.Floors), got.Entries); err != nil {
			return fmt.Errorf("apply %d pulled records of partition %d: %w", len(got.Entries), p, err)
		}
		r.count(l.task, len(got.Entries), pulledKeys)
		if got.Full {
			if !r.pauses.over(l.id, p) {
				return fmt.Errorf("pull partition %d: %w", p, errPartial)
			}
			err := r.fullSync(ctx, l, p)
			if errors.Is(err, errPartial) {
				r.pauses.begin(l.id, p)
			}
			return err
		}
		if !got.More || told == 0 {
			return nil
		}
	}
}

// scan pages through a range of l's records.
func (r *Repairer) scan(ctx context.Context, l link, q wire.Scan, each func(wire.Page) error) error {
	for {
		q.MaxBytes, q.Afar = r.Yield.Page(r.cfg.PageBytes), r.afar(l)
		b, err := r.fetch(ctx, l, peer.VerbScan, wire.AppendScan(nil, q))
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
