package hint_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/hint"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/storage/memstore"
	"github.com/atolldb/atoll/node/topology"
)

// moved is a topology in which another node has taken over slot 0 of a key's
// partition, and the one that had it is out.
func (w *world) moved(k string, to topology.NodeID) *topology.Topology {
	p := partition(k)
	t := w.top.Clone()
	t.Epoch++
	t.Since = slices.Repeat([]topology.Epoch{1}, parts)
	t.Since[p] = t.Epoch
	rows := make([][]string, parts)
	for q, owners := range t.Table.All() {
		rows[q] = slices.Clone(owners)
	}
	rows[p][0] = string(to)
	t.Table = hashring.MakeTable(rows)
	return t
}

// A hint follows its partition: when its owner is out, all who have it now must
// have the hint before it is deleted (H2), the node that keeps it among them.
func TestFollowsThePartition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, hint.Config{Beat: time.Minute}, memstore.Config{})
		owners, s := w.roles("k")
		gone, b, c := owners[0].id, owners[1].id, owners[2].id
		w.away(gone, true)
		w.mustKeep(s, gone, write("k", minter, 1, "v", nil))
		time.Sleep(5 * time.Minute)
		if n, _ := s.owes(); n != 1 {
			t.Fatalf("%d hints", n)
		}
		w.away(c, true)
		w.adopt(w.moved("k", s.id)) // the keeper itself has taken over
		time.Sleep(5 * time.Minute)
		w.settle()
		if n, _ := s.owes(); n != 1 {
			t.Errorf("deleted before %s has it", c)
		}
		for _, n := range []*node{s, w.nodes[b]} {
			if len(n.held("k").Versions) != 1 {
				t.Errorf("%s does not have it", n.id)
			}
		}
		w.away(c, false)
		time.Sleep(time.Minute)
		w.settle()
		if n, _ := s.owes(); n != 0 || len(w.nodes[c].held("k").Versions) != 1 {
			t.Errorf("%d hints are left", n)
		}
		if n := w.nodes[gone].got.Load(); n != 0 {
			t.Errorf("%d sent to who is out", n)
		}
	})
}

// Who leaves stands in for nobody any more, also for those who do not know yet that it
// does, and hands over what it has; an abort makes it one who stays.
func TestWhoLeavesTakesNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, hint.Config{}, memstore.Config{SyncMin: 20 * time.Millisecond})
		time.Sleep(time.Second)
		owners, s := w.roles("k")
		o := owners[0].id
		w.away(o, true)
		w.mustKeep(s, o, write("k", minter, 1, "v", nil))
		become := func(state topology.State) *topology.Topology {
			next := w.top.Clone()
			next.Epoch++
			next.Member(s.id).State = state
			return next
		}
		leaves, before := become(topology.Draining), w.top.Epoch
		var grouped error
		s.hints.Keep(before, o, write("k", minter, 2, "v", nil), func(error) {}) // it syncs
		synctest.Wait()
		s.replica.Adopt(leaves, func(error) {})
		s.hints.Keep(before, o, write("k", minter, 3, "v", nil), func(err error) { grouped = err })
		w.settle()
		if !errors.Is(grouped, hint.ErrLeaving) {
			t.Errorf("one that was decided with the change counts: %v", grouped)
		}
		w.adopt(leaves)
		var no *peer.Refusal
		if err := w.keepAt(s, before, o, write("k", minter, 4, "v", nil)); !errors.As(err, &no) || no.Code != peer.CodeFull {
			t.Errorf("who leaves says %v", err)
		}
		if kept := s.hints.Owners(); !slices.Equal(kept, []topology.NodeID{o}) {
			t.Errorf("it keeps hints for %v", kept)
		}
		w.away(o, false)
		w.settle()
		time.Sleep(10 * time.Second)
		if kept := s.hints.Owners(); len(kept) > 0 || len(w.nodes[o].held("k").Versions) == 0 {
			t.Errorf("it keeps hints for %v", kept)
		}
		w.adopt(become(topology.Up))
		w.away(o, true)
		w.mustKeep(s, o, write("k", minter, 5, "v", nil))
	})
}

// A hint that was sent by a topology which is too old does not count (H4), also
// when the newer one comes between the hint's arrival and its sync.
func TestFenced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, hint.Config{}, memstore.Config{SyncMin: 20 * time.Millisecond})
		time.Sleep(time.Second)
		owners, s := w.roles("k")
		next := w.moved("k", s.id)
		results := map[string]error{}
		keep := func(name string, n uint64, epoch topology.Epoch) {
			s.hints.Keep(epoch, owners[0].id, write("k", minter, n, "v", nil), func(err error) { results[name] = err })
		}
		// The first one syncs; what comes meanwhile is one group.
		keep("before", 1, 1)
		synctest.Wait()
		keep("in the group, before", 2, 1)
		s.replica.Adopt(next, func(err error) {
			if err != nil {
				t.Error(err)
			}
		})
		keep("in the group, behind", 3, 1)
		keep("in the group, new", 4, 2)
		time.Sleep(time.Second)
		keep("after", 5, 1)
		keep("after, new", 6, 2)
		keep("after, not fenced", 7, 0)
		time.Sleep(time.Second)
		w.settle()
		for name, stale := range map[string]bool{
			"before": false, "in the group, behind": true, "in the group, new": false,
			"after": true, "after, new": false, "after, not fenced": false,
		} {
			err, ok := results[name]
			if !ok || (err != nil) != stale {
				t.Errorf("%s: answered %t: %v", name, ok, err)
			}
		}
		// This one may count or not; it must not be both refused and forgotten.
		if _, ok := results["in the group, before"]; !ok {
			t.Error("no answer")
		}
		var no *peer.Refusal
		if err := w.keepAt(s, 1, owners[0].id, write("k", minter, 8, "v", nil)); !errors.As(err, &no) || no.Code != peer.CodeStaleEpoch {
			t.Errorf("%v", err)
		}
	})
}

// What comes for a key while its hint is being handed over stays until it was
// handed over, too.
func TestMoreComesMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, hint.Config{Beat: time.Minute}, memstore.Config{})
		owners, s := w.roles("k")
		o := owners[0]
		w.mustKeep(s, o.id, write("k", minter, 1, "v", nil))
		s.hints.Up(o.id)
		synctest.Wait() // it was read, and is on its way
		w.mustKeep(s, o.id, write("k", minter, 2, "w", nil))
		w.settle()
		if n, _ := s.owes(); n != 1 {
			t.Errorf("%d hints after the first was handed over", n)
		}
		if n := len(o.held("k").Versions); n != 1 {
			t.Errorf("the owner has %d versions: the test did not meet the moment", n)
		}
		time.Sleep(61 * time.Second)
		w.settle()
		if n, _ := s.owes(); n != 0 || len(o.held("k").Versions) != 2 {
			t.Errorf("%d hints are left", n)
		}
	})
}

// An owner that refuses keeps its hints waiting, and does not hold up others.
func TestOwnerThatRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, hint.Config{Beat: time.Second}, memstore.Config{})
		owners, s := w.roles("k")
		a, b := owners[0], owners[1]
		a.refuse.Store(&peer.Refusal{Code: peer.CodeFull})
		w.mustKeep(s, a.id, write("k", minter, 1, "v", nil))
		w.mustKeep(s, b.id, write("k", minter, 1, "v", nil))
		time.Sleep(5 * time.Second)
		w.settle()
		if owed := s.hints.Owed(); len(owed) != 1 || owed[0].Owner != a.id {
			t.Errorf("%+v", owed)
		}
		a.refuse.Store(nil)
		time.Sleep(2 * time.Second)
		w.settle()
		if n, _ := s.owes(); n != 0 || len(a.held("k").Versions) != 1 || len(b.held("k").Versions) != 1 {
			t.Errorf("%d hints are left", n)
		}
	})
}

// A hint that became unreadable is counted and stays where it is; the others go.
func TestUnreadable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, hint.Config{Beat: time.Second}, memstore.Config{})
		owners, s := w.roles("k")
		o := owners[0].id
		w.away(o, true)
		var keys []string
		for i := 0; len(keys) < 5; i++ {
			k := fmt.Sprint("k", i)
			if takers, standIn := w.roles(k); standIn == s && takers[0].id == o {
				keys = append(keys, k)
				w.mustKeep(s, o, write(k, minter, uint64(i+1), "v", nil))
			}
		}
		s.end()
		s.disk.CorruptValue(storedKey(o, keys[2]))
		s = w.start(s.id, s.disk)
		w.settle()
		if n, _ := s.owes(); n != 4 || s.hints.Stats().Unreadable.Load() != 1 {
			t.Errorf("%d hints, %d unreadable", n, s.hints.Stats().Unreadable.Load())
		}
		w.away(o, false)
		time.Sleep(10 * time.Second)
		w.settle()
		for i, k := range keys {
			if n := len(w.nodes[o].held(k).Versions); (n == 1) != (i != 2) {
				t.Errorf("%s: %d versions", k, n)
			}
		}
		if n, b := s.owes(); n != 0 || b != 0 {
			t.Errorf("%d hints of %d bytes are left", n, b)
		}
	})
}

// Handing over keeps to its pace.
func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, hint.Config{Beat: time.Hour, BytesPerSecond: 100 << 10}, memstore.Config{})
		owners, s := w.roles("k")
		o := owners[0].id
		w.away(o, true)
		n := 0
		for i := 0; n < 100; i++ {
			k := fmt.Sprint("k", i)
			if takers, standIn := w.roles(k); standIn == s && takers[0].id == o {
				n++
				w.mustKeep(s, o, write(k, minter, uint64(i+1), string(make([]byte, 10<<10)), nil))
			}
		}
		w.away(o, false)
		began := time.Now()
		for count := n; count > 0; count, _ = s.owes() {
			time.Sleep(100 * time.Millisecond)
			if time.Since(began) > time.Minute {
				t.Fatal("not handed over in a minute")
			}
		}
		// 1000 KiB in messages of 256.
		if took := time.Since(began); took < 8*time.Second || took > 12*time.Second {
			t.Errorf("1000 KiB at 100 KiB/s took %v", took)
		}
	})
}

// Whatever was voted for comes home (H1, H2): owners come and go, the node that
// keeps the hints restarts and crashes, and in the end each owner has all.
func TestWhatCountedComesHome(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rng := rand.New(rand.NewPCG(seed, 1))
				w := newWorld(t, hint.Config{Beat: time.Second, BytesPerSecond: 64 << 10},
					memstore.Config{Seed: seed, SyncMin: time.Millisecond, SyncMax: 20 * time.Millisecond})
				_, s := w.roles("k")
				type vote struct {
					k     string
					owner topology.NodeID
					dot   crdt.Dot
				}
				var votes []vote
				for i := range 300 {
					switch rng.IntN(20) {
					case 0:
						owners, _ := w.roles("k")
						o := owners[rng.IntN(3)].id
						w.away(o, !w.down[o])
					case 1:
						s = w.restart(s.id)
					case 2:
						w.fabric.Down(s.id)
						s.disk.Crash(func() bool { return rng.IntN(2) == 0 })
						s.end()
						s = w.start(s.id, s.disk)
					default:
						k := fmt.Sprint("k", rng.IntN(40))
						owners, standIn := w.roles(k)
						if standIn != s {
							continue
						}
						v := vote{k, owners[rng.IntN(3)].id, crdt.Dot{Actor: minter, N: uint64(i + 1)}}
						err := w.keep(s, v.owner, write(k, v.dot.Actor, v.dot.N, string(make([]byte, rng.IntN(2000))), nil))
						if err != nil {
							t.Fatal(err)
						}
						votes = append(votes, v)
					}
				}
				for id := range w.nodes {
					if w.down[id] {
						w.away(id, false)
					}
				}
				time.Sleep(time.Minute)
				w.settle()
				if n, b := s.owes(); n != 0 || b != 0 {
					t.Errorf("%d hints of %d bytes are left", n, b)
				}
				for _, v := range votes {
					if w.nodes[v.owner].held(v.k).Find(v.dot) == nil {
						t.Errorf("%s lacks %v of %s", v.owner, v.dot, v.k)
					}
				}
				if len(votes) < 30 {
					t.Errorf("only %d hints", len(votes))
				}
			})
		})
	}
}

// storedKey is where a hint is kept.
func storedKey(owner topology.NodeID, k string) []byte {
	b := append([]byte{'h', byte(len(owner))}, owner...)
	return append(binary.BigEndian.AppendUint64(b, hashring.KeyHash([]byte(k))), k...)
}
