package replica

import (
	"fmt"
	"slices"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/storage"
)

// Recount computes a partition's digest anew from the store, which also checks
// every record's envelope, and corrects the kept one. It reports whether they
// differed: then the store has lost or changed a record behind our back, or
// damaged it: what is unreadable does not count, and is among Damaged from then
// on.
//
// The kept digest moves by differences, so it goes on speaking for a record
// that the disk has lost: only a recount makes that visible to peers. Writes go
// on meanwhile: what is compared is one moment, and the correction is a
// difference, too.
func (r *Replica) Recount(p hashring.Partition) (differed bool, err error) {
	part := r.part(p)
	if part == nil {
		return false, ErrNotOwner
	}
	// Two at once would both correct what one of them found.
	part.counting <- struct{}{}
	defer func() { <-part.counting }()
	begin := &recountOp{r: r, part: part, done: make(chan error, 1)}
	r.submit(begin)
	if err := <-begin.done; err != nil {
		return false, err
	}
	defer begin.moment.Close()
	turn, seen := r.damage.now(), map[string]bool{}
	digest, err := r.digestOf(begin.moment, p, seen)
	if err != nil {
		return false, fmt.Errorf("recount partition %d: %w", p, err)
	}
	r.damage.recounted(p, turn, seen)
	wrong := digest.minus(begin.kept)
	if len(wrong) == 0 {
		return false, nil
	}
	done := make(chan error, 1)
	r.submit(&correctOp{r: r, effect: effect{part: part, many: wrong}, done: done})
	return true, <-done
}

// recountOp takes a snapshot and the digest that belongs to it: between two
// groups, what is durable is what has been hardened.
type recountOp struct {
	r      *Replica
	part   *partition
	moment storage.Snapshot
	kept   digests
	done   chan error
}

func (o *recountOp) Size() int { return 0 }
func (o *recountOp) Decided()  {}

func (o *recountOp) Decide(storage.Txn) error {
	if o.r.held[o.part.id] != o.part {
		return ErrNotOwner // dropped meanwhile
	}
	o.moment = o.r.engine.Snapshot()
	o.part.mu.Lock()
	o.kept = slices.Clone(o.part.durable.digests)
	o.part.mu.Unlock()
	return nil
}

func (o *recountOp) Done(err error) {
	if err != nil && o.moment != nil {
		o.moment.Close()
	}
	o.done <- err
}

type correctOp struct {
	r      *Replica
	effect effect
	done   chan error
}

func (o *correctOp) Size() int { return 0 }
func (o *correctOp) Decided()  {}

func (o *correctOp) Decide(tx storage.Txn) error {
	if o.r.held[o.effect.part.id] != o.effect.part {
		return ErrNotOwner
	}
	o.effect.part.decided.take(&o.effect)
	return o.effect.part.putSnapshot(tx)
}

func (o *correctOp) Done(err error) {
	if err == nil {
		o.r.harden(&o.effect)
	}
	o.done <- err
}

// DigestFromStore computes a partition's digest from its records: what the
// kept one must equal when nothing is being written.
func (r *Replica) DigestFromStore(p hashring.Partition) (uint64, error) {
	d, err := r.digestOf(r.engine, p, nil)
	return d.total(), err
}

// digestOf leaves out what is unreadable, and adds its keys to seen, unless that
// is nil.
func (r *Replica) digestOf(from storage.Reader, p hashring.Partition, seen map[string]bool) (digests, error) {
	first, last := hashring.Range(p, r.partitions)
	lo, hi := recordRange(first, last)
	var digest digests
	err := r.eachRecord(from, lo, hi, func(keyHash uint64, key []byte, rec *crdt.Record) {
		switch {
		case rec != nil:
			digest.flip(bucketOf(key), r.digest(keyHash, *rec))
		case seen != nil && len(seen) <= maxDamage:
			seen[string(key)] = true
		}
	})
	return digest, err
}
