package model

import (
	"bytes"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
)

// Histories that hurt other systems, or that the model's search found here,
// one test each. Owners r0..r2 are in region 1, r3..r5 in region 2.

// Riak's kv679: a replica forgets, and mints a dot that it had used.
func TestHistory01_AmnesiaThenBlindPut(t *testing.T) {
	history(t, Bugs{ReuseActor: true}, func(s *story) {
		v1 := s.put(0, blind())
		s.reach(v1, 1)
		s.lose(v1)
		s.wipe(&s.owners[0])
		s.owners[0].start()
		v2 := s.put(0, blind())
		s.reach(v2, 2)
		s.lose(v2)
		s.syncAll()
		s.allShow(v1, v2)
	})
}

// The doomstone: a late tombstone, and the old value, arrive after the key was
// deleted, collected and created anew.
func TestHistory02_Doomstone(t *testing.T) {
	history(t, Bugs{NoLateRule: true}, func(s *story) {
		old := s.put(0, blind())
		s.sleep(old, 4)
		s.everywhere(old)
		tomb := s.del(0, s.at(0))
		s.sleep(tomb, 2)
		s.everywhere(tomb)
		s.expect(s.collect(), "the round is completed")
		anew := s.put(1, blind())
		s.everywhere(anew)
		s.wake(0) // the old value
		s.shows(4, anew)
		s.wake(0) // the tombstone
		s.shows(2, anew)
		s.syncAll()
		s.allShow(anew)
	})
}

// A node comes back with yesterday's disk and writes on.
func TestHistory03_BackupRestore(t *testing.T) {
	history(t, Bugs{ReuseActor: true}, func(s *story) {
		v0 := s.put(0, blind())
		s.everywhere(v0)
		v1 := s.put(0, s.at(0))
		s.reach(v1, 1)
		s.lose(v1)
		s.copyDisk(&s.owners[0], 1)
		s.owners[0].start()
		v2 := s.put(0, blind())
		s.expect(s.events[v2].dot.Actor != s.events[v1].dot.Actor, "a restored disk mints as another actor")
		s.syncAll()
		s.allShow(v1, v2)
	})
}

// Sibling explosion: two clients alternate, each with the context of its own
// last answer.
func TestHistory04_SiblingExplosion(t *testing.T) {
	history(t, Bugs{FoldedAnswers: true}, func(s *story) {
		s.profile.atOnce = 100
		var last [3]int
		for n := range 40 {
			c := n % 2 * 2 // clients 0 and 2 live in region 1
			if n%7 == 0 {
				c = 0 // now and then twice in a row
			}
			s.now++
			s.mint(c, &s.owners[0], write{base: s.clients[c].known[0]})
			last[c] = len(s.events) - 1
			s.expect(len(s.live(1)) == min(n+1, 2), "%d siblings after %d writes of two clients", len(s.live(1)), n+1)
		}
		want := []int{last[0], last[2]}
		slices.Sort(want)
		s.allShow(want...)
	})
}

// Blind writes at one owner, whose copies arrive in another order elsewhere.
func TestHistory05_InterleavedBlindWrites(t *testing.T) {
	history(t, Bugs{DenseDeltas: true}, func(s *story) {
		v0, v1 := s.put(0, blind()), s.put(0, blind())
		s.reach(v1, 1)
		s.reach(v0, 2, 1)
		s.reach(v1, 2)
		s.shows(1, v0, v1)
		s.shows(2, v0, v1)
		s.syncAll()
		s.allShow(v0, v1)
	})
}

// A holder of hints hands off, forgets, and is asked again: it must not mint.
func TestHistory06_StandInForgets(t *testing.T) {
	history(t, Bugs{StandInMints: true}, func(s *story) {
		if s.opt.Bugs.StandInMints {
			s.profile.hint = 0
			for len(s.events) < 2 { // it hands off to some owners only
				s.mintByStandIn(0, write{})
			}
			s.mail = nil
			one := func(e, r int) {
				ev := s.events[e]
				rec := crdt.Record{Versions: []crdt.Version{{Dot: ev.dot, Stamp: ev.stamp, Meta: names[e]}}}
				m := message{from: -1, to: int8(r), vote: true, rec: rec, named: bit(e)}
				s.deliver(m)
			}
			one(0, 0)
			one(0, 1)
			s.acked |= bit(0)
			one(1, 2)
			over := s.put(2, s.at(2)) // by somebody who has seen the second only
			s.everywhere(over)
			return
		}
		// An owner mints, a hint waits for r1, arrives, and arrives again.
		v := s.put(0, blind())
		m := s.take(v, 1)[0]
		s.deliver(m)
		s.deliver(m)
		s.shows(1, v)
		s.expect(len(s.events) == 1, "a hint minted")
	})
}

// A delete is acknowledged by two owners while the third is away for longer
// than the grace.
func TestHistory07_LostDelete(t *testing.T) {
	history(t, Bugs{AgeTombstones: true}, func(s *story) {
		v := s.put(0, blind())
		s.everywhere(v)
		s.owners[2].stopCleanly()
		tomb := s.del(0, s.at(0))
		s.everywhere(tomb)
		s.lose(tomb)
		if s.opt.Bugs.AgeTombstones {
			s.now += 1000
			s.dropByAge()
		} else {
			s.expect(!s.collect(), "the floor passes without an owner")
		}
		s.owners[2].start()
		s.syncAll()
		s.allShow()
	})
}

// A floor is agreed on; one owner drops before another has raised; that one
// forgets the tombstone, and a late put reaches it.
func TestHistory08_EarlyDrop(t *testing.T) {
	history(t, Bugs{DropBeforeAllRaised: true}, func(s *story) {
		v := s.put(0, blind())
		s.sleep(v, 5)
		s.everywhere(v)
		tomb := s.del(0, s.at(0))
		s.everywhere(tomb)
		s.beginRound()
		s.raise(0, 1, 2, 3, 4)
		s.rot(5)
		s.wakeAll()
		s.syncAll()
		s.allShow()
	})
}

// A hint from before the floor.
func TestHistory09_LateHint(t *testing.T) {
	history(t, Bugs{NoLateRule: true}, func(s *story) {
		v := s.put(0, blind())
		s.sleep(v, 2)
		s.everywhere(v)
		s.everywhere(s.del(1, s.at(1)))
		s.expect(s.collect(), "the round is completed")
		s.wakeAll()
		s.allShow()
		s.syncAll()
		s.allShow()
	})
}

// Whoever deletes has a clock that is behind, on an owner that has not received
// what he deletes.
func TestHistory10_SkewedDeleter(t *testing.T) {
	history(t, Bugs{NoStampInContext: true}, func(s *story) {
		s.owners[0].skew, s.owners[1].skew = 200, -200
		v := s.put(0, blind())
		s.sleep(v, 2)
		s.lose(v)
		tomb := s.del(1, s.at(0))
		s.expect(s.events[tomb].stamp > s.events[v].stamp, "the tombstone's stamp is below the value's")
		s.everywhere(tomb)
		s.syncAll()
		s.expect(s.collect(), "the round is completed")
		s.wakeAll()
		s.syncAll()
		s.allShow()
	})
}

// A region is away for five days and comes back with a put that was deleted
// elsewhere meanwhile. Its absence stalls the floor.
func TestHistory11_RegionReturns(t *testing.T) {
	history(t, Bugs{AgeTombstones: true}, func(s *story) {
		v := s.put(3, blind())
		s.everywhere(v)
		s.cut = true
		for r := 3; r < Owners; r++ {
			s.owners[r].stopCleanly()
		}
		tomb := s.del(0, s.at(0))
		s.everywhere(tomb)
		s.lose(tomb)
		s.now += 5 * 24 * time.Hour.Milliseconds()
		if s.opt.Bugs.AgeTombstones {
			s.dropByAge()
		} else {
			s.expect(!s.collect(), "the floor passes without a region")
			s.expect(len(s.owners[0].disk.records[0].Versions) == 1, "the tombstone is gone")
		}
		s.cut = false
		for r := 3; r < Owners; r++ {
			s.owners[r].start()
		}
		s.syncAll()
		s.allShow()
		if !s.opt.Bugs.AgeTombstones {
			s.round = round{}
			s.expect(s.collect(), "the floor passes once the region is back")
		}
	})
}

// OpenRiak#151: one region has dropped, the other not yet; full syncs both ways
// must come to rest, and mint nothing.
func TestHistory12_OneRegionDropped(t *testing.T) {
	history(t, Bugs{MergeMints: true}, func(s *story) {
		v := s.put(0, blind())
		s.everywhere(v)
		w := s.put(3, blind())
		s.everywhere(w)
		s.everywhere(s.del(0, s.at(0)))
		s.beginRound()
		s.raise(0, 1, 2, 3, 4, 5)
		s.nextPhase()
		s.raise(0, 1, 2) // which is to drop, now
		minted := len(s.events)
		for pass := range 3 {
			before := s.commits
			for a := range 3 {
				s.fullSync(&s.owners[a], &s.owners[a+3])
				s.fullSync(&s.owners[a+3], &s.owners[a])
			}
			s.expect(pass < 2 || s.commits == before, "a third pass changes something")
		}
		s.expect(len(s.events) == minted, "a full sync minted")
		s.allShow()
	})
}

// riak_kv#1864: a long context on one side only.
func TestHistory13_LongContext(t *testing.T) {
	history(t, Bugs{}, func(s *story) {
		for range 40 { // each life of r0 leaves an actor in the past
			v := s.put(0, s.at(0))
			s.lose(v)
			s.crash(&s.owners[0], 0)
			s.owners[0].start()
		}
		s.expect(len(s.owners[0].disk.records[0].Context().Seen) == 40, "forty actors")
		last := len(s.events) - 1
		other := s.put(3, blind())
		s.lose(other)
		s.expect(s.syncAll(), "anti-entropy ends")
		before := s.commits
		s.syncAll()
		s.expect(s.commits == before, "a second pass repairs something")
		s.allShow(last, other)
	})
}

// The hazard of reading absence as deletion: one owner's disk loses a record,
// and somebody writes beside it.
func TestHistory22_LocalLossIsNoDelete(t *testing.T) {
	history(t, Bugs{StripByClock: true}, func(s *story) {
		v := s.put(0, blind())
		s.everywhere(v)
		s.rot(1)
		s.syncAll()
		s.allShow(v)
	})
}

// A context of one key cannot cover another key's writes.
func TestHistory23_CrossKeyToken(t *testing.T) {
	keys, one, two := crdt.Keys{crdt.Secret("secret")}, []byte("b\x00one"), []byte("b\x00two")
	ctx := crdt.Context{Seen: crdt.VV{{Actor: 65, N: 7}}, Stamp: 1}
	token := crdt.AppendContext(nil, keys, one, ctx)
	if _, err := crdt.DecodeContext(keys, two, token); !errors.Is(err, crdt.ErrForeignContext) {
		t.Fatalf("a context of another key: %v", err)
	}
	if _, err := crdt.DecodeContext(keys, one, token); err != nil {
		t.Fatal(err)
	}
}

// A stamp from the far future can be overwritten by whoever has seen it, and
// drags no other key along (scylladb#5619 is the opposite).
func TestHistory24_FarFutureStamp(t *testing.T) {
	clock := hlc.New(func() time.Time { return time.UnixMilli(dawn) })
	future := hlc.FromMillis(dawn + 10*365*24*time.Hour.Milliseconds())
	rec := crdt.Record{Versions: []crdt.Version{{Dot: crdt.Dot{Actor: 65, N: 1}, Stamp: future, Value: []byte("from the future")}}}
	ctx := rec.Context()

	tomb := crdt.Version{Dot: crdt.Dot{Actor: 129, N: 1}, Stamp: clock.Next(ctx.Stamp), Dead: true}
	gone := crdt.Write(crdt.Record{}, ctx.Seen, tomb) // at an owner that never saw it
	for _, r := range []crdt.Record{crdt.Join(rec, gone), crdt.Join(gone, rec)} {
		if live := crdt.Read(r, crdt.LWW, dawn).Live; len(live) > 0 {
			t.Fatalf("still there: %+v", live)
		}
	}
	if tomb.Stamp <= future {
		t.Fatal("a causal write is below what it saw")
	}
	if s := clock.Next(0); s.Millis() != dawn {
		t.Fatalf("another key was stamped %v", s)
	}
}

// A timeout makes a client write twice: equal values stay two siblings in the
// record (to collapse them in a join is not associative), and the context of a
// read covers both, so that the SDK's one value replaces them.
func TestHistory25_TwinMint(t *testing.T) {
	var rec crdt.Record
	for n := range uint64(2) {
		rec = crdt.Write(rec, nil, crdt.Version{Dot: crdt.Dot{Actor: 65, N: n + 1}, Stamp: hlc.Stamp(n + 1), Value: []byte("once")})
	}
	live := crdt.Read(rec, crdt.MV, 0).Live
	if len(live) != 2 || !bytes.Equal(live[0].Value, live[1].Value) {
		t.Fatalf("%+v", live)
	}
	rec = crdt.Write(rec, rec.Context().Seen, crdt.Version{Dot: crdt.Dot{Actor: 65, N: 3}, Value: []byte("once")})
	if len(rec.Versions) != 1 {
		t.Fatalf("%+v", rec)
	}
}

// Found by search: a disk brings back what was deleted and collected, and its
// owner mints beside it: the old value must not ride on the new one's record.
func TestHistory26_OldValueRidesOnANewRecord(t *testing.T) {
	history(t, Bugs{NoLateRule: true}, func(s *story) {
		v := s.put(0, blind())
		s.everywhere(v)
		old := s.owners[0].disk.records[0]
		s.everywhere(s.del(0, s.at(0)))
		s.expect(s.collect(), "the round is completed")
		s.brokenDisk(0, old)
		anew := s.put(0, blind())
		s.everywhere(anew)
		for r := 1; r < Owners; r++ {
			s.shows(r, anew)
		}
		s.syncAll()
		s.allShow(anew)
	})
}

// Found by search: a round is broken off when all but one have raised. What is
// dead below a raised floor, but was not dropped, must not be hidden from
// comparison, or its loss on one disk stalls all later rounds.
func TestHistory27_RaisedButNotDropped(t *testing.T) {
	history(t, Bugs{}, func(s *story) {
		v := s.put(0, blind())
		s.everywhere(v)
		s.everywhere(s.del(0, s.at(0)))
		s.beginRound()
		s.raise(0, 1, 2, 3, 4)
		s.wipe(&s.owners[5])
		s.owners[5].start()
		s.syncAll()
		s.rot(4)
		s.round = round{}
		s.syncAll()
		s.expect(s.collect(), "the next round is completed")
		s.allShow()
	})
}

// Found by search: between list and raise one disk loses the tombstone and a
// late message brings back what it covered.
func TestHistory28_LostBetweenListAndRaise(t *testing.T) {
	history(t, Bugs{BlindRaise: true}, func(s *story) {
		v := s.put(0, blind())
		s.sleep(v, 5)
		s.everywhere(v)
		s.everywhere(s.del(0, s.at(0)))
		s.beginRound()
		s.rot(5)
		s.wakeAll()
		for range 3 * Owners {
			s.stepRound()
		}
		s.checkRead(s.owners[5].disk.records[0])
		s.syncAll()
		s.allShow()
	})
}

// Found by search: owners that lost as much as I did know no better. The last
// copy of an old value stays where it is.
func TestHistory29_LastCopyAmongAmnesiacs(t *testing.T) {
	history(t, Bugs{}, func(s *story) {
		v := s.put(0, blind())
		s.everywhere(v)
		s.expect(s.collect(), "the round is completed")
		for r := range 5 { // five disks lose everything, the sixth its floor
			s.wipe(&s.owners[r])
			s.owners[r].start()
		}
		s.crash(&s.owners[5], 3)
		s.owners[5].start()
		s.heal()
		s.shows(5, v)
		s.syncAll()
		s.allShow(v)
	})
}

// Found by search: a version that a peer has superseded is joined with what
// superseded it, not taken for collected: the peer's may be the only copy.
func TestHistory30_SupersededIsNotCollected(t *testing.T) {
	history(t, Bugs{}, func(s *story) {
		v := s.put(0, blind())
		s.everywhere(v)
		s.expect(s.collect(), "the round is completed")
		s.crash(&s.owners[3], 3) // back to below the floor
		w := s.put(0, s.at(0))
		s.reach(w, 1, 2, 4, 5)
		s.lose(w)
		s.owners[3].start()
		s.shows(3, w)
	})
}
