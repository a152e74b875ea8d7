package replica

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

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
	for _, key := range [][]byte{snapshotKey(o.p), behindKey(o.p), ballotsKey(o.p), memoryKey(o.p)} {
		if err := tx.Delete(key); err != nil {
			return fmt.Errorf("drop snapshot of partition %d: %w", o.p, err)
		}
	}
	r.held[o.p] = nil
	r.serial.mins[o.p] = 0
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
	o.r.damage.remove(o.p, func(hurt) bool { return true })
	o.r.dropSerial(o.p)
	o.r.later(func(ctx context.Context) error { return o.r.dropData(ctx, o.p) }, o.done)
}

// dropData deletes what is left of p and ends the dropping. It may be called
// again when that has been done: then the partition may be held again.
func (r *Replica) dropData(ctx context.Context, p hashring.Partition) error {
	may := func() error {
		if !r.dropping[p] {
			return errDropped
		}
		return nil
	}
	first, last := hashring.Range(p, r.partitions)
	lo, hi := recordRange(first, last)
	err := r.deleteRange(ctx, lo, hi, may)
	if err == nil {
		l, h := replacedRange(lo, hi)
		err = r.deleteRange(ctx, l, h, may)
	}
	for _, space := range []byte{spaceSerial, spacePending} {
		if err == nil {
			l, h := inSpace(space, lo, hi)
			err = r.deleteRange(ctx, l, h, may)
		}
	}
	if err == nil {
		err = r.deleteRange(ctx, indexKey(nil, p, crdt.Dot{}), indexEnd(p), may)
	}
	if err == nil {
		err = r.do(func(done chan error) storage.Op { return &droppedOp{r: r, p: p, done: done} })
	}
	if err != nil && !errors.Is(err, errDropped) {
		return fmt.Errorf("drop partition %d: %w", p, err)
	}
	return nil
}

// errDropped says that nothing is left to be dropped.
var errDropped = errors.New("dropped by now")

// droppedOp ends the dropping; the partition may be held again from here on.
type droppedOp struct {
	r    *Replica
	p    hashring.Partition
	done chan error
}

func (o *droppedOp) Size() int { return 0 }
func (o *droppedOp) Decided()  {}

func (o *droppedOp) Decide(tx storage.Txn) error {
	if !o.r.dropping[o.p] {
		return errDropped
	}
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
