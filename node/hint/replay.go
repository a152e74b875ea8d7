package hint

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/storage"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/wire"
)

const (
	// pageBytes and pageHints bound what is handed over in one message.
	pageBytes = 256 << 10
	pageHints = 1024
	// sendTimeout bounds the wait for one message.
	sendTimeout = 5 * time.Second
)

// Run hands hints over until ctx ends: as soon as an owner is up again, and
// regularly, for what one try did not bring home.
func (h *Hints) Run(ctx context.Context) error {
	beat := time.NewTicker(h.cfg.Beat)
	defer beat.Stop()
	seen := map[topology.NodeID]topology.Epoch{}
	for {
		for _, o := range h.Owed() {
			if err := h.visit(ctx, o.Owner, seen); err != nil {
				if ctx.Err() != nil {
					return nil
				}
				h.deps.Logger.Warn("hints could not be handed over", "owner", string(o.Owner), "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-h.kick:
		case <-beat.C:
		}
	}
}

// visit hands over what is kept for an owner. As long as the owner is down there
// is only what goes to others by now, and that changes only with the topology:
// seen holds the epoch by which nothing was left of that.
func (h *Hints) visit(ctx context.Context, owner topology.NodeID, seen map[topology.NodeID]topology.Epoch) error {
	epoch := h.deps.Replica.Topology().Epoch
	up := h.deps.Alive(owner)
	if !up && seen[owner] == epoch {
		return nil
	}
	w := walk{h: h, owner: owner, after: ownerPrefix(owner)}
	for more := true; more; {
		var err error
		if more, err = w.page(ctx); err != nil {
			return err
		}
	}
	h.settle(owner, w.oldest, w.began)
	if !up && !w.failed {
		seen[owner] = epoch
	}
	return nil
}

// walk goes through all that is kept for an owner.
type walk struct {
	h     *Hints
	owner topology.NodeID
	after []byte
	// began is when the walk did, oldest the age of the oldest hint left.
	began  time.Time
	oldest time.Time
	// failed: somebody who is up did not take what was for him.
	failed bool
}

// item is a hint of a page.
type item struct {
	key, value []byte
	kept
	to []topology.NodeID
	// acks are how many of those have it.
	acks int
}

// page handles one page of hints, and reports whether there are more.
func (w *walk) page(ctx context.Context) (more bool, err error) {
	if w.began.IsZero() {
		w.began = time.Now()
	}
	items, more, err := w.load()
	if err != nil {
		return false, err
	}
	top := w.h.deps.Replica.Topology()
	shares := map[topology.NodeID][]*item{}
	for _, it := range items {
		it.to = receivers(top, w.owner, it.entry.Key)
		for _, id := range it.to {
			shares[id] = append(shares[id], it)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(shares)) {
		if id != w.h.cfg.Self && !w.h.deps.Alive(id) {
			w.failed = w.failed || id != w.owner
			continue
		}
		if err := w.h.give(ctx, id, top.Epoch, shares[id]); err != nil {
			if ctx.Err() != nil {
				return false, ctx.Err()
			}
			return false, fmt.Errorf("hand %d hints to %s: %w", len(shares[id]), id, err)
		}
		for _, it := range shares[id] {
			it.acks++
		}
	}
	var done []*item
	for _, it := range items {
		if len(it.to) > 0 && it.acks == len(it.to) {
			done = append(done, it)
		} else if at := time.UnixMilli(it.since); w.oldest.IsZero() || at.Before(w.oldest) {
			w.oldest = at
		}
	}
	return more, w.h.drop(ctx, w.owner, done)
}

// receivers are those who must have a hint before it is deleted: its owner, or
// all who take writes of the partition if the owner does not any more.
func receivers(top *topology.Topology, owner topology.NodeID, full []byte) []topology.NodeID {
	p := hashring.PartitionOf(hashring.KeyHash(full), top.Table.Partitions())
	takers := top.Takers(p)
	if slices.Contains(takers, owner) {
		return []topology.NodeID{owner}
	}
	return takers
}

// load reads the next page. What cannot be read is left where it is.
func (w *walk) load() (items []*item, more bool, err error) {
	bytes := 0
	_, err = scan(w.h.deps.Engine, w.after, ownerEnd(w.owner), func(key, value []byte) (bool, error) {
		if bytes > 0 && (bytes+len(value) > pageBytes || len(items) == pageHints) {
			more = true
			return false, nil
		}
		w.after = append(slices.Clone(key), 0)
		it := &item{key: slices.Clone(key), value: slices.Clone(value)}
		var err error
		if it.kept, err = decodeKept(it.value); err != nil {
			return true, err
		}
		bytes += len(value)
		items = append(items, it)
		return true, nil
	})
	if err != nil {
		return nil, false, fmt.Errorf("read hints: %w", err)
	}
	return items, more, nil
}

// give has a node apply hints, at the pace that is allowed.
func (h *Hints) give(ctx context.Context, id topology.NodeID, epoch topology.Epoch, items []*item) error {
	entries := make([]wire.Entry, len(items))
	total := 0
	for i, it := range items {
		entries[i] = it.entry
		total += it.entry.Size()
	}
	if err := h.apply(ctx, id, epoch, entries); err != nil {
		return err
	}
	wait := time.NewTimer(time.Duration(total) * time.Second / time.Duration(h.cfg.BytesPerSecond))
	defer wait.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-wait.C:
		return nil
	}
}

func (h *Hints) apply(ctx context.Context, id topology.NodeID, epoch topology.Epoch, entries []wire.Entry) error {
	if id == h.cfg.Self {
		// The partition has become this node's own.
		return await(ctx, func(done func(error)) {
			h.deps.Replica.ApplyAt(epoch, entries, func(_ int, err error) { done(err) })
		})
	}
	req := peer.Request{
		Verb: peer.VerbApply, Epoch: epoch, Timeout: sendTimeout,
		Body: wire.AppendApply(nil, wire.Apply{Entries: entries}),
	}
	_, err := peer.Call(ctx, h.deps.Transport, id, req)
	h.deps.Observe(id, err)
	var no *peer.Refusal
	if errors.As(err, &no) && (no.Code == peer.CodeStaleEpoch || no.Code == peer.CodeNotOwner) && h.deps.Learn != nil {
		h.deps.Learn(id, func() {}) // the next try goes by what that brings
	}
	return err
}

// await runs what answers with a callback. If ctx ends first, nobody waits for
// the answer any more.
func await(ctx context.Context, run func(done func(error))) error {
	answer := make(chan error, 1)
	run(func(err error) { answer <- err })
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// drop deletes what was handed over.
func (h *Hints) drop(ctx context.Context, owner topology.NodeID, items []*item) error {
	if len(items) == 0 {
		return nil
	}
	err := await(ctx, func(done func(error)) {
		h.deps.Replica.Submit(&dropOp{h: h, owner: owner, items: items, done: done})
	})
	if err != nil {
		return fmt.Errorf("delete hints: %w", err)
	}
	return nil
}

// dropOp deletes hints, unless there is more in them than what was handed over.
type dropOp struct {
	h     *Hints
	owner topology.NodeID
	items []*item
	done  func(error)
	count int
	bytes int64
}

func (o *dropOp) Size() int { return 0 }
func (o *dropOp) Decided()  {}

func (o *dropOp) Decide(tx storage.Txn) error {
	for _, it := range o.items {
		now, err := tx.Get(it.key)
		if errors.Is(err, storage.ErrNotFound) || err == nil && !bytes.Equal(now, it.value) {
			continue
		}
		if err != nil {
			return err
		}
		if err := tx.Delete(it.key); err != nil {
			return err
		}
		o.count++
		o.bytes += size(it.key, it.value)
	}
	return nil
}

func (o *dropOp) Done(err error) {
	if err == nil {
		o.h.account(o.owner, -o.count, -o.bytes, 0)
		o.h.stats.Handed.Add(uint64(o.count))
		o.h.stats.HandedBytes.Add(uint64(o.bytes))
	}
	o.done(err)
}

// settle sets how old the oldest hint for an owner is after a walk that left
// those since oldest, and has not seen what came after it had begun.
func (h *Hints) settle(owner topology.NodeID, oldest, began time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	o := h.owed[owner]
	if o == nil {
		return
	}
	if oldest.IsZero() {
		oldest = began
	}
	o.Oldest = oldest
}
