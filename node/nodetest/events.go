package nodetest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/cas"
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
//	     At rest whoever holds a version has such an event in its clock.
//	     What a reader saw, or a writer was told of, at a serial level, a majority of
//	     disks has accepted by then. What a writer was told of by who decided it travels
//	     by then, too: it was stored with an event, or something that directly replaced it
//	     does. What a reader saw, and what somebody found decided who was asked again
//	     for it, in what others had accepted, does so at rest.

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
	// replaced tells by which versions one was directly replaced, or would be by what
	// somebody has accepted, by full key.
	replaced map[string]map[crdt.Dot][]crdt.Dot
	// accepted tells whose disks have accepted what, by full key.
	accepted map[string]map[ballot]map[string]bool
	// seen are versions that readers at serial levels saw, and writers were told of,
	// before they travelled.
	seen     map[seen]string
	problems []string
}

// ballot of a proposal, and the version that it is about.
type ballot struct {
	n       cas.Ballot
	version crdt.Dot
}

// acceptors are how many of the three owners of a key in a region decide.
const acceptors = 2

type seen struct {
	key     string
	version crdt.Dot
}

func newEvents(partitions int) *events {
	return &events{
		partitions: partitions, of: map[string]map[crdt.Dot][]crdt.Dot{}, last: map[string]string{}, minted: map[partitionDot]bool{},
		replaced: map[string]map[crdt.Dot][]crdt.Dot{}, accepted: map[string]map[ballot]map[string]bool{}, seen: map[seen]string{},
	}
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

// proposed notes what was accepted somewhere: which versions its record replaced. Of a
// past the highest ballot of each actor is exact, and that alone.
func (e *events) proposed(full string, p *cas.Proposal) {
	e.mu.Lock()
	defer e.mu.Unlock()
	of := e.replaced[full]
	if of == nil {
		of = map[crdt.Dot][]crdt.Dot{}
		e.replaced[full] = of
	}
	for i := range p.Record.Versions {
		v := &p.Record.Versions[i]
		for _, seen := range v.Past {
			was := crdt.Dot{Actor: seen.Actor, N: seen.N}
			if was.Actor.IsBallot() && !slices.Contains(of[was], v.Dot) {
				of[was] = append(of[was], v.Dot)
			}
		}
	}
}

// accepts notes that a disk has accepted something, durably.
func (e *events) accepts(who, full string, b ballot) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.accepted[full] == nil {
		e.accepted[full] = map[ballot]map[string]bool{}
	}
	by := e.accepted[full][b]
	if by == nil {
		by = map[string]bool{}
		e.accepted[full][b] = by
	}
	by[who] = true
}

// decided reports whether a majority of disks has accepted a version, by one ballot.
// Called with the lock held, as what follows.
func (e *events) decided(full string, version crdt.Dot) bool {
	for b, by := range e.accepted[full] {
		if b.version == version && len(by) >= acceptors {
			return true
		}
	}
	return false
}

// travels reports whether a version was stored with an event; or, if it was replaced
// before anybody had stored it, whether what replaced it was.
func (e *events) travels(full string, version crdt.Dot) bool {
	if e.of[full][version] != nil {
		return true
	}
	for _, by := range e.replaced[full][version] {
		if e.travels(full, by) {
			return true
		}
	}
	return false
}

// told checks what a writer was told of what consensus decided: a version and an event,
// zero for what he was not told. Replayed says that the answer was that somebody found it
// decided, not that of who decided it.
func (e *events) told(key string, version, event crdt.Dot, replayed bool, who string) {
	if !version.IsZero() {
		e.saw(key, version, who)
	}
	full := string(fullKey(key))
	e.mu.Lock()
	defer e.mu.Unlock()
	if !version.IsZero() && !replayed && !e.travels(full, version) {
		e.problem("%s was told of %v of %s, by event %v, which no node has stored with an event, nor what replaced it", who, version, key, event)
	}
	if p := hashring.PartitionOf(hashring.KeyHash([]byte(full)), e.partitions); !event.IsZero() && !e.minted[partitionDot{p, event}] {
		e.problem("%s was told that he wrote %s as event %v, which nobody minted", who, key, event)
	}
}

// saw checks what a reader saw of what consensus decided.
func (e *events) saw(key string, version crdt.Dot, who string) {
	full := string(fullKey(key))
	e.mu.Lock()
	defer e.mu.Unlock()
	if version.Actor.IsBallot() && !e.decided(full, version) {
		e.problem("%s saw, or was told of, %v of %s, which no majority has accepted", who, version, key)
	}
	if !e.travels(full, version) {
		e.seen[seen{key, version}] = who
	}
}

// unheardOf checks at rest that there was an event of all that readers saw and writers
// were told of.
func (e *events) unheardOf() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for s, who := range e.seen {
		if !e.travels(string(fullKey(s.key)), s.version) {
			e.problem("%s saw, or was told of, %v of %s, of which there is no event, nor of what replaced it", who, s.version, s.key)
		}
	}
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
	// accepted is what was, with keys; ended, by key, what an acceptor kept until now.
	accepted []vote
	ended    map[string]cas.Proposal
}

type vote struct {
	full string
	ballot
}

// lets notes what an acceptor has kept of a key until now.
func (t *overheardTxn) lets(key []byte) {
	b, err := t.Txn.Get(key)
	if err != nil {
		return // nothing, or a disk lost it
	}
	if was, err := cas.DecodeState(binary.BigEndian.Uint64(key[1:]), b); err == nil && was.Pending() {
		if t.ended == nil {
			t.ended = map[string]cas.Proposal{}
		}
		t.ended[string(key[9:])] = was.Accepted
	}
}

// keeps notes what an acceptor keeps of a key from now on.
func (t *overheardTxn) keeps(key, value []byte) error {
	full, hash := string(key[9:]), binary.BigEndian.Uint64(key[1:])
	is, err := cas.DecodeState(hash, value)
	if err != nil {
		return fmt.Errorf("what is stored as an acceptor's state of %q is none: %w", full, err)
	}
	if p := &is.Accepted; is.Pending() {
		t.events.proposed(full, p)
		t.accepted = append(t.accepted, vote{full, ballot{p.Ballot, p.Dot}})
	}
	return nil
}

// Put looks at records, at what acceptors keep of them, and at the entries of the index:
// see package replica.
func (t *overheardTxn) Put(key, value []byte) error {
	if key[0] == 'p' {
		t.lets(key)
	}
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
	case 'p':
		return t.keeps(key, value)
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
	if p, ok := t.ended[string(full)]; ok && errors.Is(err, storage.ErrNotFound) {
		t.events.carries(string(full), event, &p.Record) // a delete so old that it is collected at once
		return nil
	}
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
	if err := t.Txn.Commit(); err != nil {
		return err
	}
	for _, v := range t.accepted {
		t.events.accepts(t.who, v.full, v.ballot)
	}
	return nil
}
