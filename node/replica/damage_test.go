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
	"github.com/atolldb/atoll/node/storage"
	"github.com/atolldb/atoll/node/storage/memstore"
	"github.com/atolldb/atoll/node/wire"
)

func (p *place) heal(d replica.Damage, entries ...wire.Entry) (int, error) {
	type outcome struct {
		changed int
		err     error
	}
	ch := make(chan outcome, 1)
	p.Heal(d, entries, func(changed int, err error) { ch <- outcome{changed, err} })
	o := <-ch
	return o.changed, o.err
}

func (p *place) read(key string) error {
	_, err := p.Read(0, hashring.KeyHash([]byte(key)), []byte(key))
	return err
}

// pages gathers a full sync's pages.
func (p *place) pages(part hashring.Partition) (keys []string, clock *crdt.Clock, behind bool) {
	p.t.Helper()
	page, err := p.Scan(wire.Scan{Partition: part, Last: 1<<64 - 1, MaxBytes: 1 << 20})
	if err != nil {
		p.t.Fatal(err)
	}
	for _, e := range page.Entries {
		keys = append(keys, string(e.Key))
	}
	slices.Sort(keys)
	return keys, page.Clock, page.Behind
}

// A record that cannot be read is refused, left out of all that is sent, and
// counted; nothing else suffers.
func TestUnreadable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := shipper(t)
		part := partOf(key)
		keys := keysIn(part, 3)
		for _, k := range keys {
			p.put(k, "v")
		}
		bad := keys[1]
		p.disk.CorruptValue(recordKey(bad))

		wantError(t, p.read(bad), storage.ErrCorrupt)
		_, err := p.write(replica.Mint{Key: []byte(bad), Value: []byte("x")})
		wantError(t, err, storage.ErrCorrupt)
		if d := p.Damaged(); len(d) != 1 || string(d[0].Key) != bad || d[0].Partition != part || p.DamagedCount() != 1 || p.Stats().Unreadable.Load() != 1 {
			t.Errorf("damaged: %+v", d)
		}
		p.put(keys[0], "still works")

		got, err := p.Pull(wire.Pull{Partition: part, Clock: &crdt.Clock{}, MaxBytes: 1 << 20})
		if err != nil || got.Full || got.More || len(got.Entries) != 2 {
			t.Errorf("pull: %+v, %v", got, err)
		}
		for _, e := range got.Entries {
			if string(e.Key) == bad || slices.Contains(e.Dots, crdt.Dot{Actor: p.Actor(), N: 2}) {
				t.Errorf("pull delivers the dot of what it cannot show: %+v", e.Dots)
			}
		}
		if keys, clock, behind := p.pages(part); len(keys) != 2 || len(clock.Actors()) != 0 || !behind {
			t.Errorf("scan: %q, clock %v, behind %t", keys, clock.All(), behind)
		}
		buckets, err := p.Buckets(wire.Buckets{Bits: 2, Prefix: uint64(part)})
		n := uint64(0)
		for _, b := range buckets {
			n += uint64(b.Keys)
		}
		if err != nil || n != 2 {
			t.Errorf("buckets: %d keys, %v", n, err)
		}
		p.Outbox().Rewind()
		if entries, marks := p.peek(1 << 20); len(entries) != 2 || marks[0].N != 4 {
			t.Errorf("ships %v, %v", shipped(entries), marks)
		}
		// The kept digest stops speaking for it, by itself.
		if kept, err := p.DigestFromStore(part); err != nil || kept == p.Sum(part).Digest {
			t.Errorf("recounted too early, or %v", err)
		}
		time.Sleep(2 * time.Second)
		p.settle()
		p.digests()
		if p.DamagedCount() != 1 || p.Stats().Unreadable.Load() != 1 {
			t.Errorf("%d damaged after a recount", p.DamagedCount())
		}
		p.stop()
	})
}

// What comes replaces what is unreadable, but is not served before it was
// healed: it may be older than what was acknowledged. No restart forgets that.
func TestReplaceAndHeal(t *testing.T) {
	for _, end := range []string{"", "restart", "crash"} {
		t.Run("after "+end, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := owner(t)
				q := second(t, p)
				part := partOf(key)
				actor := p.Actor()
				old := p.put(key, "old")
				stale := p.entry(key, old.Dot)
				m := p.follow(key, "new")
				q.mustApply(p.entry(key, m.Dot))
				want := q.entry(key)
				p.disk.CorruptValue(recordKey(key))

				good := foreign("b\x00good", stranger, 1, nil, "v")
				if changed, err := p.apply(good, stale); err != nil || changed != 2 {
					t.Fatalf("apply: %d, %v", changed, err)
				}
				if p.Stats().Replaced.Load() != 1 || p.DamagedCount() != 1 {
					t.Errorf("replaced %d, damaged %d", p.Stats().Replaced.Load(), p.DamagedCount())
				}
				switch end {
				case "restart":
					p.restart()
				case "crash":
					p.crash(true)
					p.start()
				}
				refused := func() {
					t.Helper()
					wantError(t, p.read(key), storage.ErrCorrupt)
					_, err := p.write(replica.Mint{Key: []byte(key), Value: []byte("x")})
					wantError(t, err, storage.ErrCorrupt)
					got, err := p.Pull(wire.Pull{Partition: part, Clock: &crdt.Clock{}, MaxBytes: 1 << 20})
					if err != nil || len(got.Entries) > 0 && string(got.Entries[0].Key) == key {
						t.Errorf("pull: %+v, %v", got, err)
					}
					if _, clock, behind := p.pages(part); len(clock.Actors()) != 0 || !behind {
						t.Errorf("scan: clock %v, behind %t", clock.All(), behind)
					}
				}
				refused()
				p.mustApply(stale) // again
				p.mustApply(foreign(key, stranger, 3, nil, "another"))
				refused()
				if end != "crash" && p.Actor() != actor {
					t.Error("took damage for amnesia")
				}

				d := p.Damaged()
				if len(d) != 1 {
					t.Fatalf("damaged: %+v", d)
				}
				if _, err := p.heal(d[0], foreign("b\x00good", stranger, 2, nil, "v")); !errors.Is(err, wire.ErrMalformed) {
					t.Errorf("healed with another key: %v", err)
				}
				if changed, err := p.heal(d[0], stale, want); err != nil || changed != 1 {
					t.Fatalf("heal: %d, %v", changed, err)
				}
				if got := values(p.record(key)); !slices.Equal(got, []string{"another", "new"}) && !slices.Equal(got, []string{"new", "another"}) {
					t.Errorf("healed to %q", got)
				}
				if p.DamagedCount() != 0 || p.Stats().Healed.Load() != 1 {
					t.Errorf("damaged %d, healed %d", p.DamagedCount(), p.Stats().Healed.Load())
				}
				p.follow(key, "goes on")
				if _, clock, behind := p.pages(part); len(clock.Actors()) == 0 || behind {
					t.Errorf("scan: clock %v, behind %t", clock.All(), behind)
				}
				time.Sleep(2 * time.Second)
				p.settle()
				p.digests()
				p.restart()
				if err := p.read(key); err != nil || p.DamagedCount() != 0 {
					t.Errorf("after a restart: %v", err)
				}
				q.stop()
				p.stop()
			})
		})
	}
}

// Healing goes without a replacement before, and with nothing to be had.
func TestHealAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := owner(t)
		actor := p.Actor()
		p.put(key, "v")
		e := p.entry(key)
		p.disk.CorruptValue(recordKey(key))
		wantError(t, p.read(key), storage.ErrCorrupt)
		if changed, err := p.heal(p.Damaged()[0], e); err != nil || changed != 1 {
			t.Errorf("heal: %d, %v", changed, err)
		}
		if got := values(p.record(key)); !slices.Equal(got, []string{"v"}) {
			t.Errorf("healed to %q", got)
		}
		p.disk.CorruptValue(recordKey(key))
		wantError(t, p.read(key), storage.ErrCorrupt)
		if changed, err := p.heal(p.Damaged()[0]); err != nil || changed != 0 {
			t.Errorf("heal: %d, %v", changed, err)
		}
		if rec := p.record(key); len(rec.Versions) != 0 || p.DamagedCount() != 0 {
			t.Errorf("healed to %v", rec)
		}
		// A damage that was none is forgotten with the next recount.
		p.put(key, "v")
		p.disk.CorruptValue(recordKey(key))
		wantError(t, p.read(key), storage.ErrCorrupt)
		d := p.Damaged()[0]
		p.disk.LoseRecord(recordKey(key))
		if _, err := p.Recount(partOf(key)); err != nil || p.DamagedCount() != 0 {
			t.Errorf("%d damaged, %v", p.DamagedCount(), err)
		}
		if p.Actor() != actor {
			t.Error("took damage for amnesia")
		}
		p.stop()
		_ = d
	})
}

// Damage goes with its partition, and a role that is gone heals nothing.
func TestDropDamaged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newMover(t, memstore.Config{})
		p.serve(0)
		keys := keysIn(0, 2)
		for _, k := range keys {
			p.put(k, "v")
			p.disk.CorruptValue(recordKey(k))
			wantError(t, p.read(k), storage.ErrCorrupt)
		}
		p.mustApply(foreign(keys[0], stranger, 1, nil, "w"))
		d := p.Damaged()[0]
		p.leave()
		_, err := p.heal(d)
		wantError(t, err, replica.ErrNotOwner)
		if err := p.drop(0); err != nil || p.DamagedCount() != 0 {
			t.Errorf("%d damaged, %v", p.DamagedCount(), err)
		}
		p.serve(0)
		p.mustApply(foreign(keys[0], stranger, 1, nil, "w"))
		if err := p.read(keys[0]); err != nil {
			t.Error(err)
		}
		p.restart()
		if err := p.read(keys[0]); err != nil || p.DamagedCount() != 0 {
			t.Errorf("%d damaged, %v", p.DamagedCount(), err)
		}
		p.stop()
	})
}

// A start over unreadable clocks or indexes goes on with what there is, behind
// and under a new actor: what it does not know it has to be told.
func TestStartOverDamage(t *testing.T) {
	part := partOf(key)
	for name, harm := range map[string]func(p *place, actor crdt.Actor) []byte{
		"snapshot":  func(*place, crdt.Actor) []byte { return []byte{'s', 0, byte(part)} },
		"index":     func(_ *place, a crdt.Actor) []byte { return indexKey(part, crdt.Dot{Actor: a, N: 9}) },
		"end clean": func(*place, crdt.Actor) []byte { return []byte("mclean") },
		"actors":    func(*place, crdt.Actor) []byte { return []byte("mactors") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := replicated(t)
				p.catchUp()
				actor := p.Actor()
				keys := keysIn(part, 10)
				for _, k := range keys[:8] {
					p.put(k, "v")
				}
				p.prune(part, p.Clock(part)) // so that the snapshot is all there is
				for _, k := range keys[8:] {
					p.put(k, "v")
				}
				if name == "index" {
					p.crash(true) // a clean stop writes the snapshot, and then it is not read
				} else {
					p.stop()
				}
				if !p.disk.CorruptValue(harm(p, actor)) {
					t.Fatal("there is no such entry")
				}
				p.start()
				if damaged := name == "snapshot" || name == "index"; p.Behind(part) != damaged {
					t.Errorf("behind: %t", p.Behind(part))
				}
				if name != "actors" && p.Actor() == actor || p.Unclean() == "" && name != "actors" {
					t.Errorf("minted as %v, again as %v: %q", actor, p.Actor(), p.Unclean())
				}
				p.digests()
				if name == "index" && !p.Clock(part).Contains(crdt.Dot{Actor: actor, N: 9}) {
					t.Error("the key of the entry said all about the dot")
				}
				p.catchUp()
				p.put(key, "goes on")
				p.digests()
				p.restart()
				if p.BehindCount() != 0 || p.Unclean() != "" {
					t.Errorf("%d behind, %q", p.BehindCount(), p.Unclean())
				}
				p.digests()
				p.stop()
			})
		})
	}
}

// What a node cannot start without is told before it starts.
func TestReadable(t *testing.T) {
	for _, name := range []string{"midentity", "mtopology"} {
		synctest.Test(t, func(t *testing.T) {
			p := owner(t)
			if err := replica.Readable(p.engine); err != nil {
				t.Error(err)
			}
			p.stop()
			p.disk.CorruptValue([]byte(name))
			engine, err := p.disk.Open()
			if err != nil {
				t.Fatal(err)
			}
			wantError(t, replica.Readable(engine), storage.ErrCorrupt)
			engine.Close()
			wantError(t, p.tryStart(), storage.ErrCorrupt)
		})
	}
}

// A stop that vouched for other clocks than are found is a loss, too.
func TestFallsBehindWhenClocksDiffer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := replicated(t)
		p.catchUp()
		p.put(key, "v")
		p.stop()
		p.disk.LoseRecord([]byte{'s', 0, byte(partOf(key))})
		p.disk.LoseRecord(indexKey(partOf(key), crdt.Dot{Actor: crdt.MakeActor(1, 1), N: 1}))
		p.start()
		if p.Unclean() == "" || p.BehindCount() != partitions {
			t.Errorf("%q, %d behind", p.Unclean(), p.BehindCount())
		}
		p.stop()
	})
}
