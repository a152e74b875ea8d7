package replica

import (
	"context"
	"fmt"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/storage"
)

// PruneIndex gives up the index entries of p for dots that everybody has. held
// is what all others who take writes of p, in all regions, are known to hold
// durably: what may go is up to its gap-free base of each actor. Of that, this
// node keeps what it may yet need itself: what a start reads (above the newest
// durable snapshot), and what the log for other regions has not confirmed.
//
// Whoever lacks a dot whose entry is gone (it was wiped, or rolled back) gets
// Full in answer to its Pull, and everything by Scan. Wrong knowledge costs
// that, never data.
//
// done gets nil when the entries are gone, ErrNotOwner when this node has no
// role in p, or ErrStopping. It must not block.
func (r *Replica) PruneIndex(p hashring.Partition, held *crdt.Clock, done func(error)) {
	if !r.Owns(p) {
		done(ErrNotOwner)
		return
	}
	held = held.Clone()
	r.later(func(ctx context.Context) error {
		if err := r.prune(ctx, p, held); err != nil {
			return fmt.Errorf("prune index of partition %d: %w", p, err)
		}
		return nil
	}, done)
}

func (r *Replica) prune(ctx context.Context, p hashring.Partition, held *crdt.Clock) error {
	begin := &pruneOp{r: r, p: p, held: held}
	if err := r.do(func(done chan error) storage.Op { begin.done = done; return begin }); err != nil {
		return err
	}
	part := begin.part
	// If the partition is dropped meanwhile, that chore comes after this one.
	for _, a := range held.Actors() {
		// Entries at or below a base never come back.
		from, to := part.pruned[a]+1, begin.upTo[a]
		if from > to {
			continue
		}
		lo := indexKey(nil, p, crdt.Dot{Actor: a, N: from})
		hi := indexKey(nil, p, crdt.Dot{Actor: a, N: to + 1})
		if err := r.deleteRange(ctx, lo, hi, nil); err != nil {
			return err
		}
		r.stats.Pruned.Add(to - from + 1)
		if part.pruned == nil {
			part.pruned = map[crdt.Actor]uint64{}
		}
		part.pruned[a] = to
	}
	return nil
}

// pruneOp makes a snapshot durable and finds what it allows to give up.
type pruneOp struct {
	r    *Replica
	p    hashring.Partition
	held *crdt.Clock
	part *partition
	upTo map[crdt.Actor]uint64
	done chan error
}

func (o *pruneOp) Size() int      { return 0 }
func (o *pruneOp) Decided()       {}
func (o *pruneOp) Done(err error) { o.done <- err }

func (o *pruneOp) Decide(tx storage.Txn) error {
	part, err := o.r.decidedPart(o.p)
	if err != nil {
		return err
	}
	actors, err := loadActors(tx)
	if err != nil {
		return err
	}
	o.part, o.upTo = part, map[crdt.Actor]uint64{}
	for _, a := range o.held.Actors() {
		o.upTo[a] = min(o.held.Base(a), part.decided.clock.Base(a))
	}
	o.r.outbox.bound(o.p, actors, o.upTo)
	if part.unsaved == 0 {
		return nil
	}
	return part.putSnapshot(tx)
}

// IndexSize is how many entries the index of p has, and how large they are with
// their keys, as the store has it now: it reads all of it.
func (r *Replica) IndexSize(p hashring.Partition) (entries, bytes uint64, err error) {
	lo, hi := indexKey(nil, p, crdt.Dot{}), indexEnd(p)
	err = scanAll(r.engine, lo, hi, func(kv storage.KV, _ bool) bool {
		entries++
		bytes += uint64(len(kv.Key) + len(kv.Value))
		return true
	})
	if err != nil {
		return 0, 0, fmt.Errorf("measure the index of partition %d: %w", p, err)
	}
	return entries, bytes, nil
}
