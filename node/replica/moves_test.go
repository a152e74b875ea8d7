package replica_test

import (
	"errors"
	"math/rand/v2"
	"slices"
	"sync/atomic"
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

func newRegistry() *memtopo.Registry { return memtopo.New(1) }

// moves runs random roles, writes, drops and restarts against a twin.
type moves struct {
	*place
	rng *rand.Rand

	stay   [partitions]*stay
	minted map[partDot]bool
	// world is what others have of each partition: all that was ever said.
	world   [partitions][]wire.Entry
	sayings [partitions]uint64
}

// stay is what the twin expects of a partition that is held.
type stay struct {
	clock  *crdt.Clock
	behind bool
}

func newMoves(t *testing.T, seed uint64) *moves {
	m := &moves{rng: rand.New(rand.NewPCG(seed, 9)), minted: map[partDot]bool{}}
	m.place = newMover(t, memstore.Config{Seed: seed, SyncMin: time.Millisecond, SyncMax: 2 * time.Millisecond})
	return m
}

func (m *moves) run(steps int) {
	for range steps {
		p := hashring.Partition(m.rng.IntN(partitions))
		switch m.rng.IntN(12) {
		case 0, 1, 2:
			m.move()
		case 3, 4, 5:
			m.burst(p)
		case 6, 7:
			m.tryDrop(p)
		case 8:
			m.copyAll(p)
		case 9:
			m.caughtUp(p)
		case 10:
			actor := m.Actor()
			m.restart()
			if m.Actor() != actor {
				m.t.Errorf("actor %v after a clean stop of %v: %s", m.Actor(), actor, m.Unclean())
			}
		case 11:
			m.crash(m.rng.IntN(2) == 0)
			m.start()
		}
		m.settle()
		m.check()
		if m.t.Failed() {
			return
		}
	}
	m.stop()
}

func (m *moves) role(p hashring.Partition) topology.Role { return m.Topology().Role(p, "n1") }

// next is a topology in which the role of some partitions is another.
func (m *moves) next(last *topology.Topology) *topology.Topology {
	roles := make([]topology.Role, partitions)
	for p := range roles {
		roles[p] = last.Role(hashring.Partition(p), "n1")
		if m.rng.IntN(3) == 0 {
			roles[p] = topology.Role(m.rng.IntN(4))
		}
	}
	return moving(last.Epoch+1, last, roles...)
}

func (m *moves) move() {
	was := m.Topology()
	next := m.next(was)
	m.adopt(next)
	m.moved(was, next)
}

// moved tells the twin.
func (m *moves) moved(was, is *topology.Topology) {
	for i := range m.stay {
		p := hashring.Partition(i)
		before, after := was.Role(p, "n1"), is.Role(p, "n1")
		if after == none {
			continue
		}
		if m.stay[i] == nil {
			m.stay[i] = &stay{clock: &crdt.Clock{}}
		}
		switch {
		case before == none:
			m.stay[i].behind = true
		case after == pending && before != pending:
			m.stay[i].behind = true
		}
	}
}

// burst queues writes with an adoption among them, and checks each answer.
func (m *moves) burst(p hashring.Partition) {
	was := m.Topology()
	keys := keysIn(p, 2)
	queued := make([]*answer, 6)
	at := m.rng.IntN(9) // where the adoption stands, if it does
	var next *topology.Topology
	for i := range queued {
		if i == at {
			next = m.next(was)
		}
		a := &answer{epoch: max(was.Epoch, 3) - topology.Epoch(m.rng.IntN(3)), key: keys[m.rng.IntN(2)], after: next != nil}
		switch m.rng.IntN(8) {
		case 0:
			a.epoch = 0
		case 1, 2:
			if next != nil {
				a.epoch = next.Epoch
			}
		}
		queued[i] = a
	}
	var adopted atomic.Bool
	for i, a := range queued {
		if i == at {
			m.Adopt(next, func(err error) {
				adopted.Store(true)
				if err != nil {
					m.t.Error(err)
				}
			})
		}
		m.send(p, a, &adopted)
	}
	m.settle()
	if next != nil {
		m.moved(was, next)
	}
	for i, a := range queued {
		if !a.done {
			m.t.Fatalf("write %d has no answer", i)
		}
		// What holds is what stood before it in the queue.
		top := was
		if a.after {
			top = next
		}
		role := top.Role(p, "n1")
		may := (a.epoch == 0 || a.epoch >= top.SinceOf(p)) && role != none && (!a.mint || role == serving)
		if a.err == nil && (!may || a.late != a.after) {
			m.t.Errorf("write %d at epoch %d was taken: role %v since %d; before the adoption was done: %t, though queued behind it: %t", i, a.epoch, role, top.SinceOf(p), !a.late, a.after)
		}
		// A refusal may be that of what was shown when it was sent.
		shown := was.Role(p, "n1")
		if a.err != nil && may && !(a.after && (a.epoch != 0 && was.SinceOf(p) > a.epoch || shown == none || a.mint && shown != serving)) && !errors.Is(a.err, replica.ErrBehind) {
			m.t.Errorf("write %d at epoch %d of role %v: %v", i, a.epoch, role, a.err)
		}
		if a.err == nil {
			m.stay[p].clock.Add(a.entry.Dots[0])
			m.world[p] = append(m.world[p], a.entry)
		}
	}
}

type answer struct {
	epoch       topology.Epoch
	key         string
	mint        bool
	after, late bool
	done        bool
	err         error
	entry       wire.Entry
}

func (m *moves) send(p hashring.Partition, a *answer, adopted *atomic.Bool) {
	done := func(err error) { a.done, a.err, a.late = true, err, adopted.Load() }
	a.mint = m.rng.IntN(2) == 0
	if !a.mint {
		m.sayings[p]++
		a.entry = foreign(a.key, stranger, m.sayings[p], nil, "v")
		a.entry.Dots = []crdt.Dot{{Actor: stranger, N: m.sayings[p]}}
		m.ApplyAt(a.epoch, []wire.Entry{a.entry}, func(_ int, err error) { done(err) })
		return
	}
	m.Mint(replica.Mint{
		Key: []byte(a.key), KeyHash: hashring.KeyHash([]byte(a.key)), Epoch: a.epoch, Value: []byte("mine"),
		Decided: func(x *replica.Minted) {
			if m.minted[partDot{p, x.Dot}] {
				m.t.Errorf("I10: %v of partition %d names two writes", x.Dot, p)
			}
			m.minted[partDot{p, x.Dot}] = true
			a.entry = wire.Entry{Key: []byte(a.key), Record: x.Record, Dots: []crdt.Dot{x.Dot}}
		},
		Done: func(_ *replica.Minted, err error) { done(err) },
	})
}

func (m *moves) tryDrop(p hashring.Partition) {
	err := m.drop(p)
	switch held := m.stay[p] != nil; {
	case held && m.role(p) != none:
		wantError(m.t, err, replica.ErrStillOwned)
	case err != nil:
		m.t.Error(err)
	default:
		m.stay[p] = nil
	}
}

// copyAll is a full sync from those who have everything.
func (m *moves) copyAll(p hashring.Partition) {
	if m.role(p) == none || len(m.world[p]) == 0 {
		return
	}
	c := &crdt.Clock{}
	for _, e := range m.world[p] {
		c.Add(e.Dots[0])
	}
	m.mustApply(m.world[p]...)
	if err := m.joinClock(p, c); err != nil {
		m.t.Fatal(err)
	}
	m.stay[p].clock.Join(c)
}

func (m *moves) caughtUp(p hashring.Partition) {
	m.CaughtUp(p, m.BehindMark(p))
	if m.stay[p] != nil {
		m.stay[p].behind = false
	}
}

func (m *moves) check() {
	var held []hashring.Partition
	for i, s := range m.stay {
		p := hashring.Partition(i)
		if s == nil {
			if got := m.entriesOf(p); got['r']+got['i']+got['s']+got['b']+got['d'] > 0 {
				m.t.Errorf("partition %d was dropped and has %v", p, got)
			}
			continue
		}
		held = append(held, p)
		if m.Behind(p) != s.behind {
			m.t.Errorf("partition %d is behind: %t", p, m.Behind(p))
		}
		if got := m.Clock(p); got == nil || !got.Equal(s.clock) {
			m.t.Errorf("clock of partition %d: %v, want %v", p, got, s.clock)
		}
		if got, err := m.DigestFromStore(p); err != nil || got != m.Sum(p).Digest {
			m.t.Errorf("partition %d: kept digest %x, records give %x, %v", p, m.Sum(p).Digest, got, err)
		}
	}
	if got := m.Held(); !slices.Equal(got, held) {
		m.t.Errorf("holds %v, want %v", got, held)
	}
	synctest.Wait()
}
