package replica

import (
	"errors"
	"fmt"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/storage"
	"github.com/atolldb/atoll/node/wire"
)

// Differing returns this node's state of those of the given partitions that it
// holds and whose clock or digest is another here. Digests that are of different
// things, since the asker knows of other buckets, are wire.Untold.
func (r *Replica) Differing(q wire.Compare) []wire.Difference {
	var out []wire.Difference
	agree := r.agrees(q.Afar)
	for _, s := range q.Sums {
		part := r.part(s.Partition)
		if part == nil {
			continue
		}
		if agree && !r.differs(part, s, q.Afar) {
			continue
		}
		d, all := part.difference()
		var known bool
		if d.Digest, known = r.common(all, q.Afar); !known || !agree {
			d.Digest = wire.Untold
			out = append(out, d)
		} else if d.Sum.Under(d.Floors, LossSum(d.Losses)) != s {
			out = append(out, d)
		}
	}
	return out
}

// differs looks whether a partition is another than the one who asks thinks.
func (r *Replica) differs(part *partition, s wire.Sum, by wire.Afar) bool {
	sum, floors, all := part.sums()
	var known bool
	sum.Digest, known = r.common(all, by)
	return !known || sum.Under(floors, LossSum(part.lossesNow())) != s
}

// Pull returns the records behind the dots of a partition that the asker's
// clock lacks, found by the dot index. The dots of damaged keys are left out:
// the asker gets them from others.
func (r *Replica) Pull(q wire.Pull) (wire.Pulled, error) {
	part := r.part(q.Partition)
	if part == nil {
		return wire.Pulled{}, ErrNotOwner
	}
	out := wire.Pulled{Floors: part.floors()}
	byKey := map[string]int{}
	size := 0
	for _, run := range q.Clock.Missing(part.Clock()) {
		next := run.Lo // the first dot of the run that is not delivered yet
		lo := indexKey(nil, q.Partition, crdt.Dot{Actor: run.Actor, N: run.Lo})
		hi := indexKey(nil, q.Partition, crdt.Dot{Actor: run.Actor, N: run.Hi + 1})
		var failed error
		err := scanAll(r.engine, lo, hi, func(kv storage.KV, unreadable bool) bool {
			d := splitIndexKey(kv.Key)
			if d.N != next {
				return false // a hole in the index
			}
			x, ok := decodeIndexed(kv.Value)
			if unreadable || !ok {
				return false // as good as a hole
			}
			show, err := r.show(q.Afar, x.key)
			if err != nil {
				failed = err
				return false
			}
			if size >= q.MaxBytes && size > 0 {
				out.More = true
				return false
			}
			next++
			// Each dot becomes an index entry at the asker, with the key.
			size += len(kv.Value) + 16
			if show == showSkip {
				x = indexed{key: skipKey(bucketOf(x.key))}
			}
			if i, ok := byKey[string(x.key)]; ok {
				e := &out.Entries[i]
				e.Dots, e.IDs = append(e.Dots, d), x.tells(e.IDs, d)
				return true
			}
			key := append([]byte(nil), x.key...)
			if show == showSkip {
				byKey[string(key)] = len(out.Entries)
				out.Entries = append(out.Entries, wire.Entry{Key: key, Dots: []crdt.Dot{d}, Skip: q.Partition})
				return true
			}
			record, err := r.give(hashring.KeyHash(key), key)
			if errors.Is(err, storage.ErrCorrupt) {
				return true
			}
			if err != nil || record == nil {
				failed = err
				next--
				return false
			}
			byKey[string(key)] = len(out.Entries)
			out.Entries = append(out.Entries, wire.Entry{Key: key, Record: record, Dots: []crdt.Dot{d}, IDs: x.tells(nil, d)})
			size += len(key) + len(record)
			return true
		})
		if err == nil {
			err = failed
		}
		if err != nil {
			return wire.Pulled{}, fmt.Errorf("read dot index of partition %d: %w", q.Partition, err)
		}
		if out.More {
			return out, r.stillHeld(part)
		}
		if next <= run.Hi {
			out.Full = true
		}
	}
	return out, r.stillHeld(part)
}

// stillHeld returns an error if part was dropped since it was looked up: what
// has been read of it since may not be all.
func (r *Replica) stillHeld(part *partition) error {
	if r.part(part.id) != part {
		return ErrNotOwner
	}
	return nil
}

// bucketFan is how many parts a Buckets reply has.
const bucketFan = 1 << wire.BucketBits

// BucketRange returns the key hashes of part i of the range that q names.
func BucketRange(q wire.Buckets, i int) (first, last uint64) {
	bits := int(q.Bits) + wire.BucketBits
	prefix := q.Prefix<<wire.BucketBits | uint64(i)
	first = prefix << (64 - bits)
	return first, first | (1<<(64-bits) - 1)
}

// Buckets returns the digests of the parts of a range of key hashes, computed
// from the store. All of the range must be held. It refuses, with ErrUnplaced,
// who knows of other buckets that not both regions have.
func (r *Replica) Buckets(q wire.Buckets) ([]wire.Bucket, error) {
	if !r.agrees(q.Afar) {
		return nil, ErrUnplaced
	}
	out := make([]wire.Bucket, bucketFan)
	first, _ := BucketRange(q, 0)
	_, last := BucketRange(q, bucketFan-1)
	var parts []*partition
	for p := r.Partition(first); p <= r.Partition(last); p++ {
		part := r.part(p)
		if part == nil {
			return nil, ErrNotOwner
		}
		parts = append(parts, part)
	}
	lo, hi := recordRange(first, last)
	unplaced := false
	err := r.eachRecord(r.engine, lo, hi, func(keyHash uint64, key []byte, rec *crdt.Record) {
		both, known := r.both(q.Afar, bucketOf(key))
		unplaced = unplaced || !known
		if !both || rec == nil || crdt.Collectible(*rec, parts[r.Partition(keyHash)-r.Partition(first)].hidden()) {
			return
		}
		b := &out[keyHash>>(64-int(q.Bits)-wire.BucketBits)&(bucketFan-1)]
		b.Digest ^= r.digest(keyHash, *rec)
		b.Keys++
	})
	if err != nil {
		return nil, fmt.Errorf("digest records: %w", err)
	}
	if unplaced {
		return nil, ErrUnplaced
	}
	for _, part := range parts {
		if err := r.stillHeld(part); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// eachRecord visits the records of a range: nil for those that are unreadable,
// which are noted.
func (r *Replica) eachRecord(from storage.Reader, lo, hi []byte, visit func(keyHash uint64, key []byte, rec *crdt.Record)) error {
	return scanAll(from, lo, hi, func(kv storage.KV, unreadable bool) bool {
		keyHash, key := splitRecordKey(kv.Key)
		if !unreadable {
			if rec, err := crdt.DecodeRecord(keyHash, kv.Value); err == nil {
				visit(keyHash, key, &rec)
				return true
			}
		}
		r.unreadable(keyHash, key)
		visit(keyHash, key, nil)
		return true
	})
}

// Scan returns a page of records in the store's order, without those that
// cannot be read. Its clock is empty, and it says that it is behind, when the
// partition has damaged keys: what was delivered here cannot all be shown.
func (r *Replica) Scan(q wire.Scan) (wire.Page, error) {
	part := r.part(q.Partition)
	if part == nil {
		return wire.Page{}, ErrNotOwner
	}
	page := wire.Page{Floors: part.floors(), Clock: part.Clock(), Losses: part.lossesNow(), Behind: part.shown.Load().mark != 0}
	first, last := hashring.Range(q.Partition, r.partitions)
	lo, hi := recordRange(max(first, q.First), min(last, q.Last))
	if len(q.After) > 0 {
		lo = append(recordKey(nil, hashring.KeyHash(q.After), q.After), 0)
	}
	size := 0
	unplaced := false
	err := scanAll(r.engine, lo, hi, func(kv storage.KV, unreadable bool) bool {
		if size >= q.MaxBytes && size > 0 {
			page.More = true
			return false
		}
		keyHash, key := splitRecordKey(kv.Key)
		if unreadable {
			r.unreadable(keyHash, key)
			return true
		}
		if both, known := r.both(q.Afar, bucketOf(key)); !both || !known {
			unplaced = unplaced || !known
			return known
		}
		if r.absent(keyHash, kv.Value) {
			return true
		}
		e := wire.Entry{Key: append([]byte(nil), key...), Record: append([]byte(nil), kv.Value...)}
		page.Entries = append(page.Entries, e)
		size += e.Size()
		return true
	})
	if err != nil {
		return wire.Page{}, fmt.Errorf("scan partition %d: %w", q.Partition, err)
	}
	if unplaced {
		return wire.Page{}, ErrUnplaced
	}
	if r.damage.in(q.Partition) {
		page.Behind, page.Clock = true, &crdt.Clock{}
	}
	return page, r.stillHeld(part)
}
