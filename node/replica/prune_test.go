package replica_test

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/replica"
	"github.com/atolldb/atoll/node/storage/memstore"
	"github.com/atolldb/atoll/node/wire"
)

func (p *place) prune(part hashring.Partition, held *crdt.Clock) {
	p.t.Helper()
	ch := make(chan error, 1)
	p.PruneIndex(part, held, func(err error) { ch <- err })
	if err := <-ch; err != nil {
		p.t.Fatalf("prune: %v", err)
	}
}

// fullSync joins all that from has of a partition.
func (p *place) fullSync(from *place, part hashring.Partition) {
	p.t.Helper()
	var clock *crdt.Clock
	q := wire.Scan{Partition: part, Last: 1<<64 - 1, MaxBytes: 300}
	for {
		page, err := from.Scan(q)
		if err != nil {
			p.t.Fatal(err)
		}
		if clock == nil {
			clock = page.Clock
		}
		p.mustApply(page.Entries...)
		if !page.More {
			break
		}
		q.After = page.Entries[len(page.Entries)-1].Key
	}
	if err := p.joinClock(part, clock); err != nil {
		p.t.Fatal(err)
	}
}

// What everybody has is given up, and nothing that a start needs; who needs it
// all the same is told to take everything, and gets everything.
func TestPruneIndex(t *testing.T) {
	for _, end := range []string{"clean stop", "crash"} {
		t.Run(end, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := owner(t)
				part := partOf(key)
				keys := keysIn(part, 50)
				for _, k := range keys {
					p.put(k, "v")
				}
				p.mustApply(foreign(keys[0], stranger, 1, nil, "a"), foreign(keys[1], stranger, 3, nil, "beyond a gap"))
				mine := p.Actor()
				held := &crdt.Clock{}
				held.AddSpan(crdt.Dots{Actor: mine, Span: crdt.Span{Lo: 1, Hi: 30}})
				held.AddSpan(crdt.Dots{Actor: mine, Span: crdt.Span{Lo: 32, Hi: 40}})
				held.AddSpan(crdt.Dots{Actor: stranger, Span: crdt.Span{Lo: 1, Hi: 9}})
				p.prune(part, held)
				if got := p.entriesOf(part)['i']; got != 52-30-1 {
					t.Errorf("%d entries left", got)
				}
				p.prune(part, held)
				if got := p.Stats().Pruned.Load(); got != 31 {
					t.Errorf("%d dots counted", got)
				}
				for _, k := range keys[:5] {
					p.put(k, "again")
				}
				clock, sum := p.Clock(part), p.Sum(part)
				if end == "crash" {
					p.crash(true)
					p.start()
				} else {
					p.restart()
				}
				if got := p.Clock(part); !got.Equal(clock) || p.Sum(part) != sum {
					t.Errorf("recovered %v, had %v", got.All(), clock.All())
				}
				p.digests()
				if end == "clean stop" && p.Actor() != mine {
					t.Errorf("a new actor: %s", p.Unclean())
				}

				q := second(t, p)
				got, err := p.Pull(wire.Pull{Partition: part, Clock: q.Clock(part), MaxBytes: 1 << 20})
				if err != nil || !got.Full {
					t.Fatalf("pull: full %t, %v", got.Full, err)
				}
				q.fullSync(p, part)
				if q.Sum(part) != p.Sum(part) {
					t.Errorf("after a full sync: %+v, want %+v", q.Sum(part), p.Sum(part))
				}
				// Who has the base needs no full sync.
				got, err = p.Pull(wire.Pull{Partition: part, Clock: held, MaxBytes: 1 << 20})
				if err != nil || got.Full || len(got.Entries) != 16 {
					t.Errorf("pull: full %t, %d entries, %v", got.Full, len(got.Entries), err)
				}
				q.stop()
				p.stop()
			})
		})
	}
}

// Nothing is given up that the other regions' log has not confirmed, or of
// dots that this node lacks.
func TestPruneIndexIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := shipper(t)
		part := partOf(key)
		for range 5 {
			p.put(key, "v")
		}
		all := &crdt.Clock{}
		all.AddSpan(crdt.Dots{Actor: p.Actor(), Span: crdt.Span{Lo: 1, Hi: 100}})
		p.prune(part, all)
		if got := p.entriesOf(part)['i']; got != 5 {
			t.Errorf("%d entries left", got)
		}
		entries, marks := p.peek(1 << 20)
		p.confirm(marks)
		p.put(key, "another")
		p.prune(part, all)
		if got := p.entriesOf(part)['i']; got != 1 || len(entries) != 1 {
			t.Errorf("%d entries left", got)
		}
		p.Outbox().Rewind()
		if entries, marks = p.peek(1 << 20); len(entries) != 1 || marks[0].N != 6 {
			t.Errorf("ships %v, %v", shipped(entries), marks)
		}
		p.stop()
	})
}

// Pruning ends with the role, and with the node; many batches pause between
// each other.
func TestPruneIndexEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newMover(t, memstore.Config{SyncMin: time.Millisecond, SyncMax: time.Millisecond})
		p.serve(0)
		var entries []wire.Entry
		for i, k := range keysIn(0, 3000) {
			entries = append(entries, foreign(k, stranger, uint64(i+1), nil, "v"))
		}
		for some := range slices.Chunk(entries, 500) {
			p.mustApply(some...)
		}
		outcome := make(chan error, 9)
		prune := func() { p.PruneIndex(0, p.Clock(0), func(err error) { outcome <- err }) }
		prune()
		prune()
		time.Sleep(10 * time.Millisecond)
		synctest.Wait()
		if got := p.entriesOf(0)['i']; got == 0 || got == 3000 {
			t.Fatalf("%d entries left", got)
		}
		p.stop()
		wantError(t, <-outcome, replica.ErrStopping)
		wantError(t, <-outcome, replica.ErrStopping)
		p.cfg.Topology = moving(20, nil, serving, none, none, none)
		p.start()
		prune()
		p.leave()
		if err := p.drop(0); err != nil {
			t.Fatal(err)
		}
		if err := <-outcome; err != nil && !errors.Is(err, replica.ErrNotOwner) {
			t.Error(err)
		}
		p.PruneIndex(0, &crdt.Clock{}, func(err error) { outcome <- err })
		wantError(t, <-outcome, replica.ErrNotOwner)
		p.serve(0)
		p.mustApply(entries[:7]...)
		prune()
		if err := <-outcome; err != nil || p.entriesOf(0)['i'] != 0 {
			t.Errorf("%v, %v", err, p.entriesOf(0))
		}
		p.crash(true)
		p.start()
		if p.Clock(0).Base(stranger) != 7 {
			t.Error("clock lost")
		}
		p.digests()
		p.stop()
	})
}
