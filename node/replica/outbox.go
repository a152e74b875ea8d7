package replica

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/geo"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/storage"
	"github.com/atolldb/atoll/node/topology"
)

// Outbox is geo.Source over what this node minted. What is fresh waits in
// memory with its record; what does not fit there, or was left by an earlier
// run, is found again by the dot index.
//
// Invariants:
//
//	O1  A mark is given out only with or after all dots up to it.
//	O2  Confirmed marks never run ahead of what the log confirmed; they are
//	    written lazily, so that a crash ships a little twice.
type Outbox struct {
	r *Replica

	mu        sync.Mutex
	actors    []crdt.Actor
	fresh     []freshItem
	freshSize int
	backlog   []backlogRun
	turn      uint64 // counts the rewinds
	confirmed map[slot]uint64
	unsaved   map[slot]struct{}
	saving    bool
	lastSave  time.Time
	pending   uint64

	wake chan struct{}
}

// maxFresh bounds the bytes of records that wait in memory.
const maxFresh = 16 << 20

// saveEvery is how often confirmed marks are written, at most.
const saveEvery = time.Second

type slot struct {
	p hashring.Partition
	a crdt.Actor
}

type freshItem struct {
	p      hashring.Partition
	event  crdt.EventID
	key    []byte
	record []byte
}

type backlogRun struct {
	slot
	crdt.Span
}

var _ geo.Source = (*Outbox)(nil)

func openOutbox(r *Replica) (*Outbox, error) {
	o := &Outbox{r: r, confirmed: map[slot]uint64{}, unsaved: map[slot]struct{}{}, wake: make(chan struct{}, 1)}
	if !r.cfg.Ship {
		return o, nil
	}
	actors, err := loadActors(r.engine)
	if err != nil {
		return nil, err
	}
	o.actors = actors
	err = scanAll(r.engine, []byte{spaceCursor}, []byte{spaceCursor + 1}, func(kv storage.KV, _ bool) bool {
		if len(kv.Key) == 7 && len(kv.Value) == 8 {
			s := slot{hashring.Partition(binary.BigEndian.Uint16(kv.Key[1:])), crdt.Actor(binary.BigEndian.Uint32(kv.Key[3:]))}
			o.confirmed[s] = binary.BigEndian.Uint64(kv.Value)
		}
		return true
	})
	if err != nil {
		return nil, fmt.Errorf("read geo cursors: %w", err)
	}
	o.rewind()
	o.pending = 0
	for _, b := range o.backlog {
		o.pending += b.Hi - b.Lo + 1
	}
	return o, nil
}

// add queues a durable dot of this node's actor.
func (o *Outbox) add(p hashring.Partition, event crdt.EventID, key, record []byte) {
	if !o.r.cfg.Ship {
		return
	}
	o.mu.Lock()
	o.pending++
	if o.freshSize+len(record) > maxFresh {
		// The index has them all: go on from there.
		o.rewind()
	} else {
		o.fresh = append(o.fresh, freshItem{p, event, key, record})
		o.freshSize += len(record) + len(key)
	}
	o.mu.Unlock()
	o.poke()
}

func (o *Outbox) poke() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

func (o *Outbox) addActor(a crdt.Actor) {
	if !o.r.cfg.Ship {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, x := range o.actors {
		if x == a {
			return
		}
	}
	o.actors = append(o.actors, a)
}

// Wake receives after something new was minted.
func (o *Outbox) Wake() <-chan struct{} { return o.wake }

// Pending is how many minted dots the log has not confirmed.
func (o *Outbox) Pending() uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.pending
}

// Rewind makes Peek start again behind the confirmed marks.
func (o *Outbox) Rewind() {
	o.mu.Lock()
	o.rewind()
	o.mu.Unlock()
	o.poke()
}

func (o *Outbox) rewind() {
	o.turn++
	o.fresh, o.freshSize, o.backlog = nil, 0, nil
	v := o.r.view.Load()
	for _, p := range v.held {
		part := v.parts[p]
		for _, a := range o.actors {
			s := slot{part.id, a}
			part.mu.Lock()
			top := part.durable.clock.Max(a)
			part.mu.Unlock()
			if from := o.confirmed[s] + 1; from <= top {
				o.backlog = append(o.backlog, backlogRun{s, crdt.Span{Lo: from, Hi: top}})
			}
		}
	}
}

// Peek returns the next entries to ship; see geo.Source. It has one caller at a
// time. The store is read without the lock: writes wait for that.
func (o *Outbox) Peek(max int) ([]geo.Entry, []geo.Mark, error) {
	o.mu.Lock()
	left, turn := o.backlog, o.turn
	o.mu.Unlock()
	pack := packer{byKey: map[place]int{}, marks: map[slot]uint64{}, lanes: o.r.lanes}
	defer pack.later(o.poke)
	for len(left) > 0 && pack.size < max && !pack.held {
		var err error
		if left, err = o.peekBacklog(&pack, left, max); err != nil {
			return nil, nil, err // the next Peek begins where this one did
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.turn == turn {
		o.backlog = left
	}
	k := 0
	for len(o.backlog) == 0 && k < len(o.fresh) && pack.size < max {
		it := &o.fresh[k]
		x := indexed{id: it.event.ID, key: it.key}
		if !pack.add(it.p, it.event.Dot, &x, it.record) {
			break
		}
		o.freshSize -= len(it.record) + len(it.key)
		*it = freshItem{}
		k++
	}
	if o.fresh = o.fresh[k:]; len(o.fresh) == 0 {
		o.fresh = nil
	}
	return pack.entries, pack.list(), nil
}

// peekBacklog takes from the first run as much as fits and returns what is
// left.
func (o *Outbox) peekBacklog(pack *packer, left []backlogRun, max int) ([]backlogRun, error) {
	run := left[0]
	lo := indexKey(nil, run.p, crdt.Dot{Actor: run.a, N: run.Lo})
	hi := indexKey(nil, run.p, crdt.Dot{Actor: run.a, N: run.Hi + 1})
	full := false
	var failed error
	err := o.r.engine.Scan(lo, hi, func(kv storage.KV) bool {
		if pack.size >= max {
			full = true
			return false
		}
		d := splitIndexKey(kv.Key)
		x, ok := decodeIndexed(kv.Value)
		if !ok {
			failed = storage.ErrCorrupt
			return false
		}
		x.key = append([]byte(nil), x.key...)
		hash := hashring.KeyHash(x.key)
		record, err := o.r.give(hash, x.key)
		if err != nil {
			if !errors.Is(err, storage.ErrCorrupt) {
				failed = err
				return false
			}
			record = nil
		}
		if !pack.add(run.p, d, &x, record) {
			full = true
			return false
		}
		run.Lo = d.N + 1
		return true
	})
	if err == nil {
		err = failed
	}
	if err != nil {
		return left, fmt.Errorf("read dot index for the geo log: %w", err)
	}
	if full {
		left[0] = run // nobody else looks into the runs
		return left, nil
	}
	// The rest of the run has no index entry: nothing of ours to ship.
	pack.mark(run.slot, run.Hi)
	return left[1:], nil
}

// packer gathers entries, one per key and who gets it: the newest record counts.
type packer struct {
	entries []geo.Entry
	byKey   map[place]int
	marks   map[slot]uint64
	size    int
	// lanes tells who gets what of a bucket; see Replica.lanes. held: that of the
	// next event is not known yet.
	lanes func(bucket []byte) (to []lane, known bool)
	held  bool
}

// place of an entry: a key, or a partition's dots of a bucket, for a region or
// all.
type place struct {
	to  topology.Region
	p   hashring.Partition
	key string
}

// heldFor is how long the outbox waits before it looks again which regions have
// a bucket.
const heldFor = 100 * time.Millisecond

// later calls poke in a while if something is held.
func (k *packer) later(poke func()) {
	if k.held {
		time.AfterFunc(heldFor, poke)
	}
}

// add takes the event d of which the index says x, unless it is held.
func (k *packer) add(p hashring.Partition, d crdt.Dot, x *indexed, record []byte) bool {
	to, known := k.lanes(bucketOf(x.key))
	if !known {
		k.held = true
		return false
	}
	k.mark(slot{p, d.Actor}, d.N)
	if to == nil {
		k.put(place{"", p, string(x.key)}, d, x, record)
	}
	for _, l := range to {
		if l.has {
			k.put(place{l.to, p, string(x.key)}, d, x, record)
		} else {
			k.skip(l.to, p, d, skipKey(bucketOf(x.key)))
		}
	}
	return true
}

func (k *packer) put(at place, d crdt.Dot, x *indexed, record []byte) {
	if len(record) == 0 {
		return // lost or unreadable here; anti-entropy will find it
	}
	if !x.id.IsZero() {
		k.size += 28
	}
	if i, ok := k.byKey[at]; ok {
		e := &k.entries[i]
		k.size += len(record) - len(e.Record) + 12
		e.Record = record
		e.Dots, e.IDs = append(e.Dots, d), x.tells(e.IDs, d)
		return
	}
	k.byKey[at] = len(k.entries)
	k.entries = append(k.entries, geo.Entry{To: string(at.to), Partition: at.p, Key: x.key, Record: record, Dots: []crdt.Dot{d}, IDs: x.tells(nil, d)})
	k.size += len(record) + len(x.key) + 24
}

// skip tells a region of a dot alone.
func (k *packer) skip(to topology.Region, p hashring.Partition, d crdt.Dot, key []byte) {
	k.size += 12
	at := place{to, p, string(key)}
	if i, ok := k.byKey[at]; ok {
		k.entries[i].Dots = append(k.entries[i].Dots, d)
		return
	}
	k.byKey[at] = len(k.entries)
	k.entries = append(k.entries, geo.Entry{To: string(to), Partition: p, Key: key, Dots: []crdt.Dot{d}})
	k.size += len(key) + 12
}

func (k *packer) mark(s slot, n uint64) { k.marks[s] = max(k.marks[s], n) }

func (k *packer) list() []geo.Mark {
	var out []geo.Mark
	for s, n := range k.marks {
		out = append(out, geo.Mark{Partition: s.p, Actor: s.a, N: n})
	}
	return out
}

// Confirm remembers that the log holds everything up to the marks.
func (o *Outbox) Confirm(marks []geo.Mark) error {
	if o.remember(marks) {
		// Not under the lock: a refused op is told so on this goroutine.
		o.r.submit(&cursorOp{o})
	}
	return nil
}

// remember takes the marks and reports whether it is time to write them.
func (o *Outbox) remember(marks []geo.Mark) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, m := range marks {
		s := slot{m.Partition, m.Actor}
		if was := o.confirmed[s]; m.N > was {
			o.confirmed[s] = m.N
			o.unsaved[s] = struct{}{}
			o.pending -= min(o.pending, m.N-was)
		}
	}
	now := time.Now()
	if o.saving || now.Sub(o.lastSave) < saveEvery {
		return false
	}
	o.saving, o.lastSave = true, now
	return true
}

// shipped reports whether the log has everything of p that was minted by any
// of actors and is in c. What nobody is about to ship, because a crash took it
// from here and a peer gave it back, is queued.
func (o *Outbox) shipped(p hashring.Partition, actors []crdt.Actor, c *crdt.Clock) bool {
	if !o.r.cfg.Ship {
		return true
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, a := range actors {
		if o.confirmed[slot{p, a}] < c.Max(a) {
			if len(o.backlog) == 0 && len(o.fresh) == 0 {
				o.rewind()
				o.poke()
			}
			return false
		}
	}
	return true
}

// bound lowers counters of p, by actor, to what the log has.
func (o *Outbox) bound(p hashring.Partition, actors []crdt.Actor, upTo map[crdt.Actor]uint64) {
	if !o.r.cfg.Ship {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, a := range actors {
		if n, ok := upTo[a]; ok {
			upTo[a] = min(n, o.confirmed[slot{p, a}])
		}
	}
}

// putCursors writes the confirmed marks that changed.
func (o *Outbox) putCursors(tx storage.Txn) error {
	o.mu.Lock()
	changed := make(map[slot]uint64, len(o.unsaved))
	for s := range o.unsaved {
		changed[s] = o.confirmed[s]
	}
	clear(o.unsaved)
	o.mu.Unlock()
	for s, n := range changed {
		if err := tx.Put(cursorKey(s.p, s.a), binary.BigEndian.AppendUint64(nil, n)); err != nil {
			return fmt.Errorf("write geo cursor: %w", err)
		}
	}
	return nil
}

type cursorOp struct{ o *Outbox }

func (c *cursorOp) Size() int                   { return 0 }
func (c *cursorOp) Decide(tx storage.Txn) error { return c.o.putCursors(tx) }
func (c *cursorOp) Decided()                    {}
func (c *cursorOp) Done(error) {
	c.o.mu.Lock()
	c.o.saving = false
	c.o.mu.Unlock()
}
