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
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/topology/memtopo"
	"github.com/atolldb/atoll/node/wire"
)

// requestAt is the n-th request id that was made at a time.
func requestAt(at time.Time, n byte) crdt.RequestID {
	return crdt.MakeRequestID(at.UnixMilli(), [10]byte{9: n})
}

// request is one that is made now.
func request(n byte) crdt.RequestID { return requestAt(time.Now(), n) }

// once writes with a request id.
func (p *place) once(key, value string, id crdt.RequestID, ballot uint64) (*replica.Minted, error) {
	return p.write(replica.Mint{Key: []byte(key), Value: []byte(value), ID: id, Ballot: ballot})
}

func (p *place) ask(key string, id crdt.RequestID, ballot uint64) (replica.Known, error) {
	type outcome struct {
		k   replica.Known
		err error
	}
	ch := make(chan outcome, 1)
	p.Ask(replica.Ask{Key: []byte(key), KeyHash: hashring.KeyHash([]byte(key)), ID: id, Ballot: ballot},
		func(k replica.Known, err error) { ch <- outcome{k, err} })
	o := <-ch
	return o.k, o.err
}

func (p *place) mustAsk(key string, id crdt.RequestID, ballot uint64) replica.Known {
	p.t.Helper()
	k, err := p.ask(key, id, ballot)
	if err != nil {
		p.t.Fatalf("ask: %v", err)
	}
	return k
}

const someKey = "b\x00k"

// aged is an owner whose memory reaches back for longer than clients' clocks are
// off.
func aged(t testing.TB) *place {
	p := owner(t)
	time.Sleep(time.Minute)
	return p
}

// A request that comes again is the event that it was, also after restarts, also
// when others have written since, until it is forgotten; then it is refused.
func TestReplay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := aged(t)
		p.put(someKey, "before")
		id := request(1)
		first, err := p.once(someKey, "v", id, 0)
		if err != nil || first.Replayed {
			t.Fatal(first, err)
		}
		p.put(someKey, "after")
		other, err := p.once("b\x00other", "v", request(2), 0)
		if err != nil || other.Replayed {
			t.Fatal(other, err)
		}
		check := func() {
			t.Helper()
			again, err := p.once(someKey, "v", id, 0)
			if err != nil || !again.Replayed || again.Dot != first.Dot || again.Stamp != first.Stamp {
				t.Fatalf("%+v, %v; was %+v", again, err, first)
			}
			if !again.Context.Seen.Equal(first.Context.Seen) {
				t.Errorf("context %+v, was %+v", again.Context, first.Context)
			}
			if got := values(p.record(someKey)); !slices.Equal(got, []string{"before", "v", "after"}) {
				t.Fatalf("%q", got)
			}
			p.digests()
		}
		check()
		p.restart()
		check()
		p.crash(false)
		p.start()
		check()
		time.Sleep(9 * time.Minute)
		check()
		time.Sleep(2 * time.Minute)
		if _, err := p.once(someKey, "v", id, 0); err == nil {
			t.Error("a request older than the window was carried out")
		} else {
			wantError(t, err, replica.ErrRequestOld)
		}
		// One that does not say how old it is would be carried out again.
		id[6] = 0x40
		if m, err := p.once(someKey, "v", id, 0); err != nil || m.Replayed {
			t.Error(m, err)
		}
		p.stop()
	})
}

// A replay after the version was replaced, or collected as far as the record
// goes, still is one, and its context is the request's: see crdt.Context.Again.
func TestReplayOfWhatIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := aged(t)
		id := request(1)
		first, err := p.once(someKey, "v", id, 0)
		if err != nil {
			t.Fatal(err)
		}
		p.follow(someKey, "new")
		again, err := p.once(someKey, "v", id, 0)
		if err != nil || !again.Replayed || again.Dot != first.Dot || !first.Context.Seen.Covers(first.Dot) || !again.Context.Seen.Equal(nil) {
			t.Fatalf("%+v, %v", again, err)
		}
		for _, v := range p.record(someKey).Versions {
			if again.Context.Seen.Covers(v.Dot) {
				t.Errorf("the context covers %v", v.Dot)
			}
		}
		p.stop()
	})
}

// Whoever applies an event knows its request: from its minter, from the index of
// another owner, from the outbox, in a batch.
func TestRequestTravels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newPlace(t, "n1", memtopo.New(1), memstore.Config{})
		a.cfg.Ship = true
		a.start()
		b, c, d := newPlace(t, "n2", memtopo.New(2), memstore.Config{}), newPlace(t, "n3", memtopo.New(3), memstore.Config{}), newPlace(t, "n4", memtopo.New(4), memstore.Config{})
		for _, p := range []*place{b, c, d} {
			p.start()
		}
		time.Sleep(time.Minute)
		id, over := request(1), request(2)
		old, err := a.once(someKey, "v", over, 0)
		if err != nil {
			t.Fatal(err)
		}
		m, err := a.write(replica.Mint{Key: []byte(someKey), Value: []byte("w"), Context: old.Context, ID: id})
		if err != nil {
			t.Fatal(err)
		}
		plain := a.put(someKey, "without")

		b.mustApply(wire.Entry{Key: []byte(someKey), Record: m.Record, IDs: []crdt.EventID{{Dot: m.Dot, ID: id}}})
		if k := b.mustAsk(someKey, id, 7); k.Dot != m.Dot || k.Stamp != m.Stamp || len(k.Record) == 0 {
			t.Errorf("%+v", k)
		}
		// Of the write that it replaced nothing has come.
		if k := b.mustAsk(someKey, over, 7); !k.Dot.IsZero() {
			t.Errorf("%+v", k)
		}
		// By the index, through b and on; a plain write stays one.
		pull := func(to, from *place) {
			got, err := from.Pull(wire.Pull{Partition: partOf(someKey), Clock: to.Clock(partOf(someKey)), MaxBytes: 1 << 20})
			if err != nil || len(got.Entries) != 1 {
				t.Fatal(got, err)
			}
			to.mustApply(got.Entries...)
		}
		pull(b, a)
		pull(c, b)
		entries, _, err := a.Outbox().Peek(1 << 20)
		if err != nil || len(entries) != 1 {
			t.Fatal(entries, err)
		}
		a.restart() // from the index
		backlog, _, err := a.Outbox().Peek(1 << 20)
		if err != nil || len(backlog) != 1 || !slices.Equal(backlog[0].IDs, entries[0].IDs) {
			t.Fatalf("%+v, %+v, %v", backlog, entries, err)
		}
		e := entries[0]
		d.mustApply(wire.Entry{Key: e.Key, Record: e.Record, Dots: e.Dots, IDs: e.IDs})
		for i, p := range []*place{b, c, d} {
			for _, ask := range []struct {
				id  crdt.RequestID
				dot crdt.Dot
			}{{id, m.Dot}, {over, old.Dot}} {
				if k := p.mustAsk(someKey, ask.id, 8); k.Dot != ask.dot {
					t.Errorf("owner %d: %+v, not %v", i, k, ask.dot)
				}
			}
			if !p.Clock(partOf(someKey)).Contains(plain.Dot) {
				t.Errorf("owner %d lacks the plain write", i)
			}
		}
		for _, p := range []*place{a, b, c, d} {
			p.digests()
			p.stop()
		}
	})
}

// An owner is sure of what was asked for since its memory began: that is when it
// began to hold the partition, when it lost its disk or stopped uncleanly, when
// the owners changed; and only of what says when it was made, lately.
func TestMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlace(t, "n1", memtopo.New(1), memstore.Config{})
		p.start()
		check := func(what string, id crdt.RequestID, want bool) {
			t.Helper()
			if got := p.mustAsk(someKey, id, 1).Sure; got != want {
				t.Errorf("%s: sure %v", what, got)
			}
		}
		n := byte(0)
		// fresh is a request of which the owner is sure.
		fresh := func() crdt.RequestID {
			t.Helper()
			time.Sleep(replica.RequestAhead + time.Second)
			n++
			id := request(n)
			check("made just now", id, true)
			return id
		}
		check("made before the disk was", request(n), false)
		id := fresh()
		p.restart()
		check("made before a clean restart", id, true)
		p.crash(false)
		p.start()
		check("made before a crash", id, false)
		id = fresh()
		done := make(chan error, 1)
		next := rows(2, "n1", "n1", "n1", "n1")
		p.Adopt(next, func(err error) { done <- err })
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		check("made before a change of others", id, true)
		p.stop()
		if err := p.disk.Wipe(); err != nil {
			t.Fatal(err)
		}
		p.start()
		check("made before the disk was wiped", id, false)
		id = fresh()
		random := id
		random[6] = 0x40
		check("of no time", random, false)
		check("ahead", requestAt(time.Now().Add(time.Minute), 100), false)
		time.Sleep(replica.RequestWindow + time.Second)
		check("old", id, false)
		p.stop()
	})
}

// A first attempt is not minted by an owner that an earlier retry may not have asked,
// or that has lost what it left: until then all are told to go elsewhere.
func TestNewcomerMintsLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlace(t, "n1", memtopo.New(1), memstore.Config{})
		p.start()
		n := byte(0)
		mints := func(what string, id crdt.RequestID, want error) {
			t.Helper()
			if _, err := p.once(someKey, "v", id, 0); !errors.Is(err, want) {
				t.Errorf("%s: %v, not %v", what, err, want)
			}
		}
		fresh := func() crdt.RequestID {
			n++
			return request(n)
		}
		adopt := func(epoch topology.Epoch, owners string) {
			t.Helper()
			done := make(chan error, 1)
			p.Adopt(rows(epoch, owners, owners, owners, owners), func(err error) { done <- err })
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
		caughtUp := func() {
			t.Helper()
			for _, part := range p.Owned() {
				p.CaughtUp(part, p.BehindMark(part))
			}
			synctest.Wait()
		}
		mints("the only owner of a region that begins", fresh(), nil)
		p.crash(false)
		p.start()
		mints("after a crash it has its fences", fresh(), nil)
		adopt(2, "n1 n2")
		mints("another owner more", fresh(), nil)
		adopt(3, "n2")
		adopt(4, "n2 n1")
		caughtUp()
		early := fresh()
		mints("it begins again", early, replica.ErrNewcomer)
		if m, err := p.once(someKey, "v", fresh(), 9); !errors.Is(err, replica.ErrFenced) {
			t.Errorf("%+v, %v: a retry that has not asked", m, err)
		}
		asked := fresh()
		p.mustAsk(someKey, asked, 9)
		if _, err := p.once(someKey, "v", asked, 9); err != nil {
			t.Errorf("a retry that has asked: %v", err)
		}
		time.Sleep(replica.RequestAhead + time.Second)
		mints("made before it began", early, replica.ErrNewcomer)
		mints("made since", fresh(), nil)
		p.restart()
		mints("made before, and it was restarted", early, replica.ErrNewcomer)
		random := fresh()
		random[6] = 0x40
		mints("of no time, of which no retry is sure", random, nil)
		p.stop()
		if err := p.disk.Wipe(); err != nil {
			t.Fatal(err)
		}
		before := fresh()
		p.start()
		caughtUp()
		mints("its disk was wiped, and it has nothing", before, nil) // as a region that begins
		p.stop()
	})
}

// Word of a request that comes after the event is heard all the same.
func TestLateWord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, from := aged(t), newPlace(t, "n2", memtopo.New(2), memstore.Config{})
		from.start()
		id := request(1)
		m, err := from.once(someKey, "v", id, 0)
		if err != nil {
			t.Fatal(err)
		}
		p.mustApply(wire.Entry{Key: []byte(someKey), Record: m.Record})
		if k := p.mustAsk(someKey, id, 2); !k.Dot.IsZero() {
			t.Errorf("%+v", k)
		}
		p.mustApply(wire.Entry{Key: []byte(someKey), Record: m.Record, IDs: []crdt.EventID{{Dot: m.Dot, ID: id}}})
		if k := p.mustAsk(someKey, id, 2); k.Dot != m.Dot || k.Stamp != m.Stamp {
			t.Errorf("%+v", k)
		}
		p.stop()
		from.stop()
	})
}

// A fence lets only the attempt mint that has left it, and none of a lower
// ballot leaves one; an event ends it, wherever that comes from.
func TestFence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := aged(t)
		id := request(1)
		if k := p.mustAsk(someKey, id, 5); !k.Sure || k.Higher {
			t.Errorf("%+v", k)
		}
		refused := func(ballot uint64, want error) {
			t.Helper()
			_, err := p.once(someKey, "v", id, ballot)
			wantError(t, err, want)
		}
		refused(0, replica.ErrFenced)
		refused(4, replica.ErrFenced)
		refused(6, replica.ErrFenced)
		if k := p.mustAsk(someKey, id, 4); !k.Higher {
			t.Errorf("%+v", k)
		}
		if k := p.mustAsk(someKey, id, 5); k.Higher {
			t.Errorf("the same again: %+v", k)
		}
		if k := p.mustAsk(someKey, id, 6); k.Higher {
			t.Errorf("%+v", k)
		}
		refused(5, replica.ErrFenced)
		p.restart()
		refused(0, replica.ErrFenced)
		m, err := p.once(someKey, "v", id, 6)
		if err != nil || m.Replayed {
			t.Fatal(m, err)
		}
		if k := p.mustAsk(someKey, id, 7); k.Dot != m.Dot {
			t.Errorf("%+v", k)
		}
		if again, err := p.once(someKey, "v", id, 0); err != nil || !again.Replayed {
			t.Error(again, err)
		}
		ended := request(2)
		p.mustAsk(someKey, ended, replica.Forbid)
		for _, ballot := range []uint64{0, 1, replica.Forbid - 1} {
			_, err := p.once(someKey, "v", ended, ballot)
			wantError(t, err, replica.ErrForbidden)
		}
		if k := p.mustAsk(someKey, ended, 9); !k.Higher {
			t.Errorf("%+v", k)
		}
		// An event that happened elsewhere is no matter of fences.
		dot := crdt.Dot{Actor: 129, N: 1}
		e := foreign(someKey, dot.Actor, dot.N, nil, "x")
		e.IDs = []crdt.EventID{{Dot: dot, ID: ended}}
		p.mustApply(e)
		if again, err := p.once(someKey, "v", ended, 0); err != nil || again.Dot != dot {
			t.Error(again, err)
		}
		p.stop()
	})
}

// Words about events that a message does not deliver are refused.
func TestRequestOfNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := owner(t)
		e := foreign(someKey, 129, 1, nil, "x")
		e.IDs = []crdt.EventID{{Dot: crdt.Dot{Actor: 129, N: 2}, ID: request(1)}}
		_, err := p.apply(e)
		wantError(t, err, wire.ErrMalformed)
		p.stop()
	})
}
