package replica

import (
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/geo"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/storage"
)

// Outbox is geo.Source over what this node minted. What is fresh waits in
// memory, each key with its newest record; what does not fit there, or was left by an earlier
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
	newest    newest
	backlog   []backlogRun
	gathered  *gathering // what is left of one that was begun; nil while it is read
	turn      uint64     // counts the rewinds
	confirmed map[slot]uint64
	unsaved   map[slot]struct{}
	saving    bool
	lastSave  time.Time
	pending   uint64

	wake chan struct{}
}

// maxFresh bounds the bytes that wait in memory. As much again may be about to be
// given out.
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

func (it *freshItem) size() int { return len(it.record) + len(it.key) + 128 }

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
	// Of the key only the newest record is worth its room.
	if i, ok := o.newest.at(key); ok {
		o.freshSize -= len(o.fresh[i].record)
		o.fresh[i].record = nil
	}
	it := freshItem{p, event, key, record}
	if o.freshSize+it.size() > maxFresh {
		o.spill()
	}
	o.newest.put(key, len(o.fresh))
	o.fresh = append(o.fresh, it)
	o.freshSize += it.size()
	o.mu.Unlock()
	o.poke()
}

// spill gives up what waits in memory: the index has it all. It comes behind
// what is in the backlog already, and nothing is given out twice for it.
func (o *Outbox) spill() {
	spans := map[slot]crdt.Span{}
	var order []slot
	for _, it := range o.fresh {
		s := slot{it.p, it.event.Dot.Actor}
		at, known := spans[s]
		if !known {
			order = append(order, s)
			at = crdt.Span{Lo: it.event.Dot.N, Hi: it.event.Dot.N}
		}
		spans[s] = crdt.Span{Lo: min(at.Lo, it.event.Dot.N), Hi: max(at.Hi, it.event.Dot.N)}
	}
	for _, s := range order {
		o.backlog = append(o.backlog, backlogRun{s, spans[s]})
	}
	o.fresh, o.freshSize, o.newest = nil, 0, newest{}
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
	o.fresh, o.freshSize, o.newest = nil, 0, newest{}
	o.backlog, o.gathered = nil, nil
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
	g, turn, err := o.next()
	if err != nil {
		return nil, nil, err // the next Peek begins where this one did
	}
	entries, items, err := g.give(o.r, max)
	if err != nil {
		o.keep(g, turn)
		return nil, nil, err
	}
	marks := g.done(items)
	if g.given < len(g.items) {
		o.keep(g, turn)
	}
	return entries, marks, nil
}

// keep has the next Peek go on with g, unless everything was rewound.
func (o *Outbox) keep(g *gathering, turn uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.turn == turn {
		o.gathered = g
	}
}

// next returns what is left of a gathering, or a new one: of the backlog, then
// of what is fresh.
func (o *Outbox) next() (*gathering, uint64, error) {
	o.mu.Lock()
	turn, left := o.turn, o.backlog
	if g := o.gathered; g != nil {
		o.gathered = nil
		o.mu.Unlock()
		return g, turn, nil
	}
	o.backlog = nil
	o.mu.Unlock()
	g := newGathering(o.r.lanes)
	defer g.later(o.poke)
	rest, err := o.gatherBacklog(g, left)
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.turn == turn { // what did not fit in memory meanwhile comes behind it
		o.backlog = append(rest, o.backlog...)
	}
	if err != nil {
		return nil, turn, err
	}
	k := 0
	for o.turn == turn && len(o.backlog) == 0 && !g.held && k < len(o.fresh) && !g.full() {
		it := &o.fresh[k]
		x := indexed{id: it.event.ID, key: it.key}
		if !g.add(it.p, it.event.Dot, &x, it.record) {
			break
		}
		o.freshSize -= it.size()
		o.newest.gone(it.key)
		*it = freshItem{}
		k++
	}
	if o.fresh = o.fresh[k:]; len(o.fresh) == 0 {
		o.fresh = nil
	}
	return g, turn, nil
}

// gatherBacklog takes as much of the runs as fits, and returns what is left of
// them; with an error, all of them.
func (o *Outbox) gatherBacklog(g *gathering, runs []backlogRun) (left []backlogRun, err error) {
	for i, run := range runs {
		if g.full() || g.held {
			return runs[i:], nil
		}
		lo := indexKey(nil, run.p, crdt.Dot{Actor: run.a, N: run.Lo})
		hi := indexKey(nil, run.p, crdt.Dot{Actor: run.a, N: run.Hi + 1})
		full, failed := false, error(nil)
		err := o.r.engine.Scan(lo, hi, func(kv storage.KV) bool {
			if full = g.full(); full {
				return false
			}
			d := splitIndexKey(kv.Key)
			x, ok := decodeIndexed(kv.Value)
			if !ok {
				failed = storage.ErrCorrupt
				return false
			}
			x.key = append([]byte(nil), x.key...)
			if full = !g.add(run.p, d, &x, nil); full {
				return false
			}
			run.Lo = d.N + 1
			return true
		})
		if err == nil {
			err = failed
		}
		if err != nil {
			return runs, fmt.Errorf("read dot index for the geo log: %w", err)
		}
		if full {
			return append([]backlogRun{run}, runs[i+1:]...), nil
		}
		// The rest of the run has no index entry: nothing of ours to ship.
		g.mark(run.slot, run.Hi)
	}
	return nil, nil
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
			if len(o.backlog) == 0 && len(o.fresh) == 0 && o.gathered == nil {
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
