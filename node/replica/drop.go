package replica

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/storage"
	"github.com/atolldb/atoll/node/topology"
)

// Dropping a leftover begins with one transaction that notes it, takes away
// the snapshot and keeps the highest dot that this node minted there: from then
// on the partition is not held. Then its records and index entries are deleted,
// some a transaction, by Run's own goroutine; a start goes on where the last
// run stopped. The note goes last. Until then the partition is not held again,
// whatever the topology says.
//
// The node's counters go on where they were when it gets the partition again:
// a dot never names two writes. What of its own dots it hears of then is no
// proof of amnesia.

var (
	// ErrStillOwned says that a partition cannot be dropped since this node has
	// a role in it.
	ErrStillOwned = errors.New("this node has a role in the partition")
	// ErrUnshipped says that a partition cannot be dropped yet since there are
	// writes of this node in it that the log for other regions does not have.
	ErrUnshipped = errors.New("writes of the partition have not been shipped to other regions yet")
)

const (
	// dropBatch bounds what one transaction deletes: keys, and their bytes with
	// what an engine keeps beside them.
	dropBatch      = 512
	dropBatchBytes = 256 << 10
	// dropPause is how long the next one waits.
	dropPause = 5 * time.Millisecond
)

var keySeenActor = []byte("mseenactor")

// Drop deletes what this node has of a leftover. done gets nil when all of it
// is gone, or when there was nothing; ErrStillOwned, ErrUnshipped; or
// ErrStopping: then the next start goes on. It runs on the committer's or on
// Run's goroutine and must not block. Make sure before that the current owners
// have everything.
func (r *Replica) Drop(p hashring.Partition, done func(error)) {
	if int(p) >= r.partitions {
		done(ErrNotOwner)
		return
	}
	r.submit(&dropOp{r: r, p: p, done: done})
}

type dropOp struct {
	r    *Replica
	p    hashring.Partition
	done func(error)
	// nothing is there.
	nothing bool
}

func (o *dropOp) Size() int { return 0 }
func (o *dropOp) Decided()  {}

func (o *dropOp) Decide(tx storage.Txn) error {
	r := o.r
	part := r.held[o.p]
	if part == nil {
		o.nothing = !r.dropping[o.p]
		return nil
	}
	if part.stand.role != topology.None {
		return ErrStillOwned
	}
	actors, err := loadActors(tx)
	if err != nil {
		return err
	}
	if !r.outbox.shipped(o.p, actors, part.decided.clock) {
		return ErrUnshipped
	}
	// The first write: what can fail by itself has been done.
	if err := r.outbox.putCursors(tx); err != nil {
		return err
	}
	if err := o.keepOwn(tx, part, actors); err != nil {
		return err
	}
	if err := tx.Put(droppingKey(o.p), []byte{1}); err != nil {
		return fmt.Errorf("note that partition %d is being dropped: %w", o.p, err)
	}
	for _, key := range [][]byte{snapshotKey(o.p), behindKey(o.p)} {
		if err := tx.Delete(key); err != nil {
			return fmt.Errorf("drop snapshot of partition %d: %w", o.p, err)
		}
	}
	r.held[o.p] = nil
	r.dropping[o.p] = true
	return nil
}

// keepOwn keeps what must outlive the clock of the partition: how far this
// node's last actor got, which may mint again, and the region's highest actor.
func (o *dropOp) keepOwn(tx storage.Txn, part *partition, actors []crdt.Actor) error {
	if len(actors) > 0 {
		last := actors[len(actors)-1]
		if n := part.highest(last); n > 0 {
			own := crdt.Dot{Actor: last, N: n}
			if err := tx.Put(ownKey(o.p), encodeOwn(nil, own)); err != nil {
				return fmt.Errorf("keep the counter of partition %d: %w", o.p, err)
			}
			o.r.floors[o.p] = own
		}
	}
	seen := crdt.Actor(o.r.seenActor.Load())
	for _, a := range part.decided.clock.Actors() {
		if a.Region() == uint8(o.r.current.RegionID) {
			seen = max(seen, a)
		}
	}
	if uint32(seen) == o.r.seenActor.Load() {
		return nil
	}
	if err := tx.Put(keySeenActor, binary.BigEndian.AppendUint32(nil, uint32(seen))); err != nil {
		return fmt.Errorf("keep the highest actor: %w", err)
	}
	o.r.seenActor.Store(uint32(seen))
	return nil
}

func (o *dropOp) Done(err error) {
	if err != nil || o.nothing {
		o.done(err)
		return
	}
	o.r.publish()
	o.r.drops.add(o.p, o.done)
}

// drops are the partitions to be deleted, and who waits for that.
type drops struct {
	mu      sync.Mutex
	queue   []hashring.Partition
	waiting map[hashring.Partition][]func(error)
	ended   bool
	wake    chan struct{}
}

func (d *drops) init() {
	d.waiting = map[hashring.Partition][]func(error){}
	d.wake = make(chan struct{}, 1)
}

func (d *drops) add(p hashring.Partition, done func(error)) {
	d.mu.Lock()
	if d.ended {
		d.mu.Unlock()
		done(ErrStopping)
		return
	}
	if _, known := d.waiting[p]; !known {
		d.queue = append(d.queue, p)
	}
	d.waiting[p] = append(d.waiting[p], done)
	d.mu.Unlock()
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

func (d *drops) next() (p hashring.Partition, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.queue) == 0 {
		return 0, false
	}
	p, d.queue = d.queue[0], d.queue[1:]
	return p, true
}

func (d *drops) finish(p hashring.Partition, err error) {
	d.mu.Lock()
	waiting := d.waiting[p]
	delete(d.waiting, p)
	d.mu.Unlock()
	for _, done := range waiting {
		done(err)
	}
}

// end tells everybody who waits that the next start will go on.
func (d *drops) end() {
	d.mu.Lock()
	d.ended = true
	waiting := d.waiting
	d.waiting, d.queue = nil, nil
	d.mu.Unlock()
	for _, all := range waiting {
		for _, done := range all {
			done(ErrStopping)
		}
	}
}

// runDrops deletes dropped partitions, one after the other, until ctx ends.
func (r *Replica) runDrops(ctx context.Context) {
	defer r.drops.end()
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.drops.wake:
		}
		for {
			p, ok := r.drops.next()
			if !ok {
				break
			}
			err := r.dropData(ctx, p)
			if ctx.Err() != nil {
				return // the note stays
			}
			if err != nil {
				r.log.Error("a partition that moved away was not deleted as a whole: the next start goes on", "partition", int(p), "error", err)
			}
			r.drops.finish(p, err)
		}
	}
}

func (r *Replica) dropData(ctx context.Context, p hashring.Partition) error {
	first, last := hashring.Range(p, r.partitions)
	lo, hi := recordRange(first, last)
	if err := r.deleteRange(ctx, lo, hi); err != nil {
		return fmt.Errorf("drop records of partition %d: %w", p, err)
	}
	if err := r.deleteRange(ctx, indexKey(nil, p, crdt.Dot{}), indexEnd(p)); err != nil {
		return fmt.Errorf("drop dot index of partition %d: %w", p, err)
	}
	return r.do(func(done chan error) storage.Op { return &droppedOp{r: r, p: p, done: done} })
}

// do queues an operation and waits for it.
func (r *Replica) do(op func(done chan error) storage.Op) error {
	done := make(chan error, 1)
	r.enqueue(op(done))
	return <-done
}

// deleteRange deletes what the committer no longer writes to.
func (r *Replica) deleteRange(ctx context.Context, lo, hi []byte) error {
	for {
		keys, next, err := r.gather(lo, hi)
		if err != nil || len(keys) == 0 {
			return err
		}
		if err := r.do(func(done chan error) storage.Op { return &deleteOp{keys: keys, done: done} }); err != nil {
			return err
		}
		if next == nil {
			return nil
		}
		lo = next
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(dropPause):
		}
	}
}

// gather returns the first keys of a range, and where to go on, nil at its end.
func (r *Replica) gather(lo, hi []byte) (keys [][]byte, next []byte, err error) {
	size := 0
	more := func(key []byte, value int) bool {
		if len(keys) == dropBatch || size >= dropBatchBytes {
			next = append([]byte(nil), key...)
			return false
		}
		keys = append(keys, append([]byte(nil), key...))
		// A large value is in pieces, each with a key of its own.
		size += (len(key) + 64) * (1 + value>>18)
		return true
	}
	for next == nil {
		err := r.engine.Scan(lo, hi, func(kv storage.KV) bool { return more(kv.Key, len(kv.Value)) })
		var bad *storage.CorruptError
		if !errors.As(err, &bad) {
			return keys, next, err
		}
		if more(bad.Key, storage.MaxValue) {
			lo = append(append([]byte(nil), bad.Key...), 0)
		}
	}
	return keys, next, nil
}

type deleteOp struct {
	keys [][]byte
	done chan error
}

func (o *deleteOp) Size() int      { return 0 }
func (o *deleteOp) Decided()       {}
func (o *deleteOp) Done(err error) { o.done <- err }

func (o *deleteOp) Decide(tx storage.Txn) error {
	for _, k := range o.keys {
		if err := tx.Delete(k); err != nil {
			return fmt.Errorf("delete: %w", err)
		}
	}
	return nil
}

// droppedOp ends the dropping; the partition may be held again from here on.
type droppedOp struct {
	r    *Replica
	p    hashring.Partition
	done chan error
}

func (o *droppedOp) Size() int { return 0 }
func (o *droppedOp) Decided()  {}

func (o *droppedOp) Decide(tx storage.Txn) error {
	if err := tx.Delete(droppingKey(o.p)); err != nil {
		return fmt.Errorf("note that partition %d was dropped: %w", o.p, err)
	}
	delete(o.r.dropping, o.p)
	is := standing{role: o.r.current.Role(o.p, o.r.cfg.Node), since: o.r.current.SinceOf(o.p)}
	if is.role == topology.None {
		return nil
	}
	return o.r.gain(tx, o.p, is)
}

func (o *droppedOp) Done(err error) {
	if err == nil {
		o.r.publish()
	}
	o.done <- err
}

func encodeOwn(dst []byte, d crdt.Dot) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(d.Actor))
	return binary.BigEndian.AppendUint64(dst, d.N)
}

func decodeOwn(b []byte) (crdt.Dot, bool) {
	if len(b) != 12 {
		return crdt.Dot{}, false
	}
	return crdt.Dot{Actor: crdt.Actor(binary.BigEndian.Uint32(b)), N: binary.BigEndian.Uint64(b[4:])}, true
}
