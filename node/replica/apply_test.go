package replica_test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/replica"
	"github.com/atolldb/atoll/node/storage"
	"github.com/atolldb/atoll/node/wire"
)

// One message may name a key more than once.
func TestApplyOneKeyTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := owner(t)
		first := crdt.Dot{Actor: stranger, N: 1}
		changed := p.mustApply(
			foreign(key, stranger, 1, nil, "one"),
			foreign(key, stranger, 2, nil, "two"),
			foreign(key, stranger, 3, crdt.VV(nil).With(first), "three"),
			foreign(key, stranger, 2, nil, "two"),
		)
		if changed != 3 {
			t.Errorf("%d changed", changed)
		}
		if got := values(p.record(key)); !slices.Equal(got, []string{"two", "three"}) {
			t.Errorf("record has %q", got)
		}
		if c := p.Clock(partOf(key)); c.Base(stranger) != 3 {
			t.Errorf("clock %v", c.All())
		}
		p.digests()
		p.crash(true)
		p.start()
		p.digests()
		p.stop()
	})
}

// An entry may bring many dots; its digest is recovered whichever they are.
func TestApplyManyDots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := owner(t)
		e := foreign(key, stranger, 3, crdt.VV(nil).With(crdt.Dot{Actor: stranger, N: 2}), "v")
		e.Dots = []crdt.Dot{{Actor: stranger, N: 1}, {Actor: stranger, N: 2}}
		p.mustApply(e)
		p.crash(true)
		p.start()
		if c := p.Clock(partOf(key)); c.Base(stranger) != 3 {
			t.Errorf("clock %v", c.All())
		}
		p.digests()
		// Dots alone, with a record that changes nothing.
		e.Dots = append(e.Dots, crdt.Dot{Actor: stranger, N: 5})
		p.mustApply(e)
		p.crash(true)
		p.start()
		if !p.Clock(partOf(key)).Contains(crdt.Dot{Actor: stranger, N: 5}) || p.Gaps(partOf(key)) != 1 {
			t.Errorf("clock %v", p.Clock(partOf(key)).All())
		}
		p.digests()
		p.stop()
	})
}

// Applying again, and applying what is older, changes nothing and writes
// nothing.
func TestApplyIsIdempotent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := owner(t)
		old := foreign(key, stranger, 1, nil, "old")
		p.mustApply(old)
		p.mustApply(foreign(key, stranger, 2, crdt.VV(nil).With(crdt.Dot{Actor: stranger, N: 1}), "new"))
		p.settle()
		before, record := p.disk.Syncs(), p.record(key)
		for range 3 {
			if changed := p.mustApply(old, p.entry(key)); changed != 0 {
				t.Errorf("%d changed", changed)
			}
		}
		if p.disk.Syncs() != before || !p.record(key).SameDots(record) {
			t.Errorf("%d syncs, record %v", p.disk.Syncs()-before, p.record(key))
		}
		p.stop()
	})
}

// A message of which any part is no record, or could be none, is refused as a
// whole.
func TestApplyRefusesTheWholeMessage(t *testing.T) {
	good := func() wire.Entry { return foreign("b\x00good", stranger, 1, nil, "v") }
	bad := func(change func(e *wire.Entry)) wire.Entry {
		e := foreign(key, stranger, 1, nil, "v")
		e.Record = bytes.Clone(e.Record)
		change(&e)
		return e
	}
	for name, e := range map[string]wire.Entry{
		"flipped bit":   bad(func(e *wire.Entry) { e.Record[7] ^= 1 }),
		"empty":         bad(func(e *wire.Entry) { e.Record = nil }),
		"cut":           bad(func(e *wire.Entry) { e.Record = e.Record[:len(e.Record)-1] }),
		"of other keys": bad(func(e *wire.Entry) { e.Key = []byte("b\x00else") }),
		"dot of no actor": bad(func(e *wire.Entry) {
			e.Dots = []crdt.Dot{{Actor: 0, N: 1}}
		}),
		"dot number 0": bad(func(e *wire.Entry) { e.Dots = []crdt.Dot{{Actor: stranger, N: 0}} }),
		"dot that no clock can hold": bad(func(e *wire.Entry) {
			e.Dots = []crdt.Dot{{Actor: stranger, N: crdt.MaxN + 1}}
		}),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := owner(t)
				before := p.disk.Syncs()
				_, err := p.apply(good(), e)
				wantError(t, err, wire.ErrMalformed)
				if p.disk.Syncs() != before || len(p.record("b\x00good").Versions) > 0 {
					t.Error("a part of it was applied")
				}
				// It left nothing that hurts later.
				p.put(key, "v")
				p.restart()
				p.digests()
				p.stop()
			})
		})
	}
}

// The bound on siblings holds for whoever adds one: a blind writer, and one
// who writes with the same old context again and again.
func TestSiblingLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := owner(t)
		const most = 5
		old := p.put(key, "first").Context
		put := func(c crdt.Context) error {
			_, err := p.write(replica.Mint{Key: []byte(key), Context: c, Value: []byte("v"), MaxSiblings: most})
			return err
		}
		for range most - 1 {
			if err := put(crdt.Context{}); err != nil {
				t.Fatal(err)
			}
		}
		wantError(t, put(crdt.Context{}), replica.ErrTooManySiblings)
		// One sibling for another is fine; one more is not.
		if err := put(old); err != nil {
			t.Errorf("a write that replaces one: %v", err)
		}
		wantError(t, put(old), replica.ErrTooManySiblings)
		if n := len(p.record(key).Versions); n != most {
			t.Errorf("%d siblings", n)
		}
		if err := put(p.record(key).Context()); err != nil {
			t.Errorf("a write that resolves: %v", err)
		}
		p.stop()
	})
}

// A record that would be too large to store, or to send, is refused to the one
// who makes it so: nothing is written, and the node lives.
func TestRecordLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := owner(t)
		value := make([]byte, 1<<20)
		put := func(c crdt.Context) error {
			_, err := p.write(replica.Mint{Key: []byte(key), Context: c, Value: value, MaxSiblings: 256})
			return err
		}
		n := 0
		for n < 20 && put(crdt.Context{}) == nil {
			n++
		}
		if n != 11 {
			t.Errorf("%d siblings of 1 MiB", n)
		}
		wantError(t, put(crdt.Context{}), replica.ErrTooManySiblings)
		p.put("b\x00other", "lives")
		if err := put(p.record(key).Context()); err != nil {
			t.Errorf("a write that resolves: %v", err)
		}
		value = make([]byte, 15<<20) // alone it is no matter of siblings
		if err := put(p.record(key).Context()); err != nil {
			t.Errorf("a large value: %v", err)
		}
		value = make([]byte, 16<<20)
		wantError(t, put(p.record(key).Context()), storage.ErrTooLarge)
		p.put("b\x00other", "lives")
		p.stop()
	})
}

// Two records that are within bounds and whose join is not: the message is
// refused, and the node lives.
func TestJoinLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := owner(t)
		value := string(make([]byte, 9<<20))
		p.mustApply(foreign(key, stranger, 1, nil, value))
		_, err := p.apply(foreign("b\x00good", stranger, 1, nil, "v"), foreign(key, stranger, 2, nil, value))
		wantError(t, err, storage.ErrTooLarge)
		if len(p.record("b\x00good").Versions) > 0 {
			t.Error("a part of it was applied")
		}
		p.put("b\x00other", "lives")
		p.digests()
		p.stop()
	})
}

// snapshotEvery dots after the last one a snapshot is written; recovery is the
// same on both sides of the line.
func TestSnapshotBoundary(t *testing.T) {
	const every = 4096
	for _, n := range []int{every - 1, every, every + 1} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := owner(t)
				part := partOf(key)
				entries := make([]wire.Entry, 0, n)
				for i, k := range keysIn(part, n) {
					entries = append(entries, foreign(k, stranger, uint64(i+1), nil, "v"))
				}
				for some := range slices.Chunk(entries, 500) {
					p.mustApply(some...)
				}
				snapshot := []byte{'s', byte(part >> 8), byte(part)}
				b, err := p.engine.Get(snapshot)
				if err != nil {
					t.Fatal(err)
				}
				if c, _, err := crdt.DecodeClock(b[8:]); err != nil || c.Base(stranger) != uint64(n/every*every) {
					t.Errorf("snapshot after %d dots: %v, %v", n, c, err)
				}
				p.digests()
				p.crash(true)
				p.start()
				if got := p.Clock(part).Base(stranger); got != uint64(n) {
					t.Errorf("clock up to %d", got)
				}
				p.digests()
				p.put(key, "goes on")
				p.digests()
				p.stop()
			})
		})
	}
}

// A clock that was joined is durable before its done, though it has no index
// entries, and what comes later for its dots still counts.
func TestJoinClockIsDurable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := owner(t)
		part := partOf(key)
		c := &crdt.Clock{}
		c.AddSpan(crdt.Dots{Actor: stranger, Span: crdt.Span{Lo: 1, Hi: 9}})
		if err := p.joinClock(part, c); err != nil {
			t.Fatal(err)
		}
		p.mustApply(foreign(key, stranger, 4, nil, "late"))
		p.crash(false)
		p.start()
		if got := p.Clock(part).Base(stranger); got != 9 {
			t.Errorf("clock up to %d", got)
		}
		if got := values(p.record(key)); !slices.Equal(got, []string{"late"}) {
			t.Errorf("record has %q", got)
		}
		p.digests()
		p.stop()
	})
}

// An answer's context covers what its writer has seen and no more (ADR 10):
// two writers that go on from their own answers keep one sibling each.
func TestAnswersHaveHoles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := owner(t)
		var last [2]crdt.Context
		for i := range 20 {
			m, err := p.write(replica.Mint{Key: []byte(key), Context: last[i%2], Value: fmt.Append(nil, "writer ", i%2, " write ", i/2)})
			if err != nil {
				t.Fatal(err)
			}
			last[i%2] = m.Context
		}
		if got := values(p.record(key)); !slices.Equal(got, []string{"writer 0 write 9", "writer 1 write 9"}) {
			t.Errorf("record has %q", got)
		}
		if !last[1].Seen.Covers(crdt.Dot{Actor: p.Actor(), N: 18}) || last[1].Seen.Covers(crdt.Dot{Actor: p.Actor(), N: 19}) {
			t.Errorf("the second writer's context is %v", last[1].Seen)
		}
		p.stop()
	})
}

func TestTTLAndOverwrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := owner(t)
		p.put(key, "a")
		p.put(key, "b")
		m, err := p.write(replica.Mint{Key: []byte(key), Value: []byte("c"), Overwrite: true, TTL: 1500})
		if err != nil {
			t.Fatal(err)
		}
		rec := p.record(key)
		if got := values(rec); !slices.Equal(got, []string{"c"}) {
			t.Fatalf("record has %q", got)
		}
		if v := rec.Versions[0]; v.Expiry != m.Stamp.Millis()+1500 {
			t.Errorf("expires %d, written %d", v.Expiry, m.Stamp.Millis())
		}
		if _, err := p.write(replica.Mint{Key: []byte(key), Dead: true, Context: rec.Context()}); err != nil {
			t.Fatal(err)
		}
		if rec := p.record(key); len(rec.Versions) != 1 || !rec.Versions[0].Dead {
			t.Errorf("after a delete: %+v", rec)
		}
		p.digests()
		p.stop()
	})
}

// A failed sync is told as such to all that were in the group, and ends Run.
func TestFailedSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := owner(t)
		p.disk.FailNextSync()
		_, err := p.write(replica.Mint{Key: []byte(key), Value: []byte("v")})
		wantError(t, err, storage.ErrFailed)
		if p.Clock(partOf(key)).Max(p.Actor()) != 0 {
			t.Error("others see a dot that may not be durable (R2)")
		}
		wantError(t, <-p.ended, storage.ErrFailed)
		_, err = p.apply(foreign(key, stranger, 1, nil, "v"))
		wantError(t, err, storage.ErrFailed)
		p.ended <- nil
		p.crash(false)
		p.start()
		p.digests()
		p.stop()
	})
}

// Others see a dot only when it is durable (R2), though it is decided before.
func TestClockHoldsDurableDots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := owner(t)
		decided := false
		done := make(chan error, 1)
		p.Mint(replica.Mint{
			Key: []byte(key), KeyHash: hashring.KeyHash([]byte(key)), Value: []byte("v"),
			Decided: func(m *replica.Minted) {
				decided = true
				if p.Clock(partOf(key)).Contains(m.Dot) {
					t.Error("the clock holds a dot before its sync")
				}
				if b, err := p.Read(0, hashring.KeyHash([]byte(key)), []byte(key)); b != nil || err != nil {
					t.Errorf("a read shows %x, %v before the sync", b, err)
				}
			},
			Done: func(m *replica.Minted, err error) {
				if err == nil && !p.Clock(partOf(key)).Contains(m.Dot) {
					t.Error("the clock lacks an acknowledged dot")
				}
				done <- err
			},
		})
		if err := <-done; err != nil || !decided {
			t.Errorf("decided %t, %v", decided, err)
		}
		p.stop()
	})
}

// A page of a copy waits a little for a client's write, and they share a sync;
// what a client waits for does not.
func TestCopiesWaitForCompany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := owner(t)
		p.put(key, "v") // whatever else is due has been done
		apply := func(src replica.Source, n uint64) (took chan time.Duration) {
			began := time.Now()
			took = make(chan time.Duration, 1)
			p.ApplyFrom(src, 0, []wire.Entry{foreign(key, stranger, n, nil, "copied")}, func(_ int, err error) {
				if err != nil {
					t.Error(err)
				}
				took <- time.Since(began)
			})
			return took
		}
		copied := replica.Source{From: "other", Vouches: true}
		before := p.Commits().Syncs
		first := apply(copied, 1)
		time.Sleep(time.Millisecond)
		second := apply(replica.Source{From: "other"}, 2)
		a, b := <-first, <-second
		if n := p.Commits().Syncs - before; n != 1 || a-b != time.Millisecond {
			t.Errorf("%d syncs; the copy took %v, the client's %v", n, a, b)
		}
		if alone, quick := <-apply(copied, 3), <-apply(replica.Source{From: "other"}, 4); alone-quick != 3*time.Millisecond {
			t.Errorf("a copy alone took %v, a client's write %v", alone, quick)
		}
		p.stop()
	})
}
