package replica_test

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/replica"
	"github.com/atolldb/atoll/node/storage"
	"github.com/atolldb/atoll/node/storage/memstore"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/wire"
)

func (p *place) drop(part hashring.Partition) error {
	ch := make(chan error, 1)
	p.Drop(part, func(err error) { ch <- err })
	return <-ch
}

// entriesOf counts what the store has of a partition, by key space.
func (p *place) entriesOf(part hashring.Partition) map[byte]int {
	p.t.Helper()
	out := map[byte]int{}
	err := p.engine.Scan(nil, []byte{0xff}, func(kv storage.KV) bool {
		switch kv.Key[0] {
		case 'r':
			if hashring.PartitionOf(hashring.KeyHash(kv.Key[9:]), partitions) == part {
				out['r']++
			}
		case 'i', 's', 'b', 'd', 'o', 'c':
			if kv.Key[2] == byte(part) {
				out[kv.Key[0]]++
			}
		}
		return true
	})
	if err != nil {
		p.t.Fatal(err)
	}
	return out
}

// serve brings the node to serve partitions as a mover does.
func (p *place) serve(parts ...hashring.Partition) {
	p.t.Helper()
	for _, role := range []topology.Role{pending, serving} {
		roles := []topology.Role{none, none, none, none}
		for _, part := range p.Owned() {
			roles[part] = p.Topology().Role(part, "n1")
		}
		for _, part := range parts {
			roles[part] = role
		}
		p.adopt(moving(p.Topology().Epoch+1, p.Topology(), roles...))
		for _, part := range parts {
			p.CaughtUp(part, p.BehindMark(part))
		}
		p.settle()
	}
}

// leave takes the node's roles away.
func (p *place) leave() {
	p.t.Helper()
	p.adopt(moving(p.Topology().Epoch+1, p.Topology(), none, none, none, none))
}

// What is dropped is gone as a whole, and nothing else is. Its counters are
// not: when the node gets the partition again, no dot is minted twice (I10).
func TestDropAndRegain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newMover(t, memstore.Config{})
		p.serve(0, 1)
		k, other := keysIn(0, 1)[0], keysIn(1, 1)[0]
		minted := map[crdt.Dot]bool{}
		mint := func(key string) {
			t.Helper()
			m := p.put(key, "v")
			if minted[m.Dot] {
				t.Errorf("%v was minted twice", m.Dot)
			}
			minted[m.Dot] = true
		}
		for range 3 {
			mint(k)
		}
		old, oldClock := p.entry(k), p.Clock(0)
		p.put(other, "stays")
		p.mustApply(foreign(k, stranger, 1, nil, "v"))
		wantError(t, p.drop(0), replica.ErrStillOwned)
		wantError(t, p.drop(partitions), replica.ErrNotOwner)
		first := p.Actor()
		actor := first

		for round := range 3 {
			p.leave()
			if err := p.drop(0); err != nil {
				t.Fatal(err)
			}
			if err := p.drop(0); err != nil {
				t.Errorf("drop of what is gone: %v", err)
			}
			if got := p.entriesOf(0); len(got) != 1 || got['o'] != 1 || slices.Contains(p.Held(), 0) {
				t.Errorf("left of it: %v, held %v", got, p.Held())
			}
			if _, err := p.Pull(wire.Pull{Partition: 0, Clock: &crdt.Clock{}}); err == nil {
				t.Error("pulled from what is gone")
			}
			if got := p.entriesOf(1); got['r'] != 1 || got['i'] != 1 || !slices.Equal(p.Leftovers(), []hashring.Partition{1}) {
				t.Errorf("left of the other: %v, leftovers %v", got, p.Leftovers())
			}
			switch round {
			case 1:
				p.restart()
			case 2:
				p.crash(true)
				p.start()
				actor = p.Actor()
			}
			p.serve(0)
			if p.Clock(0).Max(actor) != 0 {
				t.Error("has the old clock")
			}
			// A copy brings the node's own dots back: no proof of amnesia.
			if round != 0 {
				if err := p.joinClock(0, oldClock); err != nil {
					t.Fatal(err)
				}
				p.mustApply(old, foreign(k, first, 2, nil, "an old one, again"))
			}
			mint(k)
			p.settle()
			if p.Actor() != actor {
				t.Errorf("round %d: actor %v, before %v", round, p.Actor(), actor)
			}
			p.digests()
		}
		// What it really never minted still is.
		p.mustApply(foreign(k, actor, 99, nil, "lost"))
		p.settle()
		if p.Actor() == actor {
			t.Error("no amnesia seen")
		}
		p.stop()
	})
}

// A drop goes on after a restart, and until it is through, a role that the
// topology gives is held back: nothing that is to be deleted is served, and
// nothing new is deleted.
func TestDropResumes(t *testing.T) {
	for _, end := range []string{"stop", "crash", "none"} {
		t.Run(end, func(t *testing.T) {
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
				p.disk.CorruptValue(recordKey(string(entries[700].Key)))
				p.leave()
				var got error
				told := false
				p.Drop(0, func(err error) { told, got = true, err })
				time.Sleep(15 * time.Millisecond) // some batches
				synctest.Wait()
				some := p.entriesOf2(0)
				if told || some >= 3000 || some == 0 {
					t.Fatalf("told %t, %d records left", told, some)
				}
				switch end {
				case "stop":
					p.stop()
					wantError(t, got, replica.ErrStopping)
					p.cfg.Topology = moving(20, nil, pending, none, none, none)
					p.startNow()
				case "crash":
					p.crash(true)
					p.cfg.Topology = moving(20, nil, pending, none, none, none)
					p.startNow()
				case "none":
					p.adopt(moving(20, p.Topology(), pending, none, none, none))
				}
				if p.Topology().Epoch != 20 {
					t.Fatal("held up the topology")
				}
				_, err := p.apply(foreign(string(entries[0].Key), stranger, 1, nil, "new"))
				if left := p.entriesOf2(0); left == 0 {
					t.Fatal("this test is too slow to see anything")
				}
				wantError(t, err, replica.ErrNotOwner)
				time.Sleep(time.Second)
				synctest.Wait()
				if end == "none" && (!told || got != nil) {
					t.Errorf("told %t, %v", told, got)
				}
				if left := p.entriesOf(0); left['r']+left['i']+left['d'] != 0 || left['s'] != 1 || left['b'] != 1 {
					t.Errorf("left: %v", left)
				}
				if !slices.Equal(p.Owned(), []hashring.Partition{0}) || !p.Behind(0) || len(p.Clock(0).Actors()) != 0 {
					t.Errorf("owns %v, behind %t, clock %v", p.Owned(), p.Behind(0), p.Clock(0))
				}
				p.mustApply(entries[:10]...)
				p.digests()
				p.restart()
				if got := p.entriesOf(0); got['r'] != 10 || got['i'] != 10 {
					t.Errorf("after a restart: %v", got)
				}
				p.digests()
				p.stop()
			})
		})
	}
}

// entriesOf2 counts records, also unreadable ones.
func (p *place) entriesOf2(part hashring.Partition) int {
	lo, n := []byte{'r', byte(part) << 6}, 0
	hi := []byte{'r', byte(part)<<6 + 0x3f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	for {
		err := p.engine.Scan(lo, hi, func(storage.KV) bool { n++; return true })
		bad, ok := err.(*storage.CorruptError)
		if !ok {
			return n
		}
		n++
		lo = append(slices.Clone(bad.Key), 0)
	}
}

// What has to be shipped to other regions is, before a drop.
func TestDropWaitsForTheOutbox(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlace(t, "n1", newRegistry(), memstore.Config{})
		p.cfg.Topology = moving(1, nil, none, none, none, none)
		p.cfg.Ship = true
		p.start()
		p.serve(0)
		keys := keysIn(0, 4)
		for _, k := range keys[:3] {
			p.put(k, "v")
		}
		if entries, marks := p.peek(1); len(entries) == 1 {
			p.confirm(marks) // which writes the cursor, so that the next one will not
		}
		p.leave()
		wantError(t, p.drop(0), replica.ErrUnshipped)
		p.restart() // the outbox finds them again, though there is no role
		wantError(t, p.drop(0), replica.ErrUnshipped)
		entries, marks := p.peek(1 << 20)
		if got := shipped(entries); len(got) != 2 {
			t.Fatalf("shipped %v", got)
		}
		wantError(t, p.drop(0), replica.ErrUnshipped)
		p.confirm(nil) // so that the next one is not written at once
		p.settle()
		p.confirm(marks)
		if err := p.drop(0); err != nil {
			t.Fatal(err)
		}
		p.Outbox().Rewind()
		if more, _ := p.peek(1 << 20); len(more) != 0 || p.Outbox().Pending() != 0 {
			t.Errorf("ships %v, %d pending", shipped(more), p.Outbox().Pending())
		}
		p.crash(true)
		p.start()
		p.serve(0)
		// Its own dots come back, and are not shipped again; new ones are.
		c := &crdt.Clock{}
		for _, e := range entries {
			p.mustApply(wire.Entry{Key: e.Key, Record: e.Record, Dots: e.Dots})
			for _, d := range e.Dots {
				c.Add(d)
			}
		}
		if err := p.joinClock(0, c); err != nil {
			t.Fatal(err)
		}
		p.put(keys[3], "new")
		p.Outbox().Rewind()
		entries, _ = p.peek(1 << 20)
		if got := shipped(entries); len(got) != 1 || got[keys[3]] != 1 {
			t.Errorf("shipped %v", got)
		}
		p.stop()
	})
}

// A counter that is lost would mint dots again: a clean stop vouches for it.
func TestDropVouchesForCounters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newMover(t, memstore.Config{})
		p.serve(0)
		actor := p.put(keysIn(0, 1)[0], "v").Dot.Actor
		p.leave()
		if err := p.drop(0); err != nil {
			t.Fatal(err)
		}
		p.stop()
		if !p.disk.LoseRecord([]byte{'o', 0, 0}) {
			t.Fatal("no counter was kept")
		}
		p.start()
		if p.Actor() == actor || p.Unclean() == "" {
			t.Errorf("minted as %v, again as %v", actor, p.Actor())
		}
		p.stop()
	})
}

// The region's highest actor is not forgotten with the partition that showed
// it.
func TestDropKeepsTheHighestActor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newMover(t, memstore.Config{})
		p.serve(0)
		p.mustApply(foreign(keysIn(0, 1)[0], crdt.MakeActor(40, 1), 1, nil, "a"))
		p.leave()
		if err := p.drop(0); err != nil {
			t.Fatal(err)
		}
		p.crash(true)
		p.registry.Forget()
		p.start()
		if want := crdt.MakeActor(41, 1); p.Actor() != want {
			t.Errorf("actor %v, want %v", p.Actor(), want)
		}
		p.stop()
	})
}

// A page that was being read when the partition went is no page: its clock
// would speak for records that are not in it.
func TestScanDuringDrop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlace(t, "n1", newRegistry(), memstore.Config{})
		p.cfg.Topology = moving(1, nil, none, none, none, none)
		m := &slow{}
		p.wrap = func(e storage.Engine) storage.Engine { m.Engine = e; return m }
		p.start()
		p.serve(0)
		for _, k := range keysIn(0, 5) {
			p.put(k, "v")
		}
		p.leave()
		m.hold = make(chan struct{})
		errs := make(chan error, 3)
		go func() {
			_, err := p.Scan(wire.Scan{Partition: 0, Last: 1<<64 - 1, MaxBytes: 1 << 20})
			errs <- err
		}()
		go func() {
			_, err := p.Pull(wire.Pull{Partition: 0, Clock: &crdt.Clock{}, MaxBytes: 1 << 20})
			errs <- err
		}()
		go func() {
			_, err := p.Buckets(wire.Buckets{Bits: 2})
			errs <- err
		}()
		synctest.Wait()
		hold := m.hold
		m.hold = nil
		if err := p.drop(0); err != nil {
			t.Fatal(err)
		}
		close(hold)
		for range cap(errs) {
			wantError(t, <-errs, replica.ErrNotOwner)
		}
		p.stop()
	})
}

// slow is an engine whose scans can be held up before they begin.
type slow struct {
	storage.Engine
	hold chan struct{}
}

func (s *slow) Scan(lo, hi []byte, yield func(storage.KV) bool) error {
	if hold := s.hold; hold != nil {
		<-hold
	}
	return s.Engine.Scan(lo, hi, yield)
}

// Ownership that comes and goes, with restarts, against a twin that knows what
// each partition should have.
func TestDropManyTimes(t *testing.T) {
	for seed := range 20 {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { newMoves(t, uint64(seed)).run(60) })
		})
	}
}

// A write that a crash took from here, and that a peer gave back, is shipped
// before a drop, although the outbox did not see it come.
func TestDropShipsWhatCameBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlace(t, "n1", newRegistry(), memstore.Config{})
		p.cfg.Topology = moving(1, nil, none, none, none, none)
		p.cfg.Ship = true
		p.start()
		p.serve(0)
		k := keysIn(0, 2)
		p.put(k[0], "v")
		_, marks := p.peek(1 << 20)
		p.confirm(marks)
		actor := p.Actor()
		p.crash(true)
		p.start()
		v := crdt.Version{Dot: crdt.Dot{Actor: actor, N: 2}, Stamp: 1, Value: []byte("w")}
		full := []byte(k[1])
		p.mustApply(wire.Entry{Key: full, Record: crdt.AppendRecord(nil, hashring.KeyHash(full), crdt.Write(crdt.Record{}, nil, v))})
		_, marks = p.peek(1 << 20)
		p.confirm(marks) // of what the start found
		p.leave()
		wantError(t, p.drop(0), replica.ErrUnshipped)
		entries, marks := p.peek(1 << 20)
		if got := shipped(entries); got[k[1]] != 1 {
			t.Fatalf("shipped %v", got)
		}
		p.confirm(marks)
		if err := p.drop(0); err != nil {
			t.Error(err)
		}
	})
}
