package repair_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/wire"
)

// moving says how far the hand-over of p's slot of from to to is.
func (w *world) moving(p hashring.Partition, from, to topology.NodeID, stage topology.Stage) {
	w.t.Helper()
	w.change(0, func(t *topology.Topology) {
		t.Tasks = []topology.Task{{ID: 1, Kind: topology.KindRebalance, Moves: 1, Begun: 1}}
		t.Moves = []topology.Move{{
			ID: 1, Task: 1, Partition: p, From: from, To: to, Stage: stage, Began: t.Epoch,
			Slot: slices.Index(t.Owners(p), string(from)),
		}}
		w.touch(t, p)
	})
}

// moved ends the hand-over.
func (w *world) moved(p hashring.Partition, from, to topology.NodeID) {
	w.t.Helper()
	w.change(0, func(t *topology.Topology) {
		t.Moves = nil
		rows := make([][]string, t.Table.Partitions())
		for q, owners := range t.Table.All() {
			rows[q] = slices.Clone(owners)
			if q == p {
				rows[q][slices.Index(owners, string(from))] = string(to)
			}
		}
		t.Table = hashring.MakeTable(rows)
		w.touch(t, p)
	})
}

func (w *world) touch(t *topology.Topology, p hashring.Partition) {
	if t.Since == nil {
		t.Since = slices.Repeat([]topology.Epoch{1}, t.Table.Partitions())
	}
	t.Since[p] = t.Epoch
}

// copyAll is what the copier of a hand-over does.
func (w *world) copyAll(p hashring.Partition, from, to *member) {
	w.t.Helper()
	mark := to.BehindMark(p)
	page, err := from.Scan(wire.Scan{Partition: p, Last: 1<<64 - 1, MaxBytes: 1 << 20})
	if err != nil {
		w.t.Fatal(err)
	}
	if err := to.take(page.Entries...); err != nil {
		w.t.Fatal(err)
	}
	done := make(chan error, 1)
	to.JoinClock(p, page.Clock, func(err error) { done <- err })
	if err := <-done; err != nil {
		w.t.Fatal(err)
	}
	to.CaughtUp(p, mark)
	w.pass(0)
}

// Who compares with whom follows the stages of a move.
func TestMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.startAll()
		p := hashring.Partition(3)
		a, b, c := w.nodes["a1"], w.nodes["a2"], w.nodes["a3"]
		keys := keysIn(p, 6)
		a.write(keys[0], "before")
		w.pass(5 * time.Second)

		d := w.join(0, "a4")
		w.pass(5 * time.Second)
		if n := d.wire.askedOf("a1") + d.wire.askedOf("a2"); n != 0 {
			t.Errorf("a node without partitions asked %d times", n)
		}

		w.moving(p, c.id, d.id, topology.Copying)
		a.write(keys[1], "copying")
		// A write that only the new owner has got.
		lone := entryOf(t, a, keys[1])
		lone.Key = fullKey(keys[2])
		lone.Record = recordOf(keys[2], crdt.Version{Dot: crdt.Dot{Actor: crdt.MakeActor(9, 1), N: 1}, Stamp: 1, Value: []byte("lone")})
		if err := d.take(lone); err != nil {
			t.Fatal(err)
		}
		w.pass(5 * time.Second)
		for _, m := range []*member{a, b, c} {
			if m.has(keys[1]) != "copying" || m.has(keys[2]) != "lone" {
				t.Errorf("%s has %q and %q", m.id, m.has(keys[1]), m.has(keys[2]))
			}
		}
		if d.Clock(p).Covers(a.Clock(p)) || d.repair.Stats().PulledKeys.Load() != 0 {
			t.Error("repair does the copier's work")
		}
		w.copyAll(p, a, d)

		w.moving(p, c.id, d.id, topology.Switched)
		a.write(keys[3], "switched")
		w.pass(5 * time.Second)
		for _, m := range []*member{a, b, d} {
			if m.has(keys[3]) != "switched" || m.has(keys[0]) != "before" {
				t.Errorf("%s has %q and %q", m.id, m.has(keys[3]), m.has(keys[0]))
			}
		}
		if !c.Clock(p).Covers(a.Clock(p)) {
			t.Error("who leaves does not follow any more, and is not gone yet")
		}

		w.moved(p, c.id, d.id)
		w.pass(5 * time.Second)
		a.write(keys[4], "after")
		a.wire.reset()
		w.pass(5 * time.Second)
		if d.has(keys[4]) != "after" || b.has(keys[4]) != "after" {
			t.Errorf("the new owner has %q", d.has(keys[4]))
		}
		if c.Clock(p).Covers(a.Clock(p)) {
			t.Error("a former owner still follows")
		}
		w.equal()
		// They share other partitions, so they still meet.
		if a.wire.askedOf(c.id) == 0 {
			t.Error("a1 does not compare itself with a3 at all")
		}
	})
}

// A wiped node catches up with those who serve: it does not wait for an owner
// that is still to be, nor for one that has left the slot.
func TestCatchUpDuringMoves(t *testing.T) {
	for name, stage := range map[string]topology.Stage{"copying": topology.Copying, "switched": topology.Switched} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 1)
				w.startAll()
				p := hashring.Partition(3)
				a, b, c := w.nodes["a1"], w.nodes["a2"], w.nodes["a3"]
				key := keysIn(p, 1)[0]
				a.write(key, "v")
				w.pass(5 * time.Second)
				d := w.join(0, "a4")
				w.moving(p, c.id, d.id, topology.Copying)
				w.copyAll(p, a, d)
				serves, not := c, d
				if stage == topology.Switched {
					w.moving(p, c.id, d.id, topology.Switched)
					serves, not = d, c
				}
				b.halt()
				serves.halt()
				not.halt()
				if err := b.disk.Wipe(); err != nil {
					t.Fatal(err)
				}
				b.back()
				w.pass(10 * time.Second)
				if !b.Behind(p) {
					t.Error("answers without having met a server of the slot")
				}
				serves.back()
				w.pass(5 * time.Second)
				if b.Behind(p) || b.has(key) != "v" {
					t.Errorf("still behind: %v; has %q", b.Behind(p), b.has(key))
				}
			})
		})
	}
}

// An owner that comes and one that goes: what was known of who stays is kept,
// and a node that is a member without partitions costs nothing.
func TestMembersComeAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.startAll()
		a, c := w.nodes["a1"], w.nodes["a3"]
		d := w.join(0, "a4")
		for p := range hashring.Partition(partitions) {
			w.moving(p, c.id, d.id, topology.Copying)
			w.copyAll(p, a, d)
			w.moving(p, c.id, d.id, topology.Switched)
			w.moved(p, c.id, d.id)
		}
		w.pass(3 * time.Second)
		for _, m := range w.all() {
			m.wire.reset()
		}
		a.write("k", "v")
		w.pass(5 * time.Second)
		if d.has("k") != "v" {
			t.Errorf("the new owner has %q", d.has("k"))
		}
		if n := a.wire.askedOf(c.id) + d.wire.askedOf(c.id); n != 0 || a.wire.askedOf(d.id) == 0 {
			t.Errorf("asked who owns nothing %d times, the new owner %d times", n, a.wire.askedOf(d.id))
		}
		if n := len(c.wire.asked); n != 0 {
			t.Errorf("who owns nothing asks %d nodes", n)
		}
		w.equal()
	})
}

func recordOf(key string, v crdt.Version) []byte {
	return crdt.AppendRecord(nil, hashring.KeyHash(fullKey(key)), crdt.Record{Versions: []crdt.Version{v}})
}
