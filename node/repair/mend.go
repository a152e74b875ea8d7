package repair

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"math/bits"
	"slices"

	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/replica"
	"github.com/atolldb/atoll/node/wire"
)

const (
	// smallRange is how many keys are exchanged rather than digested further.
	smallRange = 8
	// wholesaleKeys is how many keys are exchanged at once where every part of a
	// range differs.
	wholesaleKeys = 4096
)

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

// descend compares the parts of the range that q names. Neighbours that differ
// and are small are exchanged together.
func (r *Repairer) descend(ctx context.Context, l link, p hashring.Partition, q wire.Buckets) error {
	mine, theirs, err := r.buckets(ctx, l, q)
	if err != nil {
		return err
	}
	if wholesale(mine, theirs) {
		first, _ := replica.BucketRange(q, 0)
		_, last := replica.BucketRange(q, len(mine)-1)
		return r.exchange(ctx, l, p, first, last)
	}
	from := 0 // of the parts to exchange
	flush := func(to int) error {
		if from == to {
			return nil
		}
		first, _ := replica.BucketRange(q, from)
		_, last := replica.BucketRange(q, to-1)
		return r.exchange(ctx, l, p, first, last)
	}
	for i := range mine {
		child := wire.Buckets{Bits: q.Bits + wire.BucketBits, Prefix: q.Prefix<<wire.BucketBits | uint64(i)}
		large := max(mine[i].Keys, theirs[i].Keys) > smallRange && child.Bits <= 64-wire.BucketBits
		differ := mine[i] != theirs[i]
		if differ && !large {
			continue
		}
		if err := flush(i); err != nil {
			return err
		}
		from = i + 1
		if differ {
			if err := r.descend(ctx, l, p, child); err != nil {
				return err
			}
		}
	}
	return flush(len(mine))
}

// wholesale reports whether so much differs in so small a range that it is
// exchanged as a whole.
func wholesale(mine, theirs []wire.Bucket) bool {
	var keys uint64
	for i := range mine {
		if mine[i] == theirs[i] {
			return false
		}
		keys += max(mine[i].Keys, theirs[i].Keys)
	}
	return keys <= wholesaleKeys
}

func (r *Repairer) buckets(ctx context.Context, l link, q wire.Buckets) (mine, theirs []wire.Bucket, err error) {
	q.Afar = r.afar(l)
	b, err := r.fetch(ctx, l, peer.VerbBuckets, wire.AppendBuckets(nil, q))
	if err != nil {
		return nil, nil, err
	}
	if theirs, err = wire.DecodeBucketList(b); err != nil {
		return nil, nil, err
	}
	q.Afar = r.askedBy(l)
	if mine, err = r.Replica.Buckets(q); err != nil {
		return nil, nil, err
	}
	if len(theirs) != len(mine) {
		return nil, nil, wire.ErrMalformed
	}
	return mine, theirs, nil
}

// exchange joins the records whose key hash is in first..last both ways.
func (r *Repairer) exchange(ctx context.Context, l link, p hashring.Partition, first, last uint64) error {
	scan := wire.Scan{Partition: p, First: first, Last: last, MaxBytes: r.cfg.PageBytes, Afar: r.askedBy(l)}
	// What l has is not sent back to it.
	seed, theirs := maphash.MakeSeed(), map[string]uint64{}
	err := r.scan(ctx, l, scan, func(page wire.Page) error {
		for _, e := range page.Entries {
			if len(theirs) < wholesaleKeys {
				theirs[string(e.Key)] = maphash.Bytes(seed, e.Record)
			}
		}
		changed, err := r.apply(ctx, l, l.from(page.Floors), page.Entries)
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
		scan.After = page.Entries[len(page.Entries)-1].Key
		lacking := slices.DeleteFunc(page.Entries, func(e wire.Entry) bool {
			sum, ok := theirs[string(e.Key)]
			return ok && sum == maphash.Bytes(seed, e.Record)
		})
		if err := r.give(ctx, l, lacking); err != nil && !late(err) {
			return err
		}
		if err := r.sift(ctx, p, lacking); err != nil {
			return err
		}
		if !page.More {
			return nil
		}
	}
}

// sift looks whether this node's disk has brought back what was deleted long ago
// and forgotten: what another one lacks, although it is from before the floor.
// Two must have had it and have it no more, for one may have lost it silently.
func (r *Repairer) sift(ctx context.Context, p hashring.Partition, entries []wire.Entry) error {
	floor := r.Replica.Floors(p).Raised
	if floor == 0 || len(entries) == 0 {
		return nil
	}
	keys := make([][]byte, len(entries))
	for i, e := range entries {
		keys[i] = e.Key
	}
	_, _, err := r.Replica.Sift(ctx, p, floor, 2, keys)
	return err
}

// late reports whether a peer refused what may have been deleted since.
func late(err error) bool {
	var no *peer.Refusal
	return errors.As(err, &no) && no.Code == peer.CodeLate
}

func (r *Repairer) give(ctx context.Context, l link, entries []wire.Entry) error {
	if len(entries) == 0 {
		return nil
	}
	body := wire.AppendApply(nil, wire.Apply{Entries: entries})
	if _, err := r.call(ctx, l, peer.VerbApply, body); err != nil {
		return err
	}
	r.count(l.task, len(entries), mismatchedKeys)
	return r.pay(ctx, len(body))
}
