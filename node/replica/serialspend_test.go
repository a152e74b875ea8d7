package replica_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/cas"
	"github.com/atolldb/atoll/node/replica"
	"github.com/atolldb/atoll/node/storage"
	"github.com/atolldb/atoll/node/storage/memstore"
	"github.com/atolldb/atoll/node/topology/memtopo"
	"github.com/atolldb/atoll/node/wire"
)

func stateKey(key string) []byte {
	k := recordKey(key)
	k[0] = 'p'
	return k
}

func (p *place) hasState(key string) bool {
	_, err := p.engine.Get(stateKey(key))
	return !errors.Is(err, storage.ErrNotFound)
}

// retire runs a round's part in what consensus keeps.
func (p *place) retire(part hashring.Partition, floor hlc.Stamp) error {
	return errors.Join(p.Promise(part, floor), p.Raise(part, floor), p.Complete(part, floor), p.Sweep(part), p.Spend(part, floor))
}

// A state ends with the round whose floor it is below, whether its key is deleted or
// not. Not before all is decided, and what it had promised outlives it, and a crash.
func TestSpendStates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlace(t, "n1", memtopo.New(1), memstore.Config{})
		p.start()
		keys := keysIn(1, 3)
		b := cas.At(time.Now().UnixMilli())
		gone, lives, young := keys[0], keys[1], keys[2]
		for i, k := range keys[:2] {
			if out, err := p.serial(k, true, accept(proposal(b+cas.Ballot(i), "1", nil)), commit(b+cas.Ballot(i))); err != nil || out[1].Event.IsZero() {
				t.Fatalf("%+v, %v", out, err)
			}
		}
		d := proposal(b+2<<16, "", crdt.VV{{Actor: crdt.BallotActor(1, 0), N: uint64(b)}})
		d.Record.Versions[0].Dead = true
		if _, err := p.serial(gone, true, accept(d)); err != nil {
			t.Fatal(err)
		}
		floor := past()
		if err := p.Raise(1, floor); !errors.Is(err, replica.ErrUndecided) {
			t.Fatalf("raised over what is undecided: %v", err)
		}
		if keys := p.Undecided(1, floor); len(keys) != 1 || string(keys[0]) != gone {
			t.Errorf("undecided are %q", keys)
		}
		if len(p.Undecided(2, floor)) > 0 || len(p.Undecided(1, hlc.FromMillis(b.Millis()-1))) > 0 {
			t.Error("what is undecided is so in another partition, or was earlier")
		}
		if _, err := p.serial(gone, true, commit(d.Ballot)); err != nil {
			t.Fatal(err)
		}
		if _, err := p.serial(young, true, accept(proposal(cas.At(time.Now().UnixMilli()), "1", nil))); err != nil {
			t.Fatal(err)
		}
		if err := p.retire(1, floor); err != nil {
			t.Fatal(err)
		}
		if p.stores(gone) || p.hasState(gone) || p.hasState(lives) || !p.stores(lives) || !p.hasState(young) {
			t.Errorf("left are the state of what is gone: %v, of what lives: %v, of what is young: %v", p.hasState(gone), p.hasState(lives), p.hasState(young))
		}
		if n := p.Stats().SerialSpent.Load(); n != 2 {
			t.Errorf("%d states counted", n)
		}
		for range 2 {
			for _, k := range []string{gone, lives} {
				out, err := p.serial(k, false, accept(proposal(b+1<<16, "late", nil)), cas.Message{Verb: cas.Prepare, Ballot: b + 3<<16})
				if err != nil || out[0].Verdict != cas.Outbid || out[1].Verdict != cas.Outbid || out[1].Promised < d.Ballot {
					t.Errorf("what was promised for %q is forgotten: %+v, %v", k, out, err)
				}
			}
			p.crash(false)
			p.start()
		}
		// Who takes its slot over learns what it refuses.
		page, err := p.SerialStates(wire.SerialStates{Partition: 1, First: 0, Last: 1<<64 - 1, MaxBytes: 1 << 20})
		if err != nil || len(page.States) != 1 || cas.Ballot(page.Min) <= d.Ballot {
			t.Errorf("%d states, lowest ballot %x, %v", len(page.States), page.Min, err)
		}
		q := newPlace(t, "n1", memtopo.New(2), memstore.Config{})
		q.start()
		if err := q.TakeSerial(t.Context(), 1, serveStates(p)); err != nil {
			t.Fatal(err)
		}
		if out, err := q.serial(gone, false, cas.Message{Verb: cas.Prepare, Ballot: d.Ballot + 1}); err != nil || out[0].Verdict != cas.Outbid {
			t.Errorf("the next owner promises what this one has outlived: %+v, %v", out, err)
		}
		out, err := p.serial(gone, false, cas.Message{Verb: cas.Prepare, Ballot: cas.At(time.Now().UnixMilli())})
		if err != nil || out[0].Verdict != cas.OK {
			t.Errorf("a new ballot: %+v, %v", out, err)
		}
		p.crash(false)
		q.crash(false)
	})
}

// serveStates asks p for its acceptor states.
func serveStates(p *place) func(context.Context, []byte) ([]byte, error) {
	return func(_ context.Context, body []byte) ([]byte, error) {
		m, err := wire.DecodeSerialStates(body)
		if err != nil {
			return nil, err
		}
		page, err := p.SerialStates(m)
		return wire.AppendSerialPage(nil, &page), err
	}
}

// An acceptor state that is unreadable has its owner take part in nothing before it
// has caught up with the others; then it refuses every ballot that it may have
// promised something for.
func TestUnreadableAcceptorState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlace(t, "n1", memtopo.New(1), memstore.Config{})
		p.cfg.Topology = rows(1, "n1", "n1 n2 n3", "n1", "n1")
		p.cfg.Topology.Rules.Replicas = 3
		p.start()
		p.CaughtUp(1, p.BehindMark(1))
		synctest.Wait()
		k := keysIn(1, 1)[0]
		b := cas.At(time.Now().UnixMilli()) + 600<<16
		time.Sleep(time.Second)
		if out, err := p.serial(k, true, accept(proposal(b, "1", nil))); err != nil || out[0].Verdict != cas.OK {
			t.Fatalf("%+v, %v", out, err)
		}
		if !p.disk.CorruptValue(stateKey(k)) {
			t.Fatal("there is no state")
		}
		if _, err := p.SerialStates(wire.SerialStates{Partition: 1, First: 0, Last: 1<<64 - 1, MaxBytes: 1 << 20}); !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("an unreadable state is handed on: %v", err)
		}
		synctest.Wait()
		if p.BehindMark(1) == 0 || p.hasState(k) || p.Stats().SerialUnreadable.Load() == 0 {
			t.Fatalf("behind %d, state there: %v, counted %d", p.BehindMark(1), p.hasState(k), p.Stats().SerialUnreadable.Load())
		}
		if _, err := p.serial(k, false, cas.Message{Verb: cas.Prepare, Ballot: b + 1<<16}); !errors.Is(err, replica.ErrBehind) {
			t.Errorf("who does not know what it promised takes part: %v", err)
		}
		p.CaughtUp(1, p.BehindMark(1))
		synctest.Wait()
		// Up to what could have been promised before, and for as long.
		for _, old := range []cas.Ballot{b + 1, cas.At(time.Now().UnixMilli() + 399)} {
			out, err := p.serial(k, false, cas.Message{Verb: cas.Prepare, Ballot: old}, accept(proposal(old, "2", nil)))
			if err != nil || slices.ContainsFunc(out, func(a replica.SerialAnswer) bool { return a.Verdict != cas.Outbid }) {
				t.Errorf("a ballot that may be below a forgotten promise: %+v, %v", out, err)
			}
		}
		p.crash(false)
		p.start()
		out, err := p.serial(k, false, cas.Message{Verb: cas.Prepare, Ballot: b + 1<<16})
		if err == nil && out[0].Verdict != cas.Outbid {
			t.Errorf("after a crash: %+v", out)
		}
		p.CaughtUp(1, p.BehindMark(1))
		time.Sleep(2 * time.Second)
		out, err = p.serial(k, false, cas.Message{Verb: cas.Prepare, Ballot: cas.At(time.Now().UnixMilli())})
		if err != nil || out[0].Verdict != cas.OK {
			t.Errorf("when it is over: %+v, %v", out, err)
		}
		p.crash(false)
	})
}

// Without others nobody can tell what an unreadable state said: it stays refused.
func TestUnreadableAcceptorStateAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlace(t, "n1", memtopo.New(1), memstore.Config{})
		p.start()
		k := keysIn(1, 1)[0]
		b := cas.At(time.Now().UnixMilli())
		if _, err := p.serial(k, true, accept(proposal(b, "1", nil))); err != nil {
			t.Fatal(err)
		}
		p.disk.CorruptValue(stateKey(k))
		for range 2 {
			if _, err := p.serial(k, false, cas.Message{Verb: cas.Prepare, Ballot: b + 1<<16}); !errors.Is(err, storage.ErrCorrupt) {
				t.Errorf("an unreadable state: %v", err)
			}
			synctest.Wait()
		}
		if p.BehindMark(1) != 0 {
			t.Error("behind nobody")
		}
		p.crash(false)
	})
}
