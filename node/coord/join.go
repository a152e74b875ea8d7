package coord

import (
	"bytes"
	"sync"
	"time"

	"github.com/atolldb/atoll/crdt"
)

// Reads of one key that come while another one is under way at this node wait,
// and share the next one. They must not share the one under way: it may have
// asked the owners before a write which such a reader knows to be done. So at
// most one read per key and level runs, and one batch waits, which begins when
// that has ended, and whose readers all came before it asked anybody.
//
// A hot key then costs its owners one read per round trip and coordinator,
// however many clients ask.

const (
	flightShards = 32
	// maxJoined bounds the readers of one batch. Those beyond read alone.
	maxJoined = 4096
)

// flights are the reads under way, by key and level.
type flights [flightShards]struct {
	sync.Mutex
	m map[flightID]*flight
}

// flightID is all but unique; a flight holds the whole key.
type flightID struct {
	hash uint64
	want want
}

func (fs *flights) init() {
	for i := range fs {
		fs[i].m = map[flightID]*flight{}
	}
}

// flight is one key and level of which a read runs. The shard's lock is over
// next, and over the readers of batches.
type flight struct {
	c    *Coordinator
	id   flightID
	k    key
	next *batch // waits for the one that runs; nil for nobody
	lead batch  // the one that did not wait
}

// batch is the readers that share one read.
type batch struct {
	f       *flight
	readers []reader
	latest  time.Time // deadline
	// timer answers readers whose deadline comes before the latest one, or
	// before the batch has begun; nil for a batch that did not wait.
	timer *time.Timer
	due   time.Time // when the timer ends
	begun bool
	first [1]reader
}

type reader struct {
	deadline time.Time
	done     func(GetResult, error)
}

// joined reads k for one reader, together with others.
func (c *Coordinator) joined(k key, w want, r reader) {
	id := flightID{k.hash, w}
	shard := &c.flights[k.hash%flightShards]
	shard.Lock()
	f := shard.m[id]
	if f == nil {
		f = &flight{c: c, id: id, k: k}
		shard.m[id] = f
		shard.Unlock()
		b := &f.lead
		b.f, b.latest, b.first[0] = f, r.deadline, r
		b.readers = b.first[:]
		b.begin()
		return
	}
	if !bytes.Equal(f.k.full, k.full) || f.next != nil && len(f.next.readers) >= maxJoined {
		shard.Unlock()
		c.gather(k, w, r.deadline, func(rec crdt.Record, who Achieved, err *Error) {
			res, e := c.result(&k, rec, who, err)
			r.done(res, e)
		})
		return
	}
	if f.next == nil {
		f.next = &batch{f: f}
	}
	f.next.add(r)
	shard.Unlock()
	c.stats.Joined.Add(1)
}

func (b *batch) add(r reader) {
	if r.deadline.After(b.latest) {
		b.latest = r.deadline
	}
	if len(b.readers) == 0 || r.deadline.Before(b.due) {
		b.due = r.deadline
		if wait := max(time.Until(r.deadline), 1); b.timer == nil {
			b.timer = time.AfterFunc(wait, b.expire)
		} else {
			b.timer.Reset(wait)
		}
	}
	b.readers = append(b.readers, r)
}

// begin reads for the batch. Nobody joins it any more.
func (b *batch) begin() {
	f := b.f
	k := f.k
	k.resolve(f.c.Topology())
	f.c.gather(k, f.id.want, b.latest, func(rec crdt.Record, who Achieved, err *Error) {
		shard := &f.c.flights[f.id.hash%flightShards]
		shard.Lock()
		readers, next := b.readers, f.next
		b.readers, f.next = nil, nil
		if next == nil {
			delete(shard.m, f.id)
		} else {
			next.begun = true
			if !next.due.Before(next.latest) {
				next.timer.Stop() // the read itself ends at that deadline
			}
		}
		shard.Unlock()
		if b.timer != nil {
			b.timer.Stop()
		}
		if next != nil {
			next.begin()
		}
		if len(readers) == 0 {
			return // all had an earlier deadline
		}
		res, e := f.c.result(&f.k, rec, who, err)
		for _, r := range readers {
			r.done(res, e)
		}
	})
}

// expire answers the readers whose deadline has come.
func (b *batch) expire() {
	f := b.f
	shard := &f.c.flights[f.id.hash%flightShards]
	shard.Lock()
	now := time.Now()
	var late []reader
	var next time.Time
	kept := b.readers[:0]
	for _, r := range b.readers {
		switch {
		case !r.deadline.After(now):
			late = append(late, r)
			continue
		case next.IsZero() || r.deadline.Before(next):
			next = r.deadline
		}
		kept = append(kept, r)
	}
	clear(b.readers[len(kept):])
	b.readers = kept
	if len(kept) > 0 && !(b.begun && !next.Before(b.latest)) {
		b.due = next
		b.timer.Reset(max(time.Until(next), 1))
	}
	shard.Unlock()
	for _, r := range late {
		n, _ := f.k.need(f.id.want)
		e := f.c.unavailable(&f.k, f.id.want, n, 0, NotApplied)
		e.Code = CodeDeadline
		f.c.stats.Failures.Add(1)
		r.done(GetResult{}, e)
	}
}
