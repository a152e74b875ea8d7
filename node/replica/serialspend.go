package replica

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/internal/planted"
	"github.com/atolldb/atoll/node/cas"
	"github.com/atolldb/atoll/node/storage"
)

// Acceptor states end with rounds of tombstone collection (package collect), which
// every owner takes part in. Who raises its floor refuses from then on, for the whole
// partition, ballots that are as old; it does so only when nothing as old is accepted
// and undecided here. So when a round is completed no owner has, or ever will have,
// accepted anything below its floor that somebody could take up: neither what a state
// has promised below it nor what it knows to be decided there matters any more, and
// the state is deleted, whether its key still is or not. A slot's later owner takes
// over the lowest ballot with the states. What is known of requests goes its own way.

// ErrUndecided says that a proposal which is older than a floor is undecided here.
var ErrUndecided = errors.New("a proposal that is as old as the floor is undecided here")

// Undecided are some of the full keys in p with a proposal that was made at or
// before floor, of which this node does not know whether it was decided.
func (r *Replica) Undecided(p hashring.Partition, floor hlc.Stamp) [][]byte {
	const some = 16
	var out [][]byte
	r.serial.mu.Lock()
	defer r.serial.mu.Unlock()
	for k, b := range r.serial.pending {
		// One whose note is unreadable may be of any age.
		if old := b < ballotsAbove(floor) || b == cas.MaxBallot; old && r.Partition(hashring.KeyHash([]byte(k))) == p {
			if out = append(out, []byte(k)); len(out) == some {
				break
			}
		}
	}
	return out
}

// ballotsAbove is the lowest ballot that is not as old as floor.
func ballotsAbove(floor hlc.Stamp) cas.Ballot { return cas.At(floor.Millis() + 1) }

// retireBallots refuses from now on what is proposed in p with a ballot that is as
// old as floor; ErrUndecided while there is such a thing already.
func (r *Replica) retireBallots(p hashring.Partition, floor hlc.Stamp) error {
	err := r.do(func(done chan error) storage.Op { return &retireOp{r: r, p: p, floor: floor, done: done} })
	if err != nil {
		return fmt.Errorf("retire ballots of partition %d: %w", p, err)
	}
	return nil
}

type retireOp struct {
	r     *Replica
	p     hashring.Partition
	floor hlc.Stamp
	done  chan error
}

func (o *retireOp) Size() int      { return 0 }
func (o *retireOp) Decided()       {}
func (o *retireOp) Done(err error) { o.done <- err }

func (o *retireOp) Decide(tx storage.Txn) error {
	part, err := o.r.decidedPart(o.p)
	if err != nil {
		return err
	}
	if len(o.r.Undecided(o.p, o.floor)) > 0 {
		return ErrUndecided
	}
	if planted.Bug(planted.SpendPromises) {
		return nil
	}
	return o.r.raiseMin(tx, part.id, ballotsAbove(o.floor))
}

// raiseMin refuses from now on ballots below b.
func (r *Replica) raiseMin(tx storage.Txn, p hashring.Partition, b cas.Ballot) error {
	if b <= r.serial.mins[p] {
		return nil
	}
	r.serial.mins[p] = b
	if err := tx.Put(ballotsKey(p), binary.BigEndian.AppendUint64(nil, uint64(b))); err != nil {
		return fmt.Errorf("write the lowest ballot of partition %d: %w", p, err)
	}
	return nil
}

// durableMin is the ballot below which this node accepts nothing in p, as on disk.
func (r *Replica) durableMin(p hashring.Partition) (cas.Ballot, error) {
	b, err := r.engine.Get(ballotsKey(p))
	switch {
	case isNotFound(err):
		return 0, nil
	case err == nil && len(b) != 8:
		err = storage.ErrCorrupt
	}
	if err != nil {
		return 0, fmt.Errorf("read the lowest ballot of partition %d: %w", p, err)
	}
	return cas.Ballot(binary.BigEndian.Uint64(b)), nil
}

// Spend deletes the acceptor states in p of which nothing is younger than floor, the
// floor of a round that was completed after this node had raised it. It goes in
// paced batches; what a stop leaves over, the next round takes.
func (r *Replica) Spend(p hashring.Partition, floor hlc.Stamp) error {
	done := make(chan error, 1)
	r.later(func(ctx context.Context) error { return r.spend(ctx, p, floor) }, func(err error) { done <- err })
	return <-done
}

func (r *Replica) spend(ctx context.Context, p hashring.Partition, floor hlc.Stamp) error {
	below := ballotsAbove(floor)
	first, last := hashring.Range(p, r.partitions)
	lo, hi := recordRange(first, last)
	lo, hi = inSpace(spaceSerial, lo, hi)
	for lo != nil {
		var keys [][]byte
		at := lo
		lo = nil
		err := scanAll(r.engine, at, hi, func(kv storage.KV, unreadable bool) bool {
			if len(keys) == deleteBatch {
				lo = append([]byte(nil), kv.Key...)
				return false
			}
			keyHash, _ := splitRecordKey(kv.Key)
			if unreadable {
				return true // it is healed when it is asked for
			}
			if s, err := cas.DecodeState(keyHash, kv.Value); err == nil && s.Spent(below) {
				keys = append(keys, append([]byte(nil), kv.Key...))
			}
			return true
		})
		if err != nil {
			return fmt.Errorf("look for spent acceptor states of partition %d: %w", p, err)
		}
		if len(keys) == 0 {
			continue
		}
		if err := r.do(func(done chan error) storage.Op { return &spendOp{r: r, p: p, below: below, keys: keys, done: done} }); err != nil {
			return fmt.Errorf("delete spent acceptor states of partition %d: %w", p, err)
		}
		if !pauseFor(ctx, deletePause) {
			return ctx.Err()
		}
	}
	return nil
}

// spendOp deletes what is still spent of some states.
type spendOp struct {
	r       *Replica
	p       hashring.Partition
	below   cas.Ballot
	keys    [][]byte
	deleted uint64
	done    chan error
}

func (o *spendOp) Size() int { return 0 }
func (o *spendOp) Decided()  {}

func (o *spendOp) Decide(tx storage.Txn) error {
	if _, err := o.r.decidedPart(o.p); err != nil {
		return err
	}
	if o.deleted = 0; o.r.serial.mins[o.p] < o.below && !planted.Bug(planted.SpendPromises) {
		return nil // it was not this node that raised that floor
	}
	for _, k := range o.keys {
		keyHash, full := splitRecordKey(k)
		s, err := o.r.loadState(tx, keyHash, full)
		if errors.Is(err, storage.ErrCorrupt) {
			continue
		}
		if err != nil {
			return err
		}
		if !s.Spent(o.below) {
			continue
		}
		if err := tx.Delete(k); err != nil {
			return fmt.Errorf("delete a spent acceptor state: %w", err)
		}
		o.deleted++
	}
	return nil
}

func (o *spendOp) Done(err error) {
	if err == nil {
		o.r.stats.SerialSpent.Add(o.deleted)
	}
	o.done <- err
}
