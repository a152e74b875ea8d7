package replica

import (
	"context"
	"errors"
	"fmt"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/internal/planted"
	"github.com/atolldb/atoll/node/storage"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/wire"
)

// An owner that meets a completed floor above the one that it has raised has
// lost that, or is new: what is in its store may have been deleted by everybody
// and forgotten. It stops to answer (it is behind), looks through its own store
// by the rules of late messages, and only then takes the floors over.

// ErrUnsettled says that this node cannot tell yet whether old versions in its
// own store were deleted: it asks again.
var ErrUnsettled = errors.New("other owners have to tell first whether old records were deleted")

// MeetFloors takes over the floors of another owner as far as that is due:
// a completed one, always; a raised and a promised one if this node is behind or
// has just begun to hold p. It may read all of p and ask others about what is
// old. An error says that p must not be answered for yet, nor counted as equal.
func (r *Replica) MeetFloors(ctx context.Context, p hashring.Partition, theirs wire.Floors) error {
	part := r.part(p)
	if part == nil {
		return ErrNotOwner
	}
	mine := part.floors()
	behind := part.shown.Load().mark != 0
	due := theirs.Completed > mine.Raised || behind && (theirs.Raised > mine.Raised || theirs.Promised > mine.Promised)
	if !due {
		if theirs.Completed <= mine.Completed {
			return nil
		}
		if err := r.Complete(p, theirs.Completed); err != nil {
			return err
		}
		r.sweepSoon(p)
		return nil
	}
	if planted.Bug(planted.NoRejoin) {
		return nil
	}
	if !behind || part.provable.Load() != 0 {
		if err := r.fallBehindAt(p); err != nil {
			return err
		}
	}
	if theirs.Raised > mine.Raised {
		open, all, err := r.Sift(ctx, p, theirs.Raised, 1, nil)
		if err != nil {
			return err
		}
		if open > 0 && !all {
			return ErrUnsettled
		}
	}
	theirs.Swept = 0
	if err := r.lift(p, theirs); err != nil {
		return err
	}
	r.sweepSoon(p)
	return nil
}

// fallBehindAt makes this node catch up with p before it answers for it.
func (r *Replica) fallBehindAt(p hashring.Partition) error {
	return r.do(func(done chan error) storage.Op { return &behindOp{r: r, p: p, done: done} })
}

type behindOp struct {
	r    *Replica
	p    hashring.Partition
	done chan error
}

func (o *behindOp) Size() int { return 0 }
func (o *behindOp) Decided()  {}

func (o *behindOp) Decide(tx storage.Txn) error {
	part, err := o.r.decidedPart(o.p)
	if err != nil || part.stand.mark != 0 && !part.unproven || !o.r.others(o.p) {
		return err
	}
	return o.r.markBehind(tx, part)
}

func (o *behindOp) Done(err error) {
	if err == nil {
		o.r.publish()
	}
	o.done <- err
}

// siftBatch bounds the keys of one question.
const siftBatch = 256

// Sift applies the late-message rule to this node's own records of p, or to some
// keys of it: what is at or below floor and superseded elsewhere is joined with
// what superseded it; what nobody holds, and enough others had and have no more,
// goes to the side log. It returns about how many versions nobody could tell,
// and whether all others answered.
func (r *Replica) Sift(ctx context.Context, p hashring.Partition, floor hlc.Stamp, enough int, keys [][]byte) (open int, all bool, err error) {
	all = true
	batch := []Doubt{}
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		n, everybody, err := r.siftBatch(ctx, p, floor, enough, batch)
		open, all, batch = open+n, all && everybody, nil
		return err
	}
	look := func(keyHash uint64, key []byte, rec crdt.Record) error {
		if late := crdt.Late(rec, crdt.Record{}, floor); len(late) > 0 {
			batch = append(batch, Doubt{append([]byte(nil), key...), late})
		}
		if len(batch) < siftBatch {
			return nil
		}
		return flush()
	}
	if keys != nil {
		for _, key := range keys {
			rec, err := getRecord(r.engine, hashring.KeyHash(key), key)
			if err == nil {
				err = look(hashring.KeyHash(key), key, rec)
			}
			if err != nil {
				return open, false, fmt.Errorf("sift partition %d: %w", p, err)
			}
		}
	} else if err := r.eachOfPartition(p, look); err != nil {
		return open, false, fmt.Errorf("sift partition %d: %w", p, err)
	}
	if err := flush(); err != nil {
		return open, false, fmt.Errorf("sift partition %d: %w", p, err)
	}
	return open, all, nil
}

// eachOfPartition visits the records of p that can be read. No iterator is open
// during a visit.
func (r *Replica) eachOfPartition(p hashring.Partition, visit func(keyHash uint64, key []byte, rec crdt.Record) error) error {
	first, last := hashring.Range(p, r.partitions)
	lo, hi := recordRange(first, last)
	type item struct {
		key   []byte
		value []byte
	}
	for lo != nil {
		var page []item
		from := lo
		lo = nil
		size := 0
		err := scanAll(r.engine, from, hi, func(kv storage.KV, unreadable bool) bool {
			if size >= deleteBatchBytes {
				lo = append([]byte(nil), kv.Key...)
				return false
			}
			if !unreadable {
				page = append(page, item{append([]byte(nil), kv.Key...), append([]byte(nil), kv.Value...)})
				size += len(kv.Key) + len(kv.Value)
			}
			return true
		})
		if err != nil {
			return err
		}
		for _, it := range page {
			keyHash, key := splitRecordKey(it.key)
			rec, err := crdt.DecodeRecord(keyHash, it.value)
			if err != nil {
				r.unreadable(keyHash, key)
				continue
			}
			if err := visit(keyHash, key, rec); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *Replica) siftBatch(ctx context.Context, p hashring.Partition, floor hlc.Stamp, enough int, batch []Doubt) (open int, all bool, err error) {
	n := 0
	for _, d := range batch {
		n += len(d.Dots)
	}
	if r.doubts.witness == nil {
		return n, false, nil
	}
	words, all, err := r.doubts.witness(ctx, p, "", batch)
	if err != nil {
		return n, false, err
	}
	if len(words) != len(batch) {
		return n, false, wire.ErrMalformed
	}
	for i, d := range batch {
		if len(words[i]) != len(d.Dots) {
			return n, false, wire.ErrMalformed
		}
		var gone []crdt.Dot
		for j, w := range words[i] {
			switch {
			case w.Holds:
			case w.Covered != nil:
				if err := r.takeCovering(d.Key, w.Covered); err != nil {
					open++
				}
			case w.Lack >= enough:
				gone = append(gone, d.Dots[j])
			default:
				open++
			}
		}
		if len(gone) == 0 {
			continue
		}
		if err := r.do(func(done chan error) storage.Op { return &asideOp{r: r, p: p, key: d.Key, dots: gone, done: done} }); err != nil {
			return open, all, err
		}
	}
	return open, all, nil
}

func (r *Replica) takeCovering(key, record []byte) error {
	done := make(chan error, 1)
	r.Apply([]wire.Entry{{Key: key, Record: record}}, func(_ int, err error) { done <- err })
	return <-done
}

// asideOp moves versions of a stored record to the side log.
type asideOp struct {
	r      *Replica
	p      hashring.Partition
	key    []byte
	dots   []crdt.Dot
	moved  bool
	effect effect
	done   chan error
}

func (o *asideOp) Size() int { return 0 }
func (o *asideOp) Decided()  {}

func (o *asideOp) Decide(tx storage.Txn) error {
	r, keyHash := o.r, hashring.KeyHash(o.key)
	part, err := r.decidedPart(o.p)
	if err != nil {
		return err
	}
	old, err := getRecord(tx, keyHash, o.key)
	if err != nil {
		return err
	}
	rest := crdt.Without(old, o.dots)
	if rest.SameDots(old) {
		return nil
	}
	if r.aside.full() {
		return ErrAsideFull
	}
	if err := r.aside.put(tx, o.p, keyHash, o.key, only(old, o.dots)); err != nil {
		return err
	}
	o.moved = true
	o.effect = effect{part: part, bucket: bucketOf(o.key), delta: r.digest(keyHash, old) ^ r.digest(keyHash, rest)}
	if len(rest.Versions) == 0 {
		err = tx.Delete(recordKey(nil, keyHash, o.key))
	} else {
		err = putRecord(tx, keyHash, o.key, crdt.AppendRecord(nil, keyHash, rest))
	}
	if err != nil {
		return fmt.Errorf("move versions to the side log: %w", err)
	}
	part.decided.take(&o.effect)
	return part.putSnapshot(tx)
}

func (o *asideOp) Done(err error) {
	if err == nil && o.moved {
		o.r.harden(&o.effect)
		o.r.stats.Sifted.Add(uint64(len(o.dots)))
	}
	o.done <- err
}

// Testify is this owner's word about versions of keys of p: what a Witness
// gathers from all. It is refused with ErrBehind while this node is behind, since
// what it lacks may be what it lost.
func (r *Replica) Testify(p hashring.Partition, doubts []Doubt) ([][]Word, error) {
	part := r.part(p)
	if part == nil || part.shown.Load().role == topology.None {
		return nil, ErrNotOwner
	}
	if part.shown.Load().mark != 0 {
		return nil, ErrBehind
	}
	clock := part.Clock()
	out := make([][]Word, len(doubts))
	for i, d := range doubts {
		keyHash := hashring.KeyHash(d.Key)
		encoded, err := r.give(keyHash, d.Key)
		if err != nil {
			return nil, err
		}
		var rec crdt.Record
		if encoded != nil {
			if rec, err = crdt.DecodeRecord(keyHash, encoded); err != nil {
				return nil, fmt.Errorf("%w: %w", storage.ErrCorrupt, err)
			}
		}
		out[i] = make([]Word, len(d.Dots))
		if has, known := r.has(bucketOf(d.Key)); !has || !known {
			continue // never had: its clock says nothing of these dots
		}
		for j, dot := range d.Dots {
			switch w := &out[i][j]; {
			case rec.Find(dot) != nil:
				w.Holds = true
			case rec.Covers(dot):
				w.Covered, w.Lack = encoded, 1
			case clock.Contains(dot):
				w.Lack = 1
			}
		}
	}
	return out, nil
}
