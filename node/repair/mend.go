package repair

import (
	"context"
	"fmt"
	"math/bits"

	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/replica"
	"github.com/atolldb/atoll/node/wire"
)

// smallRange is how many keys are exchanged rather than digested further.
const smallRange = 64

// mend finds the records of p that differ although the clocks are equal, by
// descending through digests of hash prefixes, and joins them both ways.
func (r *Repairer) mend(ctx context.Context, l link, p hashring.Partition) error {
	r.count(l.task, 1, mismatches)
	// A kept digest may speak for records that are gone, or the other way
	// round: first make sure of our own.
	r.recount(ctx, p, l.task)
	r.Log.Warn("equal clocks but different records: somebody lost or rolled back something; joining both ways",
		"peer", string(l.id), "partition", int(p))
	return r.meld(ctx, l, p)
}

// meld joins what differs in the stores of p, whatever their sums say.
func (r *Repairer) meld(ctx context.Context, l link, p hashring.Partition) error {
	release, err := r.claimsOf(l).take(ctx, p)
	if err != nil {
		return fmt.Errorf("mend partition %d: %w", p, err)
	}
	defer release()
	top := wire.Buckets{Bits: uint8(bits.Len(uint(r.Topology().Table.Partitions())) - 1), Prefix: uint64(p)}
	if err := r.descend(ctx, l, p, top); err != nil {
		return fmt.Errorf("mend partition %d: %w", p, err)
	}
	return nil
}

func (r *Repairer) descend(ctx context.Context, l link, p hashring.Partition, q wire.Buckets) error {
	b, err := r.fetch(ctx, l, peer.VerbBuckets, wire.AppendBuckets(nil, q))
	if err != nil {
		return err
	}
	theirs, err := wire.DecodeBucketList(b)
	if err != nil {
		return err
	}
	mine, err := r.Replica.Buckets(q)
	if err != nil {
		return err
	}
	if len(theirs) != len(mine) {
		return wire.ErrMalformed
	}
	for i := range mine {
		if mine[i] == theirs[i] {
			continue
		}
		child := wire.Buckets{Bits: q.Bits + 8, Prefix: q.Prefix<<8 | uint64(i)}
		if max(mine[i].Keys, theirs[i].Keys) > smallRange && child.Bits <= 56 {
			if err := r.descend(ctx, l, p, child); err != nil {
				return err
			}
			continue
		}
		if err := r.exchange(ctx, l, p, q, i); err != nil {
			return err
		}
	}
	return nil
}

// exchange joins part i of the range q both ways.
func (r *Repairer) exchange(ctx context.Context, l link, p hashring.Partition, q wire.Buckets, i int) error {
	first, last := replica.BucketRange(q, i)
	scan := wire.Scan{Partition: p, First: first, Last: last, MaxBytes: r.cfg.PageBytes}
	err := r.scan(ctx, l, scan, func(page wire.Page) error {
		changed, err := r.apply(ctx, l, page.Entries)
		r.count(l.task, changed, mismatchedKeys)
		return err
	})
	if err != nil {
		return err
	}
	for {
		page, err := r.Replica.Scan(scan)
		if err != nil || len(page.Entries) == 0 {
			return err
		}
		body := wire.AppendApply(nil, wire.Apply{Entries: page.Entries})
		if _, err := r.call(ctx, l, peer.VerbApply, body); err != nil {
			return err
		}
		if err := r.pay(ctx, len(body)); err != nil {
			return err
		}
		if !page.More {
			return nil
		}
		scan.After = page.Entries[len(page.Entries)-1].Key
	}
}
