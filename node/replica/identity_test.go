package replica_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/cas"
	"github.com/atolldb/atoll/node/replica"
	"github.com/atolldb/atoll/node/storage"
	"github.com/atolldb/atoll/node/storage/memstore"
	"github.com/atolldb/atoll/node/topology/memtopo"
	"github.com/atolldb/atoll/node/wire"
)

const (
	key, otherKey = "b\x00key", "b\x00other"
	// stranger is an actor of another region.
	stranger = crdt.Actor(1<<crdt.RegionBits | 2)
)

// A clean stop gives the actor back, and its counters go on without a gap.
func TestCleanStopResumes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := owner(t)
		if !strings.Contains(p.Unclean(), "empty") {
			t.Errorf("first start: %q", p.Unclean())
		}
		actor := p.Actor()
		for n := range uint64(5) {
			m := p.follow(key, "v")
			if want := (crdt.Dot{Actor: actor, N: n + 1}); m.Dot != want {
				t.Fatalf("minted %v, want %v", m.Dot, want)
			}
			p.restart()
			if p.Actor() != actor || p.Unclean() != "" {
				t.Fatalf("restart %d: actor %v after %v, %q", n, p.Actor(), actor, p.Unclean())
			}
			if gaps := p.Gaps(partOf(key)); gaps != 0 {
				t.Fatalf("%d gaps", gaps)
			}
		}
		p.digests()
		p.stop()
	})
}

// Whatever may have lost a dot ends the actor (R3).
func TestUncleanStartsTakeANewActor(t *testing.T) {
	for name, c := range map[string]struct {
		between func(p *place)
		why     string
	}{
		"crash": {func(p *place) { p.crash(true) }, "no clean-stop marker"},
		"crash after a resumption": {func(p *place) {
			p.restart()
			p.crash(true)
		}, "no clean-stop marker"},
		"abandoned": {func(p *place) {
			p.Abandon()
			p.stop()
		}, "no clean-stop marker"},
		"wiped": {func(p *place) {
			p.stop()
			if err := p.disk.Wipe(); err != nil {
				t.Fatal(err)
			}
		}, "empty data directory"},
		"rolled back": {func(p *place) {
			p.stop()
			p.start()
			p.put(key, "later")
			p.stop()
			// To where the first stop left it: marker, clocks and records fit.
			if n, err := p.disk.RollBack(3); n != 3 || err != nil {
				t.Fatalf("rolled back %d: %v", n, err)
			}
		}, "lost"},
		"index entry lost": {func(p *place) {
			part, d := partOf(key), crdt.Dot{Actor: p.Actor(), N: 1}
			p.crash(true)
			p.start()
			d2 := p.put(key, "v").Dot
			p.stop()
			if !p.disk.LoseRecord(indexKey(part, d)) || !p.disk.LoseRecord(indexKey(part, d2)) {
				t.Fatal("no such entry")
			}
			if !p.disk.LoseRecord([]byte{'s', byte(part >> 8), byte(part)}) {
				t.Fatal("no such snapshot")
			}
		}, "recovered clocks differ"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := owner(t)
				p.put(key, "v")
				before := p.Actor()
				c.between(p)
				p.start()
				if p.Actor() <= before || !strings.Contains(p.Unclean(), c.why) {
					t.Errorf("actor %v after %v: %q", p.Actor(), before, p.Unclean())
				}
				if m := p.put(key, "new"); m.Dot != (crdt.Dot{Actor: p.Actor(), N: 1}) {
					t.Errorf("minted %v", m.Dot)
				}
				p.stop()
			})
		})
	}
}

// A copy of a cleanly stopped directory is as good as the original: whoever
// comes first resumes the actor, and the other cannot, since the nonce is spent.
func TestCopiedDirectory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := owner(t)
		p.put(key, "v")
		actor := p.Actor()
		p.stop()
		twin := newPlace(t, "n1", p.registry, memstore.Config{})
		copyDisk(t, p.disk, twin.disk)
		p.start()
		twin.start()
		if p.Actor() != actor || twin.Actor() <= actor {
			t.Errorf("original %v, copy %v, before %v", p.Actor(), twin.Actor(), actor)
		}
		a, b := p.put(key, "original"), twin.put(key, "copy")
		if a.Dot == b.Dot {
			t.Errorf("%v names two writes", a.Dot)
		}
		p.stop()
		twin.stop()
	})
}

func copyDisk(t *testing.T, from, to *memstore.Disk) {
	src, err := from.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	dst, err := to.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer dst.Close()
	tx, err := dst.Begin()
	if err != nil {
		t.Fatal(err)
	}
	err = src.Scan(nil, nil, func(kv storage.KV) bool { return tx.Put(kv.Key, kv.Value) == nil })
	if err := errors.Join(err, tx.Commit()); err != nil {
		t.Fatal(err)
	}
	side, err := src.ReadBeside("groups")
	if err := errors.Join(err, dst.WriteBeside("groups", side)); err != nil {
		t.Fatal(err)
	}
}

func TestForeignDirectory(t *testing.T) {
	for name, change := range map[string]func(*replica.Config){
		"node":       func(c *replica.Config) { c.Node = "n9" },
		"region":     func(c *replica.Config) { c.Topology = c.Topology.Clone(); c.Topology.Region = "west" },
		"region id":  func(c *replica.Config) { c.Topology = c.Topology.Clone(); c.Topology.RegionID = 2 },
		"partitions": func(c *replica.Config) { c.Topology = rows(1, "n1", "n1", "n1", "n1", "n1", "n1", "n1", "n1") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := owner(t)
				p.stop()
				was := p.cfg
				change(&p.cfg)
				err := p.tryStart()
				wantError(t, err, replica.ErrForeignDirectory)
				for _, part := range []string{"node n1", "region east", "4 partitions", "node " + string(p.cfg.Node), "region " + string(p.cfg.Topology.Region)} {
					if !strings.Contains(err.Error(), part) {
						t.Errorf("%q does not say %q", err, part)
					}
				}
				// It was refused without a trace.
				p.cfg = was
				p.start()
				if p.Unclean() != "" {
					t.Error(p.Unclean())
				}
				p.stop()
			})
		})
	}
}

// Without the registry nothing is minted and everything else works (R3).
func TestRegistryDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlace(t, "n1", memtopo.New(1), memstore.Config{})
		p.registry.SetDown(true)
		p.start()
		_, err := p.write(replica.Mint{Key: []byte(key), Value: []byte("v")})
		wantError(t, err, replica.ErrNoActor)
		p.mustApply(foreign(key, stranger, 1, nil, "foreign"))
		if got := values(p.record(key)); len(got) != 1 || got[0] != "foreign" {
			t.Errorf("read %q", got)
		}
		time.Sleep(time.Minute)
		if p.Actor() != 0 {
			t.Errorf("actor %v of a registry that is down", p.Actor())
		}
		p.registry.SetDown(false)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if p.Actor() == 0 {
			t.Fatal("no actor 2 s after the registry came back")
		}
		p.put(key, "mine")
		actor := p.Actor()
		p.stop()

		// The same at a resumption: it waits, and does not take a new one.
		p.registry.SetDown(true)
		p.start()
		time.Sleep(10 * time.Second)
		p.registry.SetDown(false)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if p.Actor() != actor {
			t.Errorf("resumed as %v, was %v", p.Actor(), actor)
		}
		p.stop()
	})
}

// A node that was never allowed to mint leaves no marker, and stops all the
// same.
func TestStopWithoutActor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlace(t, "n1", memtopo.New(1), memstore.Config{})
		p.registry.SetDown(true)
		p.start()
		p.mustApply(foreign(key, stranger, 1, nil, "foreign"))
		p.stop()
		p.registry.SetDown(false)
		p.start()
		if p.Actor() == 0 || !strings.Contains(p.Unclean(), "no clean-stop marker") {
			t.Errorf("actor %v, %q", p.Actor(), p.Unclean())
		}
		p.stop()
	})
}

// A registry that lost its state cannot hand out an actor that is in use: the
// floor is the highest of the own region in any clock, whoever minted with it.
func TestFloorOfTheRegion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := owner(t)
		p.mustApply(foreign(key, crdt.MakeActor(40, 1), 1, nil, "a"), foreign(key, crdt.MakeActor(900, 2), 1, nil, "b"))
		p.crash(true)
		p.registry.Forget()
		p.start()
		if want := crdt.MakeActor(41, 1); p.Actor() != want {
			t.Errorf("actor %v, want %v", p.Actor(), want)
		}
		p.stop()
	})
}

// Proof of amnesia ends the actor (R5): somebody shows a dot of ours that we
// do not know, or one whose record we no longer have.
func TestAmnesia(t *testing.T) {
	unknown := func(p *place) crdt.Dot { return crdt.Dot{Actor: p.Actor(), N: 9} }
	for name, show := range map[string]func(t *testing.T, p *place){
		"in a context": func(t *testing.T, p *place) {
			_, err := p.write(replica.Mint{Key: []byte(key), Context: crdt.Context{Seen: crdt.VV(nil).With(unknown(p))}})
			wantError(t, err, replica.ErrAmnesia)
		},
		"as a version": func(_ *testing.T, p *place) { p.mustApply(foreign(key, p.Actor(), 9, nil, "lost")) },
		"as an event dot": func(_ *testing.T, p *place) {
			d := unknown(p)
			e := foreign(key, stranger, 1, crdt.VV(nil).With(d), "newer")
			e.Dots = []crdt.Dot{d}
			p.mustApply(e)
		},
		"in a clock": func(t *testing.T, p *place) {
			c := &crdt.Clock{}
			c.Add(unknown(p))
			if err := p.joinClock(partOf(key), c); err != nil {
				t.Fatal(err)
			}
		},
		"of a record that is gone": func(_ *testing.T, p *place) {
			e := p.entry(key)
			p.disk.LoseRecord(recordKey(key))
			p.mustApply(e)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := owner(t)
				p.put(key, "v")
				before := p.Actor()
				show(t, p)
				p.settle()
				if p.Actor() <= before {
					t.Fatalf("actor %v, before %v", p.Actor(), before)
				}
				if m := p.put(key, "after"); m.Dot != (crdt.Dot{Actor: p.Actor(), N: 1}) {
					t.Errorf("minted %v", m.Dot)
				}
				p.restart()
				if p.Unclean() != "" {
					t.Error(p.Unclean())
				}
				p.stop()
			})
		})
	}
}

// What is no proof ends nothing: dots that are known, of others, and of
// earlier actors of this node, and events of serial writes, which no record shows.
func TestNoAmnesia(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := owner(t)
		first := p.put(key, "first")
		p.crash(true)
		p.start()
		actor := p.Actor()
		second := p.follow(key, "second")
		p.mustApply(p.entry(key, first.Dot, second.Dot))
		p.mustApply(foreign(key, first.Dot.Actor, 7, nil, "of the first actor"))
		p.mustApply(foreign(key, stranger, 7, nil, "of another node"))
		serial := proposal(cas.At(time.Now().UnixMilli()), "serial", nil)
		if out, err := p.serial(otherKey, true, accept(serial)); err != nil || out[0].Verdict != cas.OK {
			t.Fatalf("%+v, %v", out, err)
		}
		p.mustApply(p.entry(otherKey, p.commitOwn(otherKey, serial).Event))
		if err := p.joinClock(partOf(key), p.Clock(partOf(key))); err != nil {
			t.Fatal(err)
		}
		p.settle()
		if p.Actor() != actor {
			t.Errorf("actor %v, before %v", p.Actor(), actor)
		}
		p.stop()
	})
}

// What comes too late is told so.
func TestStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := owner(t)
		r := p.Replica
		p.stop()
		p.Replica = r
		defer func() { p.Replica = nil }()
		_, err := p.write(replica.Mint{Key: []byte(key)})
		wantError(t, err, replica.ErrStopping)
		_, err = p.apply(foreign(key, stranger, 1, nil, "v"))
		wantError(t, err, replica.ErrStopping)
		wantError(t, p.joinClock(0, &crdt.Clock{}), replica.ErrStopping)
		_, err = r.Recount(0)
		wantError(t, err, replica.ErrStopping)
	})
}

// A partition of somebody else is refused by every door.
func TestNotOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlace(t, "n1", memtopo.New(1), memstore.Config{})
		part := partOf(key)
		p.cfg.Topology = onlyOwner((part + 1) % partitions)
		p.start()
		_, err := p.write(replica.Mint{Key: []byte(key)})
		wantError(t, err, replica.ErrNotOwner)
		_, err = p.Read(0, hashring.KeyHash([]byte(key)), []byte(key))
		wantError(t, err, replica.ErrNotOwner)
		mine := keysIn((part+1)%partitions, 1)[0]
		_, err = p.apply(foreign(mine, stranger, 1, nil, "v"), foreign(key, stranger, 1, nil, "v"))
		wantError(t, err, replica.ErrNotOwner)
		if len(p.record(mine).Versions) > 0 {
			t.Error("a part of the message was applied")
		}
		for _, other := range []hashring.Partition{part, partitions, 65535} {
			wantError(t, p.joinClock(other, &crdt.Clock{}), replica.ErrNotOwner)
			_, err = p.Recount(other)
			wantError(t, err, replica.ErrNotOwner)
			_, err = p.Pull(wire.Pull{Partition: other, Clock: &crdt.Clock{}})
			wantError(t, err, replica.ErrNotOwner)
			_, err = p.Scan(wire.Scan{Partition: other})
			wantError(t, err, replica.ErrNotOwner)
			if p.Owns(other) || p.Clock(other) != nil || p.Gaps(other) != 0 || p.Sum(other) != (wire.Sum{Partition: other}) {
				t.Errorf("partition %d is told about", other)
			}
		}
		if d := p.Differing(wire.Compare{Sums: []wire.Sum{{Partition: part, Clock: 1}, {Partition: 65535}}}); len(d) != 0 {
			t.Errorf("differs: %+v", d)
		}
		p.stop()
	})
}
