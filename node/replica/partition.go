package replica

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/cespare/xxhash/v2"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/session"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/storage"
	"github.com/atolldb/atoll/node/wire"
)

// snapshotEvery is how many dots a partition takes before its clock and digest
// are written as a whole again. Recovery reads at most about as many index
// entries per partition.
const snapshotEvery = 4096

// partition is what an owner knows of one partition beside its records.
type partition struct {
	id hashring.Partition

	// decided is ahead of durable by the group that is being committed. Only
	// the committer's goroutine touches it.
	decided state
	// unsaved counts dots since the last snapshot was decided.
	unsaved int
	// saved: there is a snapshot.
	saved bool
	// stand is decided, as is decided.
	stand standing
	// unproven: the mark of stand is not durable; see unproven.go.
	unproven bool
	// provable is that mark for others than the committer's goroutine, 0 for none.
	provable atomic.Uint64
	// own is the highest dot that this node minted here before it dropped the
	// partition and got it again; see drop.go.
	own crdt.Dot
	// memory is since when requests are known, in milliseconds since 1970; see
	// requests.go. It is decided, as stand is.
	memory int64

	shown atomic.Pointer[standing]
	// hiding is what hidden returns.
	hiding atomic.Uint64
	// recounting: a recount is to come. counting has one element while one is
	// under way.
	recounting atomic.Bool
	counting   chan struct{}

	// pruned is up to where the index was given up, since the start, by actor.
	// It belongs to the goroutine of the chores.
	pruned map[crdt.Actor]uint64

	mu      sync.Mutex
	durable state
	// sum caches the hash of the durable clock; 0 is "compute it".
	sum uint64
}

type state struct {
	clock   *crdt.Clock
	digests digests
	floors  wire.Floors
	// losses are never changed, but replaced.
	losses *session.Losses
}

func newPartition(id hashring.Partition) *partition {
	p := &partition{
		id: id, decided: state{clock: &crdt.Clock{}}, durable: state{clock: &crdt.Clock{}},
		counting: make(chan struct{}, 1),
	}
	p.show()
	return p
}

// show publishes the standing that was decided and is durable by now.
func (p *partition) show() {
	s := p.stand
	p.shown.Store(&s)
	if p.unproven {
		p.provable.Store(s.mark)
	} else {
		p.provable.Store(0)
	}
}

// highest is the counter of the highest dot of a in the decided clock, or of
// those that this node minted in an earlier stay.
func (p *partition) highest(a crdt.Actor) uint64 {
	n := p.decided.clock.Max(a)
	if p.own.Actor == a {
		n = max(n, p.own.N)
	}
	return n
}

// effect is what one decided operation does to a partition's state.
type effect struct {
	part *partition
	dots []crdt.Dot
	// ids of those of dots that have one.
	ids []crdt.EventID
	// delta of the digest of bucket; many are deltas of operations on more than
	// one key.
	bucket []byte
	delta  uint64
	many   digests
	// span, for full syncs: a whole clock that is joined.
	clock *crdt.Clock
	// floors that are lifted, nil for none.
	floors *wire.Floors
	// losses as they are now, nil for as they were.
	losses *session.Losses
}

// request that one of the dots carried out, zero for none that is known.
func (e *effect) request(d crdt.Dot) crdt.RequestID {
	for i := range e.ids {
		if e.ids[i].Dot == d {
			return e.ids[i].ID
		}
	}
	return crdt.RequestID{}
}

func (s *state) take(e *effect) {
	for _, d := range e.dots {
		s.clock.Add(d)
	}
	if e.clock != nil {
		s.clock.Join(e.clock)
	}
	s.digests.flip(e.bucket, e.delta)
	s.digests.apply(e.many)
	if e.floors != nil {
		s.floors = liftFloors(s.floors, *e.floors)
	}
	if e.losses != nil {
		s.losses = e.losses
	}
}

// harden moves a durable effect into what others see, and wakes who waits for it.
func (r *Replica) harden(e *effect) {
	p := e.part
	p.mu.Lock()
	p.durable.take(e)
	p.sum = 0
	if e.floors != nil {
		p.hide(p.durable.floors)
	}
	p.mu.Unlock()
	r.waits.delivered(e)
}

// Clock returns a copy of the durable clock.
func (p *partition) Clock() *crdt.Clock {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.durable.clock.Clone()
}

// Sum returns the durable state in short.
func (p *partition) Sum() wire.Sum {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sumLocked()
}

// sums returns the durable state of one moment in short, and its digests.
func (p *partition) sums() (wire.Sum, wire.Floors, digests) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sumLocked(), p.durable.floors, slices.Clone(p.durable.digests)
}

// difference returns the durable state of one moment, and its digests.
func (p *partition) difference() (wire.Difference, digests) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return wire.Difference{Sum: p.sumLocked(), Clock: p.durable.clock.Clone(), Floors: p.durable.floors, Losses: p.durable.losses}, slices.Clone(p.durable.digests)
}

func (p *partition) sumLocked() wire.Sum {
	if p.sum == 0 {
		p.sum = max(1, xxhash.Sum64(crdt.AppendClock(nil, p.durable.clock))^floorHash(p.durable.floors))
	}
	return wire.Sum{Partition: p.id, Clock: p.sum, Digest: p.durable.digests.total()}
}

// putSnapshot writes the decided state into tx.
func (p *partition) putSnapshot(tx storage.Txn) error {
	b := binary.BigEndian.AppendUint64(nil, p.decided.digests.total())
	b = appendDigests(crdt.AppendClock(b, p.decided.clock), p.decided.digests)
	if err := tx.Put(snapshotKey(p.id), b); err != nil {
		return fmt.Errorf("write clock snapshot of partition %d: %w", p.id, err)
	}
	p.unsaved, p.saved = 0, true
	return nil
}

// recoverPartition reads snapshot and index entries: the snapshot may be older
// than the records, and the index entries above it say what it lacks. It reports
// whether some of them were unreadable: then the clock may lack dots that were
// acknowledged, and the digest is not that of the records.
func recoverPartition(r storage.Reader, id hashring.Partition) (p *partition, damaged bool, err error) {
	p = newPartition(id)
	p.decided, err = loadSnapshot(r, id)
	if damaged = errors.Is(err, storage.ErrCorrupt); err != nil && !damaged {
		return nil, false, fmt.Errorf("read clock snapshot of partition %d: %w", id, err)
	}
	p.saved = !damaged && err == nil
	if p.decided.floors, err = loadFloors(r, id); err != nil {
		return nil, false, err
	}
	if p.decided.losses, err = loadLosses(r, id); err != nil {
		return nil, false, err
	}
	if p.memory, p.stand.asked, err = loadMemory(r, id); err != nil {
		return nil, false, err
	}
	// Entries at or below a base of the snapshot are in it: skip over them by
	// starting the scan again behind them.
	bases := p.decided.clock.Clone()
	lo, end := indexKey(nil, id, crdt.Dot{}), indexEnd(id)
	for lo != nil {
		from := lo
		lo = nil
		err := scanAll(r, from, end, func(kv storage.KV, unreadable bool) bool {
			d := splitIndexKey(kv.Key)
			if base := bases.Base(d.Actor); d.N <= base {
				lo = indexKey(nil, id, crdt.Dot{Actor: d.Actor, N: base + 1})
				return false
			}
			x, ok := decodeIndexed(kv.Value)
			unreadable = unreadable || !ok
			if !p.decided.clock.Add(d) {
				return true
			}
			p.unsaved++
			if damaged = damaged || unreadable; !unreadable {
				p.decided.digests.flip(bucketOf(x.key), x.delta)
			}
			return true
		})
		if err != nil {
			return nil, false, fmt.Errorf("read dot index of partition %d: %w", id, err)
		}
	}
	p.durable = state{clock: p.decided.clock.Clone(), digests: slices.Clone(p.decided.digests), floors: p.decided.floors, losses: p.decided.losses}
	p.hide(p.decided.floors)
	return p, damaged, nil
}

func loadSnapshot(r storage.Reader, id hashring.Partition) (state, error) {
	b, err := r.Get(snapshotKey(id))
	none := state{clock: &crdt.Clock{}}
	if isNotFound(err) {
		return none, nil
	}
	if err != nil {
		return none, err
	}
	if len(b) < 8 {
		return none, storage.ErrCorrupt
	}
	c, rest, err := crdt.DecodeClock(b[8:])
	if err != nil {
		return none, storage.ErrCorrupt
	}
	d, ok := decodeDigests(rest)
	if !ok || d.total() != binary.BigEndian.Uint64(b) {
		return none, storage.ErrCorrupt
	}
	return state{clock: c, digests: d}, nil
}
