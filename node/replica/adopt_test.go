package replica_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/replica"
	"github.com/atolldb/atoll/node/storage/memstore"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/topology/memtopo"
	"github.com/atolldb/atoll/node/wire"
)

// moving is a topology at an epoch in which n1 has the given roles, and n2 is
// there, too. Partitions whose role differs from that in last have changed in
// it.
func moving(epoch topology.Epoch, last *topology.Topology, roles ...topology.Role) *topology.Topology {
	t := &topology.Topology{Region: "east", RegionID: 1, Epoch: epoch, Rules: hashring.Rules{Partitions: len(roles), Replicas: 2}}
	t.Tasks = []topology.Task{{ID: 1, Kind: topology.KindRebalance}}
	table := make([][]string, len(roles))
	t.Since = make([]topology.Epoch, len(roles))
	move := func(p int, from, to topology.NodeID, stage topology.Stage) {
		t.Moves = append(t.Moves, topology.Move{ID: topology.MoveID(p + 1), Task: 1, Partition: hashring.Partition(p), Slot: 0, From: from, To: to, Stage: stage, Began: t.Since[p]})
	}
	for p, role := range roles {
		t.Since[p] = epoch
		if q := hashring.Partition(p); last != nil && last.Role(q, "n1") == role {
			t.Since[p] = last.SinceOf(q)
		}
		switch role {
		case topology.None:
			table[p] = []string{"n3", "n2"}
		case topology.Pending:
			table[p] = []string{"n3", "n2"}
			move(p, "n3", "n1", topology.Copying)
		case topology.Serving:
			table[p] = []string{"n1", "n2"}
		case topology.Parting:
			table[p] = []string{"n1", "n2"}
			move(p, "n1", "n3", topology.Switched)
		}
	}
	t.Table = hashring.MakeTable(table)
	return t
}

const (
	none    = topology.None
	pending = topology.Pending
	serving = topology.Serving
	parting = topology.Parting
)

func (p *place) adopt(t *topology.Topology) {
	p.t.Helper()
	ch := make(chan error, 1)
	p.Adopt(t, func(err error) { ch <- err })
	if err := <-ch; err != nil {
		p.t.Fatalf("adopt %d: %v", t.Epoch, err)
	}
}

// newMover is a node that has no role anywhere at epoch 1.
func newMover(t *testing.T, disk memstore.Config) *place {
	p := newPlace(t, "n1", memtopo.New(1), disk)
	p.cfg.Topology = moving(1, nil, none, none, none, none)
	p.start()
	return p
}

// What a node answers, and to whom, in each role.
func TestRoles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newMover(t, memstore.Config{})
		keys := make([]string, partitions)
		for i := range keys {
			keys[i] = keysIn(hashring.Partition(i), 1)[0]
		}
		first := p.Topology()
		if p.BehindCount() != 0 || len(p.Held()) != 0 {
			t.Errorf("holds %v, behind on %d", p.Held(), p.BehindCount())
		}
		p.adopt(moving(2, first, serving, serving, serving, none))
		for part := range hashring.Partition(3) {
			p.CaughtUp(part, p.BehindMark(part))
		}
		p.settle()
		for _, k := range keys[:3] {
			p.put(k, "v")
		}
		p.adopt(moving(3, p.Topology(), serving, parting, none, pending))

		check := func(i int, what string, err, want error) {
			t.Helper()
			if !errors.Is(err, want) {
				t.Errorf("partition %d: %s: %v, want %v", i, what, err, want)
			}
		}
		for i, want := range []struct{ read, old, apply, pull error }{
			{nil, nil, nil, nil},
			{replica.ErrNotServing, replica.ErrStale, nil, nil},
			{replica.ErrNotOwner, replica.ErrStale, replica.ErrNotOwner, nil},
			{replica.ErrBehind, replica.ErrStale, nil, nil},
		} {
			part, key := hashring.Partition(i), keys[i]
			hash := hashring.KeyHash([]byte(key))
			for _, epoch := range []topology.Epoch{0, 3, 4} {
				_, err := p.Read(epoch, hash, []byte(key))
				check(i, fmt.Sprintf("read at %d", epoch), err, want.read)
				_, err = p.write(replica.Mint{Key: []byte(key), Epoch: epoch})
				check(i, fmt.Sprintf("mint at %d", epoch), err, want.read)
				_, err = p.applyAt(epoch, foreign(key, stranger, 1, nil, "v"))
				check(i, fmt.Sprintf("apply at %d", epoch), err, want.apply)
			}
			_, err := p.Read(2, hash, []byte(key))
			check(i, "read at 2", err, want.old)
			_, err = p.write(replica.Mint{Key: []byte(key), Epoch: 2})
			check(i, "mint at 2", err, want.old)
			_, err = p.applyAt(2, foreign(key, stranger, 2, nil, "v"))
			check(i, "apply at 2", err, want.old)

			check(i, "join of a clock", p.joinClock(part, &crdt.Clock{}), want.apply)
			_, err = p.Pull(wire.Pull{Partition: part, Clock: &crdt.Clock{}, MaxBytes: 1 << 20})
			check(i, "pull", err, want.pull)
			_, err = p.Scan(wire.Scan{Partition: part, Last: 1<<64 - 1, MaxBytes: 1 << 20})
			check(i, "scan", err, want.pull)
			_, err = p.Buckets(wire.Buckets{Bits: 2, Prefix: uint64(i)})
			check(i, "buckets", err, want.pull)
			if d := p.Differing(wire.Compare{Sums: []wire.Sum{{Partition: part}}}); len(d) != 1 {
				t.Errorf("partition %d: compare: %+v", i, d)
			}
		}
		if o, h, l := p.Owned(), p.Held(), p.Leftovers(); !slices.Equal(o, []hashring.Partition{0, 1, 3}) || len(h) != 4 || !slices.Equal(l, []hashring.Partition{2}) {
			t.Errorf("owns %v, holds %v, left %v", o, h, l)
		}
		if p.Owns(2) || !p.Owns(3) || p.BehindCount() != 0 || !p.Behind(3) {
			t.Errorf("owns 2: %t, 3: %t; behind on %d", p.Owns(2), p.Owns(3), p.BehindCount())
		}
		p.digests()
		p.stop()
	})
}

// The doors for peers judge by the sender's epoch, and say why they refuse.
func TestHandleFences(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newMover(t, memstore.Config{})
		p.adopt(moving(5, p.Topology(), serving, parting, none, pending))
		ask := func(epoch topology.Epoch, verb peer.Verb, part hashring.Partition) peer.Code {
			key := keysIn(part, 1)[0]
			body := reading(key)
			if verb == peer.VerbApply {
				body = wire.AppendApply(nil, wire.Apply{Entries: []wire.Entry{foreign(key, stranger, 1, nil, "v")}})
			}
			ch := make(chan error, 1)
			p.Handle(peer.Request{Verb: verb, Epoch: epoch, Body: body}, func(_ []byte, err error) { ch <- err })
			var no *peer.Refusal
			errors.As(<-ch, &no)
			if no == nil {
				return 0
			}
			return no.Code
		}
		p.CaughtUp(0, p.BehindMark(0))
		p.settle()
		for _, c := range []struct {
			epoch topology.Epoch
			verb  peer.Verb
			part  hashring.Partition
			code  peer.Code
		}{
			{4, peer.VerbRead, 0, peer.CodeStaleEpoch},
			{5, peer.VerbRead, 0, 0},
			{5, peer.VerbRead, 1, peer.CodeNotOwner},
			{5, peer.VerbRead, 2, peer.CodeNotOwner},
			{5, peer.VerbRead, 3, peer.CodeBehind},
			{4, peer.VerbApply, 3, peer.CodeStaleEpoch},
			{0, peer.VerbApply, 3, 0},
			{5, peer.VerbApply, 1, 0},
			{4, peer.VerbApply, 2, 0}, // it never changed
		} {
			want := c.code
			if c.verb == peer.VerbApply && c.part == 2 {
				want = peer.CodeNotOwner
			}
			if got := ask(c.epoch, c.verb, c.part); got != want {
				t.Errorf("verb %d of partition %d at epoch %d: code %d, want %d", c.verb, c.part, c.epoch, got, want)
			}
		}
		p.stop()
	})
}

// What is in the queue when an epoch comes is judged by its place in the queue,
// and nothing that the epoch forbids is acknowledged after the adoption.
func TestAdoptFencesTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newMover(t, memstore.Config{SyncMin: time.Millisecond, SyncMax: time.Millisecond})
		p.adopt(moving(2, p.Topology(), serving, pending, none, none))
		p.CaughtUp(0, p.BehindMark(0))
		p.settle()
		key, other := keysIn(0, 1)[0], keysIn(1, 1)[0]
		var said []string // on the committer's goroutine
		say := func(what string) func(error) {
			return func(err error) {
				switch {
				case err == nil:
				case errors.Is(err, replica.ErrStale):
					what += " stale"
				default:
					what += " " + err.Error()
				}
				said = append(said, what)
			}
		}
		mint := func(what string, epoch topology.Epoch) {
			done := say(what)
			p.Mint(replica.Mint{Key: []byte(key), KeyHash: hashring.KeyHash([]byte(key)), Epoch: epoch, Value: []byte(what),
				Done: func(_ *replica.Minted, err error) { done(err) }})
		}
		apply := func(what string, epoch topology.Epoch) {
			done := say(what)
			p.ApplyAt(epoch, []wire.Entry{foreign(other, stranger, uint64(len(what)), nil, what)}, func(_ int, err error) { done(err) })
		}
		// The first one syncs while the others gather.
		mint("m1", 2)
		synctest.Wait()
		mint("m2", 2)
		apply("a1", 2)
		p.Adopt(moving(3, p.Topology(), none, serving, none, none), say("adopted"))
		mint("m3", 2)
		apply("a2", 2)
		apply("a3", 3)
		if p.Topology().Epoch != 2 {
			t.Fatal("in force before it was durable")
		}
		p.settle()
		want := []string{"m1", "m2", "a1", "adopted", "m3 stale", "a2 stale", "a3"}
		if !slices.Equal(said, want) {
			t.Errorf("said %q, want %q", said, want)
		}
		if n := p.Stats().Stale.Load(); n != 2 {
			t.Errorf("%d refusals counted", n)
		}
		if p.Topology().Epoch != 3 || !p.Behind(1) {
			t.Errorf("epoch %d, behind %t", p.Topology().Epoch, p.Behind(1))
		}
		p.stop()
	})
}

// A node never goes back, and takes only what can be its own.
func TestAdoptNeverGoesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newMover(t, memstore.Config{})
		first := p.Topology()
		p.adopt(moving(7, first, serving, none, none, none))
		p.adopt(moving(6, first, none, serving, none, none))
		p.adopt(moving(7, first, none, serving, none, none))
		if top := p.Topology(); top.Epoch != 7 || !slices.Equal(p.Owned(), []hashring.Partition{0}) {
			t.Errorf("epoch %d, owns %v", top.Epoch, p.Owned())
		}
		foreign := moving(8, first, none, none, none, none)
		foreign.Region = "west"
		for name, bad := range map[string]*topology.Topology{
			"none": nil, "of another region": foreign, "of other size": rows(8, "n1", "n1"),
			"that is not valid": rows(8, "n1", "n1", "n1", ""),
		} {
			ch := make(chan error, 1)
			p.Adopt(bad, func(err error) { ch <- err })
			if err := <-ch; err == nil {
				t.Errorf("a topology %s was adopted", name)
			}
		}
		// Nor at a start.
		p.stop()
		stored, err := p.stored()
		if err != nil || stored.Epoch != 7 {
			t.Fatal(stored, err)
		}
		p.start() // with epoch 1 configured
		if p.Topology().Epoch != 7 || !slices.Equal(p.Owned(), []hashring.Partition{0}) || p.Unclean() != "" {
			t.Errorf("epoch %d, owns %v, %q", p.Topology().Epoch, p.Owned(), p.Unclean())
		}
		p.stop()
		p.cfg.Topology = moving(9, stored, serving, pending, none, none)
		p.start()
		if p.Topology().Epoch != 9 || !slices.Equal(p.Owned(), []hashring.Partition{0, 1}) || p.Unclean() != "" || !p.Behind(1) {
			t.Errorf("epoch %d, owns %v, %q", p.Topology().Epoch, p.Owned(), p.Unclean())
		}
		p.crash(true)
		p.cfg.Topology = first
		p.start()
		if p.Topology().Epoch != 9 || !p.Behind(1) {
			t.Errorf("epoch %d after a crash", p.Topology().Epoch)
		}
		p.stop()
	})
}

// A crash during an adoption leaves all of it or nothing; data that a role had
// brought is found again when the role is gone.
func TestAdoptIsAtomic(t *testing.T) {
	for _, survives := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			p := newMover(t, memstore.Config{SyncMin: time.Millisecond, SyncMax: time.Millisecond})
			p.adopt(moving(2, p.Topology(), pending, none, none, none))
			k := keysIn(0, 1)[0]
			p.mustApply(foreign(k, stranger, 1, nil, "v"))
			told := false
			p.Adopt(moving(3, p.Topology(), none, pending, none, none), func(err error) { told = err == nil })
			synctest.Wait() // it syncs
			p.crash(survives)
			p.start()
			held, left := []hashring.Partition{0}, []hashring.Partition(nil)
			epoch := topology.Epoch(2)
			if survives {
				held, left, epoch = []hashring.Partition{0, 1}, []hashring.Partition{0}, 3
			}
			if told || p.Topology().Epoch != epoch || !slices.Equal(p.Held(), held) || !slices.Equal(p.Leftovers(), left) {
				t.Errorf("told %t, epoch %d, holds %v, left %v", told, p.Topology().Epoch, p.Held(), p.Leftovers())
			}
			if !p.Clock(0).Contains(crdt.Dot{Actor: stranger, N: 1}) {
				t.Error("its data is not there")
			}
			p.digests()
			p.stop()
		})
	}
}

// Who is behind after what.
func TestMovesAndBehind(t *testing.T) {
	type step struct {
		role   topology.Role
		behind bool
		then   string
	}
	for name, steps := range map[string][]step{
		"a move that is copied in full":    {{pending, true, "catch up"}, {serving, false, ""}, {parting, false, ""}, {none, false, ""}},
		"switched before it was copied":    {{pending, true, ""}, {serving, true, "catch up"}, {parting, false, ""}},
		"wiped while it was copied":        {{pending, true, "catch up"}, {pending, false, "wipe"}, {pending, true, ""}, {serving, true, ""}},
		"wiped after it was switched":      {{pending, true, "catch up"}, {serving, false, "wipe"}, {serving, true, ""}},
		"restarted while it was copied":    {{pending, true, "catch up"}, {pending, false, "restart"}, {serving, false, "crash"}, {serving, false, ""}},
		"crashed while it was copied":      {{pending, true, "crash"}, {pending, true, ""}, {serving, true, ""}},
		"back to a leftover":               {{pending, true, "catch up"}, {none, false, ""}, {pending, true, ""}, {none, true, ""}, {serving, true, ""}},
		"a serving one that missed epochs": {{pending, true, "catch up"}, {serving, false, ""}, {pending, true, ""}},
		"wiped while it was parting":       {{pending, true, "catch up"}, {parting, false, "wipe"}, {parting, true, ""}},
		"another move of the partition":    {{pending, true, "catch up"}, {pending, false, "touch"}, {pending, true, ""}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newMover(t, memstore.Config{})
				top := p.Topology()
				touched := false
				for i, s := range steps {
					next := moving(top.Epoch+1, top, s.role, none, none, none)
					if touched {
						next.Since[0], next.Moves[0].Began = next.Epoch, next.Epoch
					}
					if i == 0 || s.role != top.Role(0, "n1") || touched {
						p.adopt(next)
						top = next
					}
					if p.Behind(0) != s.behind {
						t.Fatalf("step %d (%v): behind is %t", i, s.role, p.Behind(0))
					}
					if want := s.behind && s.role != pending && s.role != none; (p.BehindCount() == 1) != want {
						t.Errorf("step %d: %d partitions behind", i, p.BehindCount())
					}
					p.cfg.Topology = top
					switch s.then {
					case "catch up":
						p.CaughtUp(0, p.BehindMark(0))
						p.settle()
					case "restart":
						p.restart()
					case "crash":
						p.crash(true)
						p.start()
					case "wipe":
						p.stop()
						if err := p.disk.Wipe(); err != nil {
							t.Fatal(err)
						}
						p.start()
					case "touch":
						touched = true
					}
				}
				p.stop()
			})
		})
	}
}

// Catching up counts only if it began after the node fell behind.
func TestCaughtUpWithThePast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newMover(t, memstore.Config{SyncMin: time.Millisecond, SyncMax: time.Millisecond})
		p.adopt(moving(2, p.Topology(), pending, none, none, none))
		mark := p.BehindMark(0)
		p.adopt(moving(3, p.Topology(), none, none, none, none))
		p.Adopt(moving(4, p.Topology(), pending, none, none, none), func(error) {})
		p.CaughtUp(0, mark) // the mark is still to be seen, and the adoption in the queue
		p.settle()
		if !p.Behind(0) || p.BehindMark(0) == mark {
			t.Error("caught up with what it had before")
		}
		p.CaughtUp(0, mark)
		p.settle()
		if !p.Behind(0) {
			t.Error("caught up with what it had before")
		}
		p.stop()
	})
}

// The former mark, of all partitions at once, still counts.
func TestBehindOfFormerVersions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := replicated(t)
		p.catchUp()
		p.stop()
		engine, err := p.disk.Open()
		if err != nil {
			t.Fatal(err)
		}
		tx, err := engine.Begin()
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(tx.Put([]byte("mbehind"), []byte{1}), tx.Commit(), engine.Close()); err != nil {
			t.Fatal(err)
		}
		p.start()
		if p.BehindCount() != partitions {
			t.Errorf("behind on %d", p.BehindCount())
		}
		p.catchUp()
		p.restart()
		if p.BehindCount() != 0 {
			t.Errorf("behind on %d", p.BehindCount())
		}
		p.stop()
	})
}
