package nodetest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/storage"
	"github.com/atolldb/atoll/node/storage/memstore"
)

// Other regions, moves and sessions go by clocks: what is in a record and has no event
// in any of them is seen here, and nobody else ever asks for it. Digests find it later,
// so at the end of a World there is nothing to be seen of that. So it is looked at
// where it happens, on the way to the disks:
//
//	E1   a version is first stored, at whatever node, in one step with an event that
//	     it travels by: its own dot, or one that was minted with what was decided.
//	     At rest whoever holds a version has such an event in its clock. What a reader
//	     saw, or a writer was told of, at a serial level had one.

// events are by which events versions travel.
type events struct {
	partitions int

	mu sync.Mutex
	// of versions, by full key.
	of map[string]map[crdt.Dot][]crdt.Dot
	// last is what was stored of a key last, by full key, if nothing in it is an orphan.
	last map[string]string
	// minted are the events that were ever indexed.
	minted map[partitionDot]bool
	// seen are versions that readers at serial levels saw, and writers were told of.
	seen     map[seen]string
	problems []string
}

type seen struct {
	key     string
	version crdt.Dot
}

func newEvents(partitions int) *events {
	return &events{partitions: partitions, of: map[string]map[crdt.Dot][]crdt.Dot{}, last: map[string]string{}, minted: map[partitionDot]bool{}, seen: map[seen]string{}}
}

func (e *events) problem(format string, args ...any) {
	if len(e.problems) < 20 {
		e.problems = append(e.problems, fmt.Sprintf("E1: "+format, args...))
	}
}

// take returns what was found since it was asked last.
func (e *events) take() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	out := e.problems
	e.problems = nil
	return out
}

// isLast reports whether nothing has to be looked at, as of most of what comes to a
// disk: it is what somebody stored last.
func (e *events) isLast(full, record []byte) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.last[string(full)] == string(record)
}

// stored notes a record in which nothing is an orphan.
func (e *events) stored(full string, record []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.last[full] = string(record)
}

// orphans are versions of a key that came with no event yet.
func (e *events) orphans(full string, rec *crdt.Record) (out []crdt.Dot) {
	e.mu.Lock()
	defer e.mu.Unlock()
	known := e.of[full]
	for i := range rec.Versions {
		if d := rec.Versions[i].Dot; known[d] == nil {
			out = append(out, d)
		}
	}
	return out
}

// isNew notes an event, and reports whether it never was before.
func (e *events) isNew(p hashring.Partition, d crdt.Dot) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	id := partitionDot{p, d}
	was := e.minted[id]
	e.minted[id] = true
	return !was
}

// carries notes that rec travels by an event that was minted just now.
func (e *events) carries(full string, event crdt.Dot, rec *crdt.Record) {
	e.mu.Lock()
	defer e.mu.Unlock()
	known := e.of[full]
	if known == nil {
		known = map[crdt.Dot][]crdt.Dot{}
		e.of[full] = known
	}
	for i := range rec.Versions {
		if d := rec.Versions[i].Dot; d == event || d.Actor.IsBallot() {
			known[d] = append(known[d], event)
		}
	}
}

// told notes what a writer was told of what consensus decided, as what a reader saw: a
// version and an event, zero for what he was not told. The event has to be there by now;
// the version may be stored later, by who finishes what others have accepted, or never,
// if it was replaced before.
func (e *events) told(key string, version, event crdt.Dot, who string) {
	full := fullKey(key)
	if !version.IsZero() {
		e.saw(key, version, who)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if p := hashring.PartitionOf(hashring.KeyHash(full), e.partitions); !event.IsZero() && !e.minted[partitionDot{p, event}] {
		e.problem("%s was told that he wrote %s as event %v, which nobody minted", who, key, event)
	}
}

// saw notes what a reader saw of what consensus decided. It may be stored later, by
// who finishes it.
func (e *events) saw(key string, version crdt.Dot, who string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.seen[seen{key, version}] = who
}

// unheardOf checks at rest that there was an event of all that readers saw. What was
// replaced before anybody stored it travelled in the past of that.
func (e *events) unheardOf(record func(key string) (crdt.Record, error)) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	for s, who := range e.seen {
		if e.of[string(fullKey(s.key))][s.version] != nil {
			continue
		}
		rec, err := record(s.key)
		if err != nil {
			return err
		}
		if !rec.Covers(s.version) {
			e.problem("%s saw, or was told of, %v of %s, of which there is no event", who, s.version, s.key)
		}
	}
	return nil
}

// heldBy checks the record of an owner at rest against its clock.
func (e *events) heldBy(who string, clock *crdt.Clock, full, record []byte) error {
	rec, err := crdt.DecodeRecord(hashring.KeyHash(full), record)
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := range rec.Versions {
		v, any := rec.Versions[i].Dot, false
		for _, d := range e.of[string(full)][v] {
			any = any || clock.Contains(d)
		}
		if !any {
			e.problem("%s holds %v of %q, and its clock has none of its events %v", who, v, full, e.of[string(full)][v])
		}
	}
	return nil
}

// overheard is a disk whose writes are looked at.
type overheard struct {
	*memstore.Engine
	events *events
	who    string
}

func (n *overheard) Begin() (storage.Txn, error) {
	tx, err := n.Engine.Begin()
	if err != nil {
		return nil, err
	}
	return &overheardTxn{Txn: tx, events: n.events, who: n.who}, nil
}

type overheardTxn struct {
	storage.Txn
	events *events
	who    string
	// owed are versions that were stored, by key, and have no event yet.
	owed map[string][]crdt.Dot
}

// Put looks at records and at the entries of the index: see package replica.
func (t *overheardTxn) Put(key, value []byte) error {
	if err := t.Txn.Put(key, value); err != nil {
		return err
	}
	switch key[0] {
	case 'r':
		if t.events.isLast(key[9:], value) {
			return nil
		}
		full := string(key[9:])
		rec, err := crdt.DecodeRecord(binary.BigEndian.Uint64(key[1:]), value)
		if err != nil {
			return fmt.Errorf("what is stored as the record of %q is none: %w", full, err)
		}
		owed := t.events.orphans(full, &rec)
		if owed == nil {
			t.events.stored(full, value)
			return nil
		}
		if t.owed == nil {
			t.owed = map[string][]crdt.Dot{}
		}
		t.owed[full] = owed
	case 'i':
		p := hashring.Partition(binary.BigEndian.Uint16(key[1:]))
		event := crdt.Dot{Actor: crdt.Actor(binary.BigEndian.Uint32(key[3:])), N: binary.BigEndian.Uint64(key[7:])}
		if t.events.isNew(p, event) {
			full := value[9+16*int(value[8]):]
			return t.bears(full, event)
		}
	}
	return nil
}

// bears notes what an event that is new travels with.
func (t *overheardTxn) bears(full []byte, event crdt.Dot) error {
	b, err := t.Txn.Get(recordKey(full))
	if errors.Is(err, storage.ErrNotFound) || errors.Is(err, storage.ErrCorrupt) {
		return nil // it is dead, and may be gone; or a disk lost it
	}
	if err != nil {
		return fmt.Errorf("record of %q, of which event %v is: %w", full, event, err)
	}
	rec, err := crdt.DecodeRecord(hashring.KeyHash(full), b)
	if err != nil {
		return err
	}
	t.events.carries(string(full), event, &rec)
	owed := t.events.orphans(string(full), &rec)
	if t.owed[string(full)] != nil {
		t.owed[string(full)] = owed
	}
	if owed == nil {
		t.events.stored(string(full), b)
	}
	return nil
}

// Commit comes when every step of a group is complete.
func (t *overheardTxn) Commit() error {
	t.events.mu.Lock()
	for full, owed := range t.owed {
		for _, d := range owed {
			t.events.problem("%s has stored %v of %q, of which nobody has minted an event", t.who, d, full)
		}
	}
	t.events.mu.Unlock()
	return t.Txn.Commit()
}
