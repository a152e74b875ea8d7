package nodetest

import (
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/cas"
	"github.com/atolldb/atoll/node/storage"
	"github.com/atolldb/atoll/node/storage/memstore"
)

// told is a key of which three disks accept and store what they are told to.
type told struct {
	*testing.T
	events *events
	disks  [3]*overheard
	n      uint64
}

const toldKey = "serial 1 of 0"

func newTold(t *testing.T) *told {
	b := &told{T: t, events: newEvents(8)}
	for i, who := range []string{"a1", "a2", "a3"} {
		engine, err := memstore.NewDisk(memstore.Config{}).Open()
		if err != nil {
			t.Fatal(err)
		}
		b.disks[i] = &overheard{engine, b.events, who}
	}
	return b
}

// write has one disk take a step.
func (b *told) write(disk int, put func(tx storage.Txn, hash uint64, full []byte) error) {
	b.Helper()
	full := fullKey(toldKey)
	tx, err := b.disks[disk].Begin()
	if err == nil {
		err = put(tx, hashring.KeyHash(full), full)
	}
	if err == nil {
		err = tx.Commit()
	}
	if err != nil {
		b.Fatal(err)
	}
}

func (b *told) accept(ballot cas.Ballot, v crdt.Version, disks ...int) {
	b.Helper()
	for _, d := range disks {
		b.write(d, func(tx storage.Txn, hash uint64, full []byte) error {
			s := cas.State{Promised: ballot, Accepted: cas.Proposal{Ballot: ballot, Dot: v.Dot, Record: crdt.Record{Versions: []crdt.Version{v}}}}
			return tx.Put(append([]byte{'p'}, recordKey(full)[1:]...), cas.AppendState(nil, hash, s))
		})
	}
}

// mint has a step bear an event of the key.
func (b *told) mint(tx storage.Txn, hash uint64, full []byte) error {
	b.n++
	event := crdt.Dot{Actor: crdt.MakeActor(1, 1), N: b.n}
	key := binary.BigEndian.AppendUint16([]byte{'i'}, uint16(hashring.PartitionOf(hash, b.events.partitions)))
	key = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(key, uint32(event.Actor)), event.N)
	return tx.Put(key, append(make([]byte, 9), full...)) // no digest, no requests
}

// store stores a version in one step with an event.
func (b *told) store(v crdt.Version, disk int) {
	b.Helper()
	b.write(disk, func(tx storage.Txn, hash uint64, full []byte) error {
		if err := tx.Put(recordKey(full), crdt.AppendRecord(nil, hash, crdt.Record{Versions: []crdt.Version{v}})); err != nil {
			return err
		}
		return b.mint(tx, hash, full)
	})
}

// collect commits a delete that is collected in the same step.
func (b *told) collect(v crdt.Version, disk int) {
	b.Helper()
	b.write(disk, func(tx storage.Txn, hash uint64, full []byte) error {
		s := cas.State{Promised: cas.Ballot(v.Dot.N), Committed: cas.Ballot(v.Dot.N)}
		if err := tx.Put(append([]byte{'p'}, recordKey(full)[1:]...), cas.AppendState(nil, hash, s)); err != nil {
			return err
		}
		return b.mint(tx, hash, full)
	})
}

// finds checks what is found until now.
func (b *told) finds(want ...string) {
	b.Helper()
	got := b.events.take()
	if len(got) != len(want) || !slices.EqualFunc(got, want, strings.Contains) {
		b.Errorf("found %q, want %q", got, want)
	}
}

// What writers at serial levels are told is accepted by a majority then. Who decided it
// has stored it with an event, or somebody else has, or what replaced it; who finds it
// decided need not have, but somebody has at rest.
func TestTold(t *testing.T) {
	actor := crdt.BallotActor(1, 0)
	one := crdt.Version{Dot: crdt.Dot{Actor: actor, N: uint64(cas.At(1000))}, Value: []byte("1")}
	del := crdt.Version{Dot: one.Dot, Dead: true}
	two := crdt.Version{Dot: crdt.Dot{Actor: actor, N: uint64(cas.At(2000))}, Value: []byte("2"), Past: crdt.VV(nil).With(one.Dot)}
	three := crdt.Version{Dot: crdt.Dot{Actor: actor, N: uint64(cas.At(3000))}, Value: []byte("3"), Past: two.Past.With(two.Dot)}
	at := func(v crdt.Version) cas.Ballot { return cas.Ballot(v.Dot.N) }
	const (
		decides, finds      = false, true
		noMajority, noEvent = "no majority", "of which there is no event"
		notStored           = "no node has stored"
	)
	for _, c := range []struct {
		name     string
		run      func(b *told)
		replayed bool
		now      []string
		later    func(b *told)
		atRest   []string
	}{
		{"stored by who decided it", func(b *told) { b.accept(at(one), one, 0, 1); b.store(one, 0) }, decides, nil, nil, nil},
		{"not stored by who decided it", func(b *told) { b.accept(at(one), one, 0, 1) }, decides, []string{notStored}, func(b *told) { b.store(one, 0) }, nil},
		{"found, and stored later", func(b *told) { b.accept(at(one), one, 0, 1) }, finds, nil, func(b *told) { b.store(one, 2) }, nil},
		{"found, and never stored", func(b *told) { b.accept(at(one), one, 0, 1) }, finds, nil, nil, []string{noEvent}},
		{"found by one", func(b *told) { b.accept(at(one), one, 0) }, finds, []string{noMajority}, func(b *told) { b.store(one, 0) }, nil},
		{"found by two ballots", func(b *told) { b.accept(at(one), one, 0); b.accept(at(two), one, 1) }, finds, []string{noMajority}, func(b *told) { b.store(one, 0) }, nil},
		{"finished by another ballot", func(b *told) { b.accept(at(one), one, 0); b.accept(at(two), one, 1, 2); b.store(one, 2) }, decides, nil, nil, nil},
		{"replaced before it was stored", func(b *told) {
			b.accept(at(one), one, 0, 1)
			b.accept(at(two), two, 1, 2)
			b.store(two, 1)
		}, decides, nil, nil, nil},
		{"replaced twice before it was stored", func(b *told) {
			b.accept(at(one), one, 0, 1)
			b.accept(at(two), two, 1, 2)
			b.accept(at(three), three, 0, 1)
			b.store(three, 1)
		}, decides, nil, nil, nil},
		{"a delete, collected at once", func(b *told) { b.accept(at(one), del, 0, 1); b.collect(del, 0) }, decides, nil, nil, nil},
		{"passed over", func(b *told) {
			b.accept(at(one), one, 0, 1)
			b.accept(at(three), crdt.Version{Dot: three.Dot, Past: crdt.VV(nil).With(two.Dot)}, 1, 2)
			b.store(crdt.Version{Dot: three.Dot, Past: crdt.VV(nil).With(two.Dot)}, 1)
		}, finds, nil, nil, []string{noEvent}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newTold(t)
			c.run(b)
			b.finds()
			b.events.told(toldKey, one.Dot, crdt.Dot{}, c.replayed, "c1")
			b.finds(c.now...)
			if c.later != nil {
				c.later(b)
			}
			b.events.unheardOf()
			b.finds(c.atRest...)
		})
	}
}
