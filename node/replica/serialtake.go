package replica

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/cas"
	"github.com/atolldb/atoll/node/storage"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/wire"
)

// Acceptor states follow their partition. A node that is to take part in its
// consensus and does not have all that it once acknowledged there, or what the
// owner acknowledged whose slot it takes over, merges the states of those whom it
// copies from: TakeSerial, after each source's records and before CaughtUp.
//
// A node that forgot promises besides merges those of all other servers and then
// accepts nothing below a ballot that is ahead of all it can have promised. So
// nobody may have it promise what is far in the future.

const (
	// forgotten is how far ahead of its clock a node starts that forgot what it
	// promised: further than cas.MaxAhead.
	forgotten = 500 * time.Millisecond
	// takeBytes bounds a page.
	takeBytes = 256 << 10
)

// SerialStates returns a page of acceptor states. One that is unreadable fails
// the page: what it said nobody here knows.
func (r *Replica) SerialStates(q wire.SerialStates) (wire.SerialPage, error) {
	part := r.part(q.Partition)
	if part == nil {
		return wire.SerialPage{}, ErrNotOwner
	}
	first, last := hashring.Range(q.Partition, r.partitions)
	lo, hi := recordRange(max(first, q.First), min(last, q.Last))
	lo, hi = inSpace(spaceSerial, lo, hi)
	if len(q.After) > 0 {
		lo = append(serialKey(nil, hashring.KeyHash(q.After), q.After), 0)
	}
	lowest, err := r.durableMin(q.Partition)
	if err != nil {
		return wire.SerialPage{}, err
	}
	page := wire.SerialPage{Min: uint64(lowest)}
	size, bad := 0, false
	err = scanAll(r.engine, lo, hi, func(kv storage.KV, unreadable bool) bool {
		if size >= q.MaxBytes && size > 0 {
			page.More = true
			return false
		}
		keyHash, key := splitRecordKey(kv.Key)
		if !unreadable {
			_, err := cas.DecodeState(keyHash, kv.Value)
			unreadable = err != nil
		}
		if unreadable {
			bad = true
			r.unreadableState(q.Partition, append([]byte(nil), key...))
			return false
		}
		page.States = append(page.States, wire.SerialState{
			Key: append([]byte(nil), key...), State: append([]byte(nil), kv.Value...),
		})
		size += len(key) + len(kv.Value) + 8
		return true
	})
	if err == nil && bad {
		err = fmt.Errorf("acceptor state: %w", storage.ErrCorrupt)
	}
	if err != nil {
		return wire.SerialPage{}, fmt.Errorf("scan acceptor states of partition %d: %w", q.Partition, err)
	}
	return page, r.stillHeld(part)
}

// TakeSerial merges all acceptor states of a partition that another node has.
// ask sends it the body of a VerbSerialState and returns the reply's.
func (r *Replica) TakeSerial(ctx context.Context, p hashring.Partition, ask func(ctx context.Context, body []byte) ([]byte, error)) error {
	first, last := hashring.Range(p, r.partitions)
	q := wire.SerialStates{Partition: p, First: first, Last: last, MaxBytes: takeBytes}
	for {
		b, err := ask(ctx, wire.AppendSerialStates(nil, q))
		if err != nil {
			return err
		}
		page, err := wire.DecodeSerialPage(b)
		if err != nil {
			return err
		}
		if len(page.States) > 0 || page.Min > 0 {
			done := make(chan error, 1)
			if err := r.mergeSerial(p, &page, func(err error) { done <- err }); err != nil {
				return err
			}
			if err := <-done; err != nil {
				return fmt.Errorf("merge acceptor states of partition %d: %w", p, err)
			}
		}
		if len(page.States) > 0 {
			q.After = page.States[len(page.States)-1].Key
		}
		if !page.More || len(page.States) == 0 {
			return nil
		}
	}
}

func (r *Replica) mergeSerial(p hashring.Partition, page *wire.SerialPage, done func(error)) error {
	o := &mergeOp{r: r, p: p, min: cas.Ballot(page.Min), done: done}
	if o.min > cas.MaxBallot {
		return fmt.Errorf("%w: lowest ballot", wire.ErrMalformed)
	}
	for _, s := range page.States {
		hash := hashring.KeyHash(s.Key)
		theirs, err := cas.DecodeState(hash, s.State)
		if err != nil || r.Partition(hash) != p {
			return fmt.Errorf("%w: acceptor state", wire.ErrMalformed)
		}
		o.items = append(o.items, mergeItem{s.Key, hash, theirs})
		o.size += 2*len(s.Key) + len(s.State) + 160
	}
	r.submit(o)
	return nil
}

type mergeItem struct {
	key    []byte
	hash   uint64
	theirs cas.State
}

type mergeOp struct {
	r     *Replica
	p     hashring.Partition
	items []mergeItem
	min   cas.Ballot // of who has them
	size  int
	done  func(error)
}

func (o *mergeOp) Size() int      { return o.size }
func (o *mergeOp) Decided()       {}
func (o *mergeOp) Done(err error) { o.done(err) }

func (o *mergeOp) Decide(tx storage.Txn) error {
	part, err := o.r.decidedPart(o.p)
	if err != nil {
		return err
	}
	if err := o.r.raiseMin(tx, o.p, o.min); err != nil {
		return err
	}
	was, is := make([]cas.State, len(o.items)), make([]cas.State, len(o.items))
	recs := make([]crdt.Record, len(o.items))
	for i, it := range o.items {
		mine, err := o.r.loadState(tx, it.hash, it.key)
		if err != nil {
			return err
		}
		was[i], is[i] = mine, mine.Merge(it.theirs)
		if rec, err := getRecord(tx, it.hash, it.key); err == nil {
			recs[i] = shown(rec, part.decided.floors)
			is[i] = is[i].Learned(recs[i])
		}
		o.r.serial.tops[o.p] = max(o.r.serial.tops[o.p], is[i].Promised)
	}
	for i, it := range o.items {
		if is[i].Same(was[i]) {
			continue
		}
		if err := o.r.keepRequest(tx, it.hash, was[i], is[i], recs[i], crdt.RequestID{}, nil); err != nil {
			return err
		}
		if err := o.r.putState(tx, it.hash, it.key, was[i], is[i]); err != nil {
			return err
		}
	}
	return nil
}

// startAhead refuses from now on the ballots that this node may have promised
// something else for, before it lost what it knew.
func (r *Replica) startAhead(tx storage.Txn, part *partition) error {
	if part.stand.role == topology.Pending {
		return nil // the owner whose slot it takes over has not forgotten
	}
	s := &r.serial
	now := cas.At(max(r.hlc.Now(), s.tops[part.id].Millis()) + forgotten.Milliseconds())
	return r.raiseMin(tx, part.id, now)
}

// unreadableState has this node take no part in the partition before it has
// caught up with the others, as if it had lost all of it: what the state said is
// known to nobody.
func (r *Replica) unreadableState(p hashring.Partition, key []byte) {
	r.stats.SerialUnreadable.Add(1)
	r.submit(&forgetOp{r: r, p: p, key: key})
}

type forgetOp struct {
	r    *Replica
	p    hashring.Partition
	key  []byte
	done bool
}

func (o *forgetOp) Size() int { return 0 }
func (o *forgetOp) Decided()  {}

func (o *forgetOp) Decide(tx storage.Txn) error {
	part, err := o.r.decidedPart(o.p)
	if err != nil {
		return err
	}
	hash := hashring.KeyHash(o.key)
	if _, err := o.r.loadState(tx, hash, o.key); !errors.Is(err, storage.ErrCorrupt) {
		return err // healed by now
	}
	if !o.r.others(o.p) {
		return nil // nobody knows; it stays refused
	}
	if err := tx.Delete(serialKey(nil, hash, o.key)); err != nil {
		return fmt.Errorf("delete an unreadable acceptor state: %w", err)
	}
	if err := tx.Delete(pendingKey(hash, o.key)); err != nil {
		return fmt.Errorf("delete an unreadable acceptor state: %w", err)
	}
	o.done = true
	return o.r.markBehind(tx, part)
}

func (o *forgetOp) Done(err error) {
	if err == nil && o.done {
		o.r.publish()
		o.r.log.Log(hclog.Error, "an acceptor state is unreadable: this node catches up on the partition before it takes part again; check the disk", "partition", int(o.p))
	}
}
