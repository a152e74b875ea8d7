package hint

import (
	"errors"
	"fmt"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/replica"
	"github.com/atolldb/atoll/node/storage"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/wire"
)

// Handle serves VerbHint; it reports whether req was one.
func (h *Hints) Handle(req peer.Request, reply peer.Done) bool {
	if req.Verb != peer.VerbHint {
		return false
	}
	m, err := wire.DecodeHint(req.Body)
	if err != nil {
		reply(nil, replica.Refuse(err))
		return true
	}
	h.Keep(req.Epoch, topology.NodeID(m.Owner), m.Entry, func(err error) { reply(nil, refuse(err)) })
	return true
}

func refuse(err error) error {
	if errors.Is(err, ErrNoRoom) || errors.Is(err, ErrTooOld) || errors.Is(err, ErrLeaving) {
		return &peer.Refusal{Code: peer.CodeFull, Detail: err.Error()}
	}
	return replica.Refuse(err)
}

// Keep takes a record for an owner that is away. done gets nil when it is
// durable, an error that wraps ErrNoRoom, ErrTooOld, ErrLeaving or replica.ErrStale
// when it does not count, or another one; it runs on the committer's goroutine, or at
// once, and must not block.
func (h *Hints) Keep(epoch topology.Epoch, owner topology.NodeID, e wire.Entry, done func(error)) {
	hash := hashring.KeyHash(e.Key)
	o := &keepOp{h: h, epoch: epoch, owner: owner, hash: hash, entry: e, done: done}
	o.partition = hashring.PartitionOf(hash, h.deps.Replica.Topology().Table.Partitions())
	if len(owner) == 0 || len(owner) > 63 || owner == h.cfg.Self {
		done(fmt.Errorf("%w: hint for %q", wire.ErrMalformed, owner))
		return
	}
	if _, err := crdt.DecodeRecord(hash, e.Record); err != nil {
		done(fmt.Errorf("%w: %w", wire.ErrMalformed, err))
		return
	}
	h.deps.Replica.Submit(o)
}

type keepOp struct {
	h         *Hints
	epoch     topology.Epoch
	owner     topology.NodeID
	partition hashring.Partition
	hash      uint64
	entry     wire.Entry
	done      func(error)
	// What it adds to the accounts.
	count int
	bytes int64
	since int64
}

func (o *keepOp) Size() int { return 2*len(o.entry.Key) + len(o.entry.Record) + 128 }
func (o *keepOp) Decided()  {}

// fenced says why the topology in force here forbids to stand in: the sender does not
// know of a change of the partition, or this node leaves. Those who decide that it has
// nothing left to hand over count on the second one.
func (o *keepOp) fenced() error {
	top := o.h.deps.Replica.Topology()
	if o.epoch != 0 && o.epoch < top.SinceOf(o.partition) {
		return replica.ErrStale
	}
	if m := top.Member(o.h.cfg.Self); m != nil && (m.State == topology.Draining || m.State == topology.Left) {
		return ErrLeaving
	}
	return nil
}

func (o *keepOp) Decide(tx storage.Txn) error {
	if err := o.fenced(); err != nil {
		return err
	}
	now := time.Now().UnixMilli()
	k := kept{since: now, entry: o.entry}
	key := hintKey(o.owner, o.hash, o.entry.Key)
	was, count := int64(0), 1
	old, err := tx.Get(key)
	switch {
	case err == nil:
		was, count = size(key, old), 0
		before, err := decodeKept(old)
		if err == nil {
			k, err = join(before, o.hash, o.entry)
		}
		if err != nil {
			return err // what is kept cannot be read, and must not be written over
		}
	case !errors.Is(err, storage.ErrNotFound):
		return err
	}
	value := appendKept(make([]byte, 0, head+len(k.entry.Record)+len(k.entry.Key)+64), &k)
	if len(value) > o.h.maxSize {
		return fmt.Errorf("hint of %d bytes: %w", len(value), storage.ErrTooLarge)
	}
	if err := o.h.reserve(o, count, size(key, value)-was, k.since); err != nil {
		return err
	}
	return tx.Put(key, value)
}

// reserve accounts for a hint before it is durable, so that what waits for one
// sync does not exceed the bounds together.
func (h *Hints) reserve(o *keepOp, count int, bytes, since int64) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if bytes > 0 && h.bytes+bytes > h.cfg.MaxBytes {
		return ErrNoRoom
	}
	if owed := h.owed[o.owner]; owed != nil && owed.Count > 0 && time.Since(owed.Oldest) > h.cfg.MaxAge {
		return ErrTooOld
	}
	o.count, o.bytes, o.since = count, bytes, since
	h.accountLocked(o.owner, count, bytes, since)
	return nil
}

func (o *keepOp) Done(err error) {
	if err != nil {
		o.h.account(o.owner, -o.count, -o.bytes, o.since)
	} else {
		// It is kept, and may have been decided in one group with the topology by
		// which it does not count.
		err = o.fenced()
	}
	if err != nil {
		o.h.stats.Refused.Add(1)
	} else {
		o.h.stats.Taken.Add(1)
	}
	o.done(err)
}
