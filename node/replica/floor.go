package replica

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cespare/xxhash/v2"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/internal/planted"
	"github.com/atolldb/atoll/node/storage"
	"github.com/atolldb/atoll/node/wire"
)

// The floors of a partition, four stamps that only rise (wire.Floors), are
// durable here: key space 'f', four 8-byte words. They change by operations of
// the committer, so they are ordered with mints and applies. They outlive the
// dropping of a partition.
//
//	Promised  mints decided after it have higher stamps
//	Raised    Apply keeps back what is older and unknown; see late.go
//	Completed records that are dead at or below it are absent: for reads, lists
//	          and mints, and for joins, which delete what becomes so
//	Swept     all of them are deleted: the digest, which is always that of what is
//	          stored, does not have them
//
// Completed and Swept are part of what Sum.Clock is a hash of: so digests are
// compared between owners of equal floors only. Whoever meets a higher completed
// floor than its own takes it over (MeetFloors), and sweeps.

var (
	// ErrFloorAhead says that a floor is not in this node's past.
	ErrFloorAhead = errors.New("the floor is not in the past")
	// ErrNotRaised says that a floor that is not raised here cannot be completed.
	ErrNotRaised = errors.New("the floor is not raised here")
)

// Floors of a held partition, as durable; zero for another.
func (r *Replica) Floors(p hashring.Partition) wire.Floors {
	if part := r.part(p); part != nil {
		return part.floors()
	}
	return wire.Floors{}
}

func (p *partition) floors() wire.Floors {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.durable.floors
}

// Promise makes every later mint in p have a stamp above floor. It returns when
// that is durable; Clock has all that was minted before, from then on.
func (r *Replica) Promise(p hashring.Partition, floor hlc.Stamp) error {
	if floor.Millis() >= r.hlc.Now() {
		return ErrFloorAhead
	}
	return r.lift(p, wire.Floors{Promised: floor})
}

// Raise begins the late-message rule for p, and takes part in nothing as old by
// consensus any more. It fails with ErrUndecided while such a thing is undecided here.
func (r *Replica) Raise(p hashring.Partition, floor hlc.Stamp) error {
	if err := r.retireBallots(p, floor); err != nil {
		return err
	}
	return r.lift(p, wire.Floors{Promised: floor, Raised: floor})
}

// Complete makes absent what is dead at or below floor, which every owner must
// have raised. It is refused with ErrNotRaised if this one has not.
func (r *Replica) Complete(p hashring.Partition, floor hlc.Stamp) error {
	return r.lift(p, wire.Floors{Completed: floor})
}

func (r *Replica) lift(p hashring.Partition, to wire.Floors) error {
	if have := r.Floors(p); liftFloors(have, to) == have && r.Owns(p) {
		return nil
	}
	done := make(chan error, 1)
	r.submit(&floorOp{r: r, p: p, to: to, done: func(err error) { done <- err }})
	if err := <-done; err != nil {
		return fmt.Errorf("lift floors of partition %d: %w", p, err)
	}
	return nil
}

func liftFloors(a, b wire.Floors) wire.Floors {
	return wire.Floors{
		Promised: max(a.Promised, b.Promised), Raised: max(a.Raised, b.Raised),
		Completed: max(a.Completed, b.Completed), Swept: max(a.Swept, b.Swept),
	}
}

// floorOp lifts floors.
type floorOp struct {
	r      *Replica
	p      hashring.Partition
	to     wire.Floors
	effect effect
	done   func(error)
}

func (o *floorOp) Size() int { return 0 }
func (o *floorOp) Decided()  {}

func (o *floorOp) Decide(tx storage.Txn) error {
	part, err := o.r.decidedPart(o.p)
	if err != nil {
		return err
	}
	f := liftFloors(part.decided.floors, o.to)
	if f.Completed > f.Raised || f.Swept > f.Completed {
		return ErrNotRaised
	}
	if err := tx.Put(floorKey(o.p), encodeFloors(f)); err != nil {
		return fmt.Errorf("write floors: %w", err)
	}
	o.effect = effect{part: part, floors: &f}
	part.decided.take(&o.effect)
	return nil
}

func (o *floorOp) Done(err error) {
	if err == nil {
		o.r.harden(&o.effect)
	}
	o.done(err)
}

func encodeFloors(f wire.Floors) []byte {
	var b []byte
	for _, s := range []hlc.Stamp{f.Promised, f.Raised, f.Completed, f.Swept} {
		b = binary.BigEndian.AppendUint64(b, uint64(s))
	}
	return b
}

// loadFloors returns zero for those that were never lifted. Unreadable ones are
// an error: a node that forgets its floors would let the past in.
func loadFloors(from getter, p hashring.Partition) (f wire.Floors, err error) {
	b, err := from.Get(floorKey(p))
	switch {
	case isNotFound(err):
		return f, nil
	case err == nil && len(b) != 32:
		err = storage.ErrCorrupt
	}
	if err != nil {
		return f, fmt.Errorf("read floors of partition %d: %w", p, err)
	}
	at := func(i int) hlc.Stamp { return hlc.Stamp(binary.BigEndian.Uint64(b[8*i:])) }
	return wire.Floors{Promised: at(0), Raised: at(1), Completed: at(2), Swept: at(3)}, nil
}

// floorHash is 0 while nothing was ever collected.
func floorHash(f wire.Floors) uint64 {
	if f.Completed == 0 {
		return 0
	}
	b := binary.BigEndian.AppendUint64(nil, uint64(f.Completed))
	return xxhash.Sum64(binary.BigEndian.AppendUint64(b, uint64(f.Swept)))
}

// shown is a record as others see it: absent if it is dead and completed.
func shown(rec crdt.Record, f wire.Floors) crdt.Record {
	if f.Completed != 0 && crdt.Collectible(rec, f.Completed) {
		return crdt.Record{}
	}
	return rec
}

// hidden is the floor below which the store of p may have records that are
// absent, 0 if it has none.
func (p *partition) hidden() hlc.Stamp { return hlc.Stamp(p.hiding.Load()) }

// hide publishes hidden.
func (p *partition) hide(f wire.Floors) {
	if f.Completed > f.Swept {
		p.hiding.Store(uint64(f.Completed))
	} else {
		p.hiding.Store(0)
	}
}

// absent reports whether an encoded record is one that is hidden.
func (r *Replica) absent(keyHash uint64, encoded []byte) bool {
	part := r.part(r.Partition(keyHash))
	if part == nil || len(encoded) == 0 {
		return false
	}
	floor := part.hidden()
	if floor == 0 {
		return false
	}
	rec, err := crdt.DecodeRecord(keyHash, encoded)
	return err == nil && crdt.Collectible(rec, floor)
}

// Sweep deletes what is absent from p's store since its floor was completed, in
// paced batches, and returns when it is gone. It goes on where it stopped when it
// is called again, as a start does.
func (r *Replica) Sweep(p hashring.Partition) error {
	if f := r.Floors(p); f.Swept >= f.Completed {
		return nil
	}
	done := make(chan error, 1)
	r.later(func(ctx context.Context) error { return r.sweep(ctx, p) }, func(err error) { done <- err })
	return <-done
}

// sweepSoon is Sweep for those who do not wait.
func (r *Replica) sweepSoon(p hashring.Partition) {
	r.later(func(ctx context.Context) error { return r.sweep(ctx, p) }, func(err error) {
		if err != nil && !errors.Is(err, ErrStopping) && !errors.Is(err, ErrNotOwner) {
			r.log.Warn("dead records were not all deleted: the next round or start goes on", "partition", int(p), "error", err)
		}
	})
}

func (r *Replica) sweep(ctx context.Context, p hashring.Partition) error {
	f := r.Floors(p)
	if f.Swept >= f.Completed {
		return nil
	}
	first, last := hashring.Range(p, r.partitions)
	lo, hi := recordRange(first, last)
	for lo != nil {
		keys, next, err := r.gatherDead(lo, hi, f.Completed)
		if err != nil {
			return fmt.Errorf("sweep partition %d: %w", p, err)
		}
		lo = next
		if len(keys) == 0 {
			continue
		}
		if err := r.do(func(done chan error) storage.Op { return &sweepOp{r: r, p: p, keys: keys, done: done} }); err != nil {
			return fmt.Errorf("sweep partition %d: %w", p, err)
		}
		if !pauseFor(ctx, deletePause) {
			return ctx.Err()
		}
	}
	return r.lift(p, wire.Floors{Swept: f.Completed})
}

// gatherDead returns the first keys of a range whose records are collectible,
// and where to go on, nil at its end.
func (r *Replica) gatherDead(lo, hi []byte, floor hlc.Stamp) (keys [][]byte, next []byte, err error) {
	err = scanAll(r.engine, lo, hi, func(kv storage.KV, unreadable bool) bool {
		if len(keys) == deleteBatch {
			next = append([]byte(nil), kv.Key...)
			return false
		}
		keyHash, _ := splitRecordKey(kv.Key)
		if unreadable {
			return true // healing comes by Apply, which deletes by itself
		}
		if rec, err := crdt.DecodeRecord(keyHash, kv.Value); err == nil && crdt.Collectible(rec, floor) {
			keys = append(keys, append([]byte(nil), kv.Key...))
		}
		return true
	})
	return keys, next, err
}

// sweepOp deletes what is still collectible of some keys.
type sweepOp struct {
	r       *Replica
	p       hashring.Partition
	keys    [][]byte
	deleted uint64
	effect  effect
	done    chan error
}

func (o *sweepOp) Size() int { return 0 }
func (o *sweepOp) Decided()  {}

func (o *sweepOp) Decide(tx storage.Txn) error {
	part, err := o.r.decidedPart(o.p)
	if err != nil {
		return err
	}
	o.effect, o.deleted = effect{part: part}, 0
	for _, k := range o.keys {
		keyHash, full := splitRecordKey(k)
		rec, err := getRecord(tx, keyHash, full)
		if errors.Is(err, storage.ErrCorrupt) {
			continue
		}
		if err != nil {
			return err
		}
		if !crdt.Collectible(rec, part.decided.floors.Completed) {
			continue
		}
		if err := tx.Delete(k); err != nil {
			return fmt.Errorf("delete a dead record: %w", err)
		}
		o.deleted++
		o.effect.many.flip(bucketOf(full), o.r.digest(keyHash, rec))
	}
	if o.deleted == 0 {
		return nil
	}
	part.decided.take(&o.effect)
	return part.putSnapshot(tx)
}

func (o *sweepOp) Done(err error) {
	if err == nil {
		o.r.harden(&o.effect)
		o.r.stats.Collected.Add(o.deleted)
	}
	o.done <- err
}

// Dead visits what is collectible at floor and not absent yet. The key is valid
// during the visit only. A partition with damaged keys cannot be listed.
func (r *Replica) Dead(p hashring.Partition, floor hlc.Stamp, visit func(key []byte, keyHash uint64, rec crdt.Record) bool) error {
	part := r.part(p)
	if part == nil {
		return ErrNotOwner
	}
	if r.damage.in(p) {
		return storage.ErrCorrupt
	}
	completed := part.floors().Completed
	first, last := hashring.Range(p, r.partitions)
	lo, hi := recordRange(first, last)
	var bad error
	err := r.engine.Scan(lo, hi, func(kv storage.KV) bool {
		keyHash, key := splitRecordKey(kv.Key)
		rec, err := crdt.DecodeRecord(keyHash, kv.Value)
		if err != nil {
			r.unreadable(keyHash, key)
			bad = storage.ErrCorrupt
			return false
		}
		if !crdt.Collectible(rec, floor) || crdt.Collectible(rec, completed) {
			return true
		}
		return visit(key, keyHash, rec)
	})
	if err == nil {
		err = bad
	}
	if err == nil {
		err = r.stillHeld(part)
	}
	if err != nil {
		return fmt.Errorf("list dead records of partition %d: %w", p, err)
	}
	return nil
}

// Covers reports whether the stored record of a key covers all of the dots.
func (r *Replica) Covers(p hashring.Partition, key []byte, dots []crdt.Dot) (bool, error) {
	rec, err := getRecord(r.engine, hashring.KeyHash(key), key)
	if err != nil {
		return false, fmt.Errorf("look at a dead record of partition %d: %w", p, err)
	}
	for _, d := range dots {
		if !rec.Covers(d) {
			return false, nil
		}
	}
	return true, nil
}

// lateRule is off in a planted bug.
func lateRule(f wire.Floors) bool { return f.Raised != 0 && !planted.Bug(planted.NoLateRule) }
