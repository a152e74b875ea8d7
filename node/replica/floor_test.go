package replica_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/replica"
	"github.com/atolldb/atoll/node/storage"
	"github.com/atolldb/atoll/node/storage/memstore"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/topology/memtopo"
	"github.com/atolldb/atoll/node/wire"
)

// past is a floor above everything that was minted, in the past.
func past() hlc.Stamp {
	time.Sleep(time.Second)
	return hlc.FromMillis(time.Now().UnixMilli() - 1)
}

func (p *place) remove(key string) *replica.Minted {
	p.t.Helper()
	m, err := p.write(replica.Mint{Key: []byte(key), Dead: true, Context: p.record(key).Context()})
	if err != nil {
		p.t.Fatal(err)
	}
	return m
}

// collect brings a partition's floor up, as a round does.
func (p *place) collect(part hashring.Partition, floor hlc.Stamp) {
	p.t.Helper()
	err := errors.Join(p.Promise(part, floor), p.Raise(part, floor), p.Complete(part, floor), p.Sweep(part))
	if err != nil {
		p.t.Fatal(err)
	}
}

func (p *place) dead(part hashring.Partition, floor hlc.Stamp) (keys []string) {
	p.t.Helper()
	err := p.Dead(part, floor, func(key []byte, _ uint64, _ crdt.Record) bool {
		keys = append(keys, string(key))
		return true
	})
	if err != nil {
		p.t.Fatal(err)
	}
	return keys
}

func (p *place) stores(key string) bool {
	_, err := p.engine.Get(recordKey(key))
	return !errors.Is(err, storage.ErrNotFound)
}

func TestFloor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := owner(t)
		defer p.stop()
		keys := keysIn(1, 3)
		for _, k := range keys {
			p.put(k, "v")
		}
		p.remove(keys[0])
		floor := past()
		p.remove(keys[1]) // above the floor
		wantError(t, p.Promise(1, hlc.FromMillis(time.Now().UnixMilli()+1)), replica.ErrFloorAhead)
		if err := p.Promise(1, floor); err != nil {
			t.Fatal(err)
		}
		wantError(t, p.Complete(1, floor), replica.ErrNotRaised)
		if err := p.Raise(1, floor); err != nil {
			t.Fatal(err)
		}
		if got := p.dead(1, floor); len(got) != 1 || got[0] != keys[0] {
			t.Fatalf("dead: %q", got)
		}
		if ok, err := p.Covers(1, []byte(keys[0]), []crdt.Dot{p.record(keys[0]).Versions[0].Dot}); !ok || err != nil {
			t.Fatal(ok, err)
		}
		if len(p.record(keys[0]).Versions) != 1 {
			t.Error("hidden before the floor is completed")
		}
		sum := p.Sum(1)
		p.collect(1, floor)
		if p.stores(keys[0]) || !p.stores(keys[1]) || !p.stores(keys[2]) {
			t.Error("wrong records are gone")
		}
		if p.Sum(1).Clock == sum.Clock {
			t.Error("other floors, the same sum")
		}
		if n := p.Stats().Collected.Load(); n != 1 {
			t.Errorf("%d collected", n)
		}
		p.digests()
		p.restart()
		if f := p.Floors(1); f != (wire.Floors{Promised: floor, Raised: floor, Completed: floor, Swept: floor}) {
			t.Errorf("after a restart: %+v", f)
		}
		p.digests()
		// The key can be written again, and an old delete of it stays away.
		if m := p.put(keys[0], "again"); m.Stamp <= floor {
			t.Errorf("minted %v below the floor %v", m.Stamp, floor)
		}
		if f := p.Floors(2); f != (wire.Floors{}) {
			t.Errorf("another partition's: %+v", f)
		}
		p.digests()
	})
}

// A crash between completion and sweep: the dead are absent, and the start goes on.
func TestSweepGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := owner(t)
		keys := keysIn(1, 2000)
		for _, k := range keys {
			p.put(k, "v")
			p.remove(k)
		}
		floor := past()
		if err := errors.Join(p.Raise(1, floor), p.Complete(1, floor)); err != nil {
			t.Fatal(err)
		}
		if p.record(keys[7]).Versions != nil || !p.stores(keys[7]) {
			t.Error("not absent before it is deleted, or deleted without a sweep")
		}
		page, err := p.Scan(wire.Scan{Partition: 1, Last: ^uint64(0), MaxBytes: 1 << 20})
		if err != nil || len(page.Entries) != 0 || page.Floors.Completed != floor {
			t.Errorf("%d entries, %+v, %v", len(page.Entries), page.Floors, err)
		}
		p.put(keys[5], "again")
		if got := p.record(keys[5]); len(got.Versions) != 1 || got.Versions[0].Dead {
			t.Errorf("a blind write beside what is absent: %v", got)
		}
		done := make(chan error, 1)
		go func() { done <- p.Sweep(1) }()
		time.Sleep(7 * time.Millisecond)
		p.crash(false)
		if err := <-done; err == nil {
			t.Error("swept within 7 ms")
		}
		p.start()
		defer p.stop()
		time.Sleep(time.Second)
		if p.stores(keys[7]) || !p.stores(keys[5]) || p.Floors(1).Swept != floor {
			t.Errorf("the start does not go on: %+v", p.Floors(1))
		}
		p.digests()
	})
}

// old is a version that another actor wrote at a time.
func old(key string, d crdt.Dot, at hlc.Stamp) crdt.Version {
	return crdt.Version{Dot: d, Stamp: at, Value: []byte("old")}
}

func message(key string, versions ...crdt.Version) wire.Entry {
	var rec crdt.Record
	for _, v := range versions {
		rec = crdt.Join(rec, crdt.Record{Versions: []crdt.Version{v}})
	}
	return wire.Entry{Key: []byte(key), Record: crdt.AppendRecord(nil, hashring.KeyHash([]byte(key)), rec)}
}

func TestLateMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var word replica.Word
		asked := 0
		p := newPlace(t, "n1", memtopo.New(1), memstore.Config{})
		p.witness = func(_ context.Context, _ hashring.Partition, except topology.NodeID, doubts []replica.Doubt) ([][]replica.Word, bool, error) {
			asked++
			if except != "n7" {
				t.Errorf("the sender %q is asked, too", except)
			}
			out := make([][]replica.Word, len(doubts))
			for i, d := range doubts {
				for range d.Dots {
					out[i] = append(out[i], word)
				}
			}
			return out, true, nil
		}
		p.start()
		defer p.stop()
		keys := keysIn(1, 10)
		floor := past()
		p.collect(1, floor)
		var known crdt.Clock
		a := crdt.MakeActor(9, 2)
		known.AddSpan(crdt.Dots{Actor: a, Span: crdt.Span{Lo: 1, Hi: 100}})
		if err := p.joinClock(1, &known); err != nil {
			t.Fatal(err)
		}
		from := func(src replica.Source, entries ...wire.Entry) error {
			src.From = "n7"
			done := make(chan error, 1)
			p.ApplyFrom(src, 0, entries, func(_ int, err error) { done <- err })
			return <-done
		}
		had, fresh := crdt.Dot{Actor: a, N: 5}, crdt.Dot{Actor: a, N: 500}
		young := crdt.Version{Dot: crdt.Dot{Actor: a, N: 600}, Stamp: floor + 1, Value: []byte("young")}
		vouched := replica.Source{Vouches: true, Floor: floor}
		whole := replica.Source{Vouches: true, Floor: floor, Whole: true}
		tests := []struct {
			what  string
			src   replica.Source
			dot   crdt.Dot
			word  replica.Word
			err   error
			old   bool // is there afterwards
			asks  int
			aside int // more than before
		}{
			{"another holds it", replica.Source{}, had, replica.Word{Holds: true}, nil, true, 1, 0},
			{"two had it", replica.Source{}, had, replica.Word{Lack: 1}, nil, false, 1, 1},
			{"only this one had it", replica.Source{}, had, replica.Word{}, replica.ErrLate, false, 1, 0},
			{"one other had it", replica.Source{}, fresh, replica.Word{Lack: 1}, replica.ErrLate, false, 1, 0},
			{"nobody knows it, nobody vouches", replica.Source{}, fresh, replica.Word{}, replica.ErrLate, false, 1, 0},
			{"nobody knows it, the sender vouches", vouched, fresh, replica.Word{}, nil, true, 1, 0},
			{"the sender's floor is lower", replica.Source{Vouches: true, Floor: floor - 1}, fresh, replica.Word{}, replica.ErrLate, false, 1, 0},
			{"vouched, and collected here", vouched, had, replica.Word{}, replica.ErrLate, false, 1, 0},
			{"full sync of what is new here", whole, crdt.Dot{Actor: a, N: 501}, replica.Word{}, nil, true, 0, 0},
			{"full sync of what was collected", whole, had, replica.Word{Lack: 2}, nil, false, 1, 1},
		}
		for i, c := range tests {
			word, asked = c.word, 0
			aside := p.AsideCount()
			if err := from(c.src, message(keys[i], old(keys[i], c.dot, floor), young)); !errors.Is(err, c.err) {
				t.Errorf("%s: %v", c.what, err)
			}
			got := p.record(keys[i])
			if (got.Find(c.dot) != nil) != c.old || (got.Find(young.Dot) != nil) != (c.err == nil) {
				t.Errorf("%s: %v", c.what, values(got))
			}
			if asked != c.asks || p.AsideCount() != aside+c.aside {
				t.Errorf("%s: asked %d times, %d more aside", c.what, asked, p.AsideCount()-aside)
			}
		}
		p.digests()
		p.restart()
		n := 0
		err := p.EachAside(nil, func(a replica.Aside) bool {
			n++
			if a.Partition != 1 || a.Record.Find(had) == nil || len(a.Record.Versions) != 1 {
				t.Errorf("side log: %+v", a)
			}
			return true
		})
		if n != 2 || p.AsideCount() != 2 || err != nil {
			t.Errorf("%d entries, %d counted, %v", n, p.AsideCount(), err)
		}
		// One after the other, by their ids; then they are forgotten.
		var after []byte
		var ids [][]byte
		for range 3 {
			err := p.EachAside(after, func(a replica.Aside) bool {
				after = a.ID()
				ids = append(ids, after)
				return false
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		if len(ids) != 2 || string(ids[0]) == string(ids[1]) {
			t.Errorf("pages: %x", ids)
		}
		for _, bad := range [][]byte{[]byte("m"), append([]byte("r"), ids[0][1:]...)} {
			if _, err := p.ForgetAside([][]byte{ids[0], bad}); !errors.Is(err, replica.ErrNoAside) {
				t.Errorf("%q is forgotten: %v", bad, err)
			}
			if err := p.EachAside(bad, nil); !errors.Is(err, replica.ErrNoAside) {
				t.Error(err)
			}
		}
		if n, err := p.ForgetAside(ids); n != 2 || err != nil || p.AsideCount() != 0 {
			t.Errorf("%d forgotten, %v, %d left", n, err, p.AsideCount())
		}
		if n, err := p.ForgetAside(ids); n != 0 || err != nil {
			t.Errorf("%d forgotten again, %v", n, err)
		}
	})
}

// A store that was rolled back meets the floor of the others.
func TestMeetFloors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := keysIn(1, 4)
		held, lost := map[string]bool{keys[0]: true}, map[string]bool{keys[1]: true}
		everybody := false
		p := newPlace(t, "n1", memtopo.New(1), memstore.Config{})
		p.cfg.Topology = rows(1, "n1 n2", "n1 n2", "n1 n2", "n1 n2")
		p.witness = func(_ context.Context, _ hashring.Partition, _ topology.NodeID, doubts []replica.Doubt) ([][]replica.Word, bool, error) {
			out := make([][]replica.Word, len(doubts))
			for i, d := range doubts {
				w := replica.Word{Holds: held[string(d.Key)]}
				if lost[string(d.Key)] {
					w.Lack = 1
				}
				for range d.Dots {
					out[i] = append(out[i], w)
				}
			}
			return out, everybody, nil
		}
		p.start()
		defer p.stop()
		p.catchUp()
		for _, k := range keys[:3] {
			p.put(k, "old")
		}
		floor := past()
		p.put(keys[3], "young")
		theirs := wire.Floors{Promised: floor, Raised: floor, Completed: floor, Swept: floor}
		wantError(t, p.MeetFloors(t.Context(), 1, theirs), replica.ErrUnsettled)
		if !p.Behind(1) || p.Floors(1).Raised != 0 {
			t.Fatal("goes on answering, or has the floor already")
		}
		everybody = true
		if err := p.MeetFloors(t.Context(), 1, theirs); err != nil {
			t.Fatal(err)
		}
		p.settle()
		if p.Floors(1) != theirs {
			t.Errorf("floors %+v", p.Floors(1))
		}
		for i, want := range []bool{true, false, true, true} {
			if p.stores(keys[i]) != want {
				t.Errorf("record %d is there: %t", i, !want)
			}
		}
		if p.AsideCount() != 1 {
			t.Errorf("%d aside", p.AsideCount())
		}
		p.digests()
		// Who has raised only completes.
		p.CaughtUp(1, p.BehindMark(1))
		p.settle()
		higher := floor + 1
		if err := errors.Join(p.Raise(1, higher), p.MeetFloors(t.Context(), 1, wire.Floors{Raised: higher, Completed: higher})); err != nil {
			t.Fatal(err)
		}
		p.settle()
		if p.Behind(1) || p.Floors(1).Swept != higher {
			t.Errorf("behind %t, %+v", p.Behind(1), p.Floors(1))
		}
	})
}
