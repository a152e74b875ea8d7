package handoff

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/session"
	"github.com/atolldb/atoll/internal/pause"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/replica"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/wire"
)

// copying is one copy to this node. Its state outlives a pause, and is lost with
// the node.
type copying struct {
	c    *Copier
	move topology.Move
	ask  topology.Copies

	// one at a time: a run that is stopped may still be waiting when the next
	// one begins. It guards what follows up to mu. scan is a pass through a source's records that was
	// not finished.
	one  sync.Mutex
	scan *pass
	mark uint64 // of the state that with speaks of

	mu    sync.Mutex // over what follows
	with  []topology.NodeID
	keys  uint64
	bytes uint64
	total uint64
	size  uint64 // of the last pass through all records
	waits string
	// behind are the sources that have to catch up themselves, when they were asked last.
	behind []topology.NodeID
	// complete: it was counted as such.
	complete bool
}

// pass through a source's records: behind the key after, with the clock that the
// source had before the first of them.
type pass struct {
	from  topology.NodeID
	after []byte
	page  wire.Page // what has come and is not applied yet
	mark  uint64    // of what this node lacked when the pass began
	clock *crdt.Clock
	// losses go with the clock.
	losses *session.Losses
	bytes  uint64
}

// run copies until ctx ends, which it does when the stage does: what was
// complete need not stay so, when this node finds that it lacks something.
func (k *copying) run(ctx context.Context) {
	k.one.Lock()
	defer k.one.Unlock()
	for {
		_, why := k.round(ctx)
		k.mu.Lock()
		k.waits = why
		k.mu.Unlock()
		if !pause.For(ctx, k.c.cfg.Beat) {
			return
		}
	}
}

// round tries the sources; it reports whether there is nothing left to try, and
// if there is, what is lacking.
func (k *copying) round(ctx context.Context) (done bool, why string) {
	mark := k.c.deps.Replica.BehindMark(k.move.Partition)
	if mark != 0 && mark != k.mark {
		// Whatever was there may be gone, what a pass has applied so far, too.
		k.mark, k.scan = mark, nil
		k.setWith(nil)
	}
	if k.ask.From != "" {
		err := k.try(ctx, k.ask.From)
		if err == nil {
			k.caughtUp(mark)
			return true, ""
		}
		why = err.Error()
		if ctx.Err() != nil || !k.c.absent.long(k.ask.From) {
			return false, why
		}
	}
	got, missing := 0, 0
	var behind []topology.NodeID
	for _, id := range k.ask.Others {
		if id == k.c.cfg.Self {
			got++
			continue
		}
		switch err := k.try(ctx, id); {
		case err == nil:
			got++
		case ctx.Err() != nil:
			return false, why
		default:
			why = err.Error()
			if errors.Is(err, errSourceBehind) {
				behind = append(behind, id)
			} else if !unanswered(err) {
				missing++
			}
		}
	}
	k.setBehind(behind)
	if got == 0 || !k.acceptLoss() {
		missing += len(behind)
	}
	enough := got >= k.ask.Need || k.acceptLoss()
	if enough && missing == 0 {
		k.caughtUp(mark)
		// From may come back, and then everything has to be from it.
		return k.ask.From == "" && got == len(k.ask.Others), why
	}
	return false, why
}

func (k *copying) acceptLoss() bool {
	task := k.c.deps.Replica.Topology().Task(k.move.Task)
	return task != nil && task.AcceptLoss
}

// caughtUp lets this node answer for the partition as soon as it is to.
func (k *copying) caughtUp(mark uint64) {
	if k.move.To != k.c.cfg.Self || k.move.Stage != topology.Copying {
		return
	}
	if mark != 0 {
		k.c.deps.Replica.CaughtUp(k.move.Partition, mark)
	}
	k.mu.Lock()
	first, size := !k.complete, k.size
	if k.complete = true; size == 0 {
		size = k.bytes // by dots alone
	}
	k.total = k.bytes
	k.mu.Unlock()
	if first {
		k.c.completed(k.move, size)
	}
}

func (k *copying) setWith(ids []topology.NodeID) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.with = ids
}

func (k *copying) setBehind(ids []topology.NodeID) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.behind = ids
}

func (k *copying) has(id topology.NodeID) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Contains(k.with, id)
}

// errAbsent stands for a source that has not answered for long, and was not
// asked.
var errAbsent = errors.New("does not answer")

// try is cover for a source that may be absent.
func (k *copying) try(ctx context.Context, id topology.NodeID) error {
	if k.has(id) {
		return nil
	}
	absent := &k.c.absent
	if !absent.ask(id) {
		return fmt.Errorf("%s %w", id, errAbsent)
	}
	err := k.cover(ctx, id)
	switch {
	case !unanswered(err):
		absent.heard(id)
	case ctx.Err() == nil:
		absent.missed(id)
	}
	return err
}

// cover makes this node have all that a source has, at some time after the
// source was durable at the stage's epoch (H1).
func (k *copying) cover(ctx context.Context, id topology.NodeID) error {
	d := k.c.deps
	epoch, err := d.Exchange(ctx, id, nil)
	if err != nil {
		return err
	}
	if epoch < k.move.Began {
		return &notYet{fmt.Sprintf("%s has epoch %d, not %d yet", id, epoch, k.move.Began)}
	}
	src := d.source(id, k.move.Partition, k.c.cfg.PageBytes)
	goal, floors, losses, err := src.clock(ctx)
	if err != nil {
		return err
	}
	// Before anything is copied: what was deleted and forgotten must not come in
	// from elsewhere. The source knows of this copy, so that it raises no floor
	// any more in a round without it.
	if err := d.Replica.MeetFloors(ctx, k.move.Partition, floors); err != nil {
		return &notYet{fmt.Sprintf("take over the floors of %s: %v", id, err)}
	}
	if err := d.Replica.MeetLosses(k.move.Partition, losses); err != nil {
		return err
	}
	for last := uint64(0); ; {
		mine := d.Replica.Clock(k.move.Partition)
		if mine == nil {
			return &notYet{"this node does not hold the partition yet"}
		}
		lacking := mine.CountMissing(goal)
		if lacking == 0 {
			break
		}
		if lacking == last {
			return &notYet{fmt.Sprintf("%s does not give %d writes that it has", id, lacking)}
		}
		last = lacking
		if err := k.fetch(ctx, src, mine, 2*lacking > (&crdt.Clock{}).CountMissing(goal)); err != nil {
			return err
		}
	}
	// Proposals that this node is not asked about by itself: the source has
	// accepted no more of them since it knows of this copy.
	err = d.Replica.TakeSerial(ctx, k.move.Partition, func(ctx context.Context, body []byte) ([]byte, error) {
		return src.call(ctx, peer.VerbSerialState, body)
	})
	if err != nil {
		return fmt.Errorf("acceptor states of partition %d at %s: %w", k.move.Partition, id, err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.with = append(slices.Clone(k.with), id)
	return nil
}

// notYet is what lacks for a while, although the source has answered.
type notYet struct{ why string }

func (e *notYet) Error() string { return e.why }

// fetch gets what src has and mine lacks: record after record when that is the
// most of it (or a pass has begun), by dots otherwise.
func (k *copying) fetch(ctx context.Context, src source, mine *crdt.Clock, most bool) error {
	if k.scan != nil && k.scan.from != src.id {
		k.scan = nil
	}
	if most || k.scan != nil {
		return k.pass(ctx, src)
	}
	for {
		got, err := src.beyond(ctx, mine)
		if err != nil {
			return err
		}
		k.came(got.Entries)
		if _, _, err := k.take(ctx, replica.Source{From: src.id, Vouches: true, Floor: got.Floors.Raised}, got.Entries); err != nil {
			return err
		}
		switch {
		case got.Full: // its index is too short
			return k.pass(ctx, src)
		case !got.More:
			return nil
		case len(got.Entries) == 0:
			return &notYet{fmt.Sprintf("%s has more and gives nothing", src.id)}
		}
		mine = k.c.deps.Replica.Clock(k.move.Partition)
	}
}

// pass goes through all records of src, and then takes over the clock that it
// had before the first of them.
func (k *copying) pass(ctx context.Context, src source) error {
	if k.scan == nil {
		k.scan = &pass{from: src.id, mark: k.c.deps.Replica.BehindMark(k.move.Partition)}
	}
	s := k.scan
	for {
		if len(s.page.Entries) == 0 {
			if err := k.next(ctx, src, s); err != nil {
				return err
			}
		}
		// However long the rest of a page has waited, its source vouches for it only as
		// long as this node has no higher floor.
		n, bytes, err := k.take(ctx, replica.Source{From: src.id, Vouches: true, Floor: s.page.Floors.Raised, Whole: true}, s.page.Entries)
		s.bytes += bytes
		if n > 0 {
			s.after = s.page.Entries[n-1].Key
		}
		s.page.Entries = s.page.Entries[n:]
		if err != nil {
			return err
		}
		if !s.page.More || n == 0 {
			break
		}
		k.expect(uint64(float64(s.bytes) / src.reached(s.after)))
	}
	k.scan = nil
	if mark := k.c.deps.Replica.BehindMark(k.move.Partition); mark != 0 && mark != s.mark {
		return &notYet{"this node has lost something since the pass began"}
	}
	if err := k.c.deps.Replica.MeetLosses(k.move.Partition, s.losses); err != nil {
		return err
	}
	if err := k.joinClock(s.clock); err != nil {
		return err
	}
	k.expect(s.bytes)
	k.mu.Lock()
	k.size = s.bytes
	k.mu.Unlock()
	return nil
}

// next asks for the page behind those that were applied.
func (k *copying) next(ctx context.Context, src source, s *pass) error {
	page, err := src.after(ctx, s.after)
	if err != nil {
		return err
	}
	k.c.absent.heard(src.id)
	if s.clock == nil {
		s.clock, s.losses = page.Clock, page.Losses
	}
	if !page.Clock.Covers(s.clock) {
		// Wiped since, and filled again by others: what it had alone is gone.
		k.scan = nil
		return &notYet{fmt.Sprintf("%s no longer has what it had when the pass began", src.id)}
	}
	s.page = page
	k.came(page.Entries)
	return nil
}

// came counts what has come over the network, whether it is applied then or not.
func (k *copying) came(entries []wire.Entry) {
	bytes := 0
	for _, e := range entries {
		bytes += e.Size()
	}
	k.c.received(k.move.Task, bytes)
}

func (k *copying) expect(total uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.total = max(total, k.bytes)
}

// take applies entries, in bites that clients do not feel, counts them and keeps the
// pace. It returns how many it has applied, and their bytes, also with an error.
func (k *copying) take(ctx context.Context, from replica.Source, entries []wire.Entry) (n int, bytes uint64, err error) {
	for n < len(entries) {
		end, size := k.bite(entries, n)
		if err := k.apply(from, entries[n:end]); err != nil {
			return n, bytes, err
		}
		keys := end - n
		n, bytes = end, bytes+size
		if err := k.applied(ctx, keys, size); err != nil {
			return n, bytes, err
		}
	}
	return n, bytes, nil
}

// bite is the end of the entries from n on that are applied in one go, and their bytes.
func (k *copying) bite(entries []wire.Entry, n int) (end int, bytes uint64) {
	most := uint64(k.c.deps.Yield.Page(k.c.cfg.PageBytes))
	for end = n; end < len(entries) && bytes < most; end++ {
		bytes += uint64(entries[end].Size())
	}
	return end, bytes
}

// applied counts what was, and waits for as long as it is to have taken.
func (k *copying) applied(ctx context.Context, keys int, bytes uint64) error {
	k.mu.Lock()
	k.keys += uint64(keys)
	k.bytes += bytes
	k.mu.Unlock()
	if k.ask.From == "" || k.c.absent.long(k.ask.From) {
		return k.c.pace.Pay(ctx, int(bytes), k.c.deps.pace) // the partition has an owner less than it is to have
	}
	return k.c.pace.PayPatiently(ctx, int(bytes), k.c.deps.pace)
}

func (k *copying) apply(from replica.Source, entries []wire.Entry) error {
	done := make(chan error, 1)
	k.c.deps.Replica.ApplyFrom(from, 0, entries, func(_ int, err error) { done <- err })
	if err := <-done; err != nil {
		return &notYet{fmt.Sprintf("apply %d records of partition %d here: %v", len(entries), k.move.Partition, err)}
	}
	return nil
}

func (k *copying) joinClock(c *crdt.Clock) error {
	done := make(chan error, 1)
	k.c.deps.Replica.JoinClock(k.move.Partition, c, func(err error) { done <- err })
	if err := <-done; err != nil {
		return &notYet{fmt.Sprintf("join clock of partition %d here: %v", k.move.Partition, err)}
	}
	return nil
}

// progress reports. What was lost since it was copied is not claimed.
func (k *copying) progress() Progress {
	lost := k.c.deps.Replica.BehindMark(k.move.Partition) != 0
	k.mu.Lock()
	defer k.mu.Unlock()
	out := Progress{
		Move: k.move.ID, Task: k.move.Task, Partition: k.move.Partition, Began: k.move.Began,
		Keys: k.keys, Bytes: k.bytes, Total: k.total, Waits: k.waits, Behind: k.behind,
	}
	if !lost {
		out.With = k.with
	}
	return out
}
