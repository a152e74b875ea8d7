// Package memlog is the memory twin of geo's delivery log, for simulation: a
// cloud of regions whose logs lose, delay, repeat, reorder and forget as real
// ones do. It keeps nothing on disk and knows nothing of NATS. It passes
// geo/geotest, like geo/jetstream.
//
// Every fault is drawn from the seed and the name of the thing it befalls
// (batch id, destination, attempt), never from a shared sequence of random
// numbers: the order in which goroutines happen to run changes nothing.
//
// Invariants:
//
//	M1  A batch that was confirmed, and neither lost by a fault nor by
//	    Truncate, LoseTail or Recreate, is delivered to each destination until a handler
//	    has returned nil for it, and at least once.
//	M2  What was handled is remembered per destination, not per Feed: a new
//	    Feed of the same pair goes on where the last one stopped.
//	M3  Two batches of one id and different content are a bug of the caller:
//	    panic.
//
// A Feed's goroutines belong to its Run; confirmations come from timers.
package memlog

import (
	"bytes"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"sync"
	"time"

	"github.com/atolldb/atoll/geo"
)

// dedupeWindow is how long a log remembers message ids.
const dedupeWindow = 2 * time.Minute

var (
	errRefused = errors.New("log refused the batch")
	errUnsure  = errors.New("log did not answer in time")
	errOutage  = errors.New("log is down")
)

// Faults to draw; probabilities are 0..1, the zero value is a perfect cloud.
type Faults struct {
	// DelayMin and DelayMax bound each way: confirmation, delivery,
	// announcement. Unequal delays are what reorders deliveries.
	DelayMin, DelayMax time.Duration
	// Refuse is that an append fails and the batch is not stored, Unsure that
	// it fails although the batch is.
	Refuse, Unsure float64
	// Lose is that a confirmed batch is gone.
	Lose float64
	// Duplicate is that a batch which was handled is delivered once more.
	Duplicate float64
	// Mute is that an announcement does not reach a destination.
	Mute float64
}

// Cloud is the logs of all regions and the links between them. All methods may
// be called at any time.
type Cloud struct {
	seed uint64

	mu      sync.Mutex
	observe Observer
	faults  Faults
	streams map[string]*stream
	cut     map[link]bool
	down    map[string]bool
	changed chan struct{} // closed and replaced when anything changed
}

type link struct{ origin, dst string }

// stream is one region's log.
type stream struct {
	epoch     int // raised by Recreate
	first     int // sequence of batches[0]; sequences start at 1
	batches   []geo.Batch
	ids       map[string]stored
	offers    map[string]int // appends by id so far
	consumers map[string]*consumer
	listeners map[*run]struct{}
	announced int
	silence   geo.Silence
}

// has reports whether a batch is there, or was and is not wanted any more.
func (s *stream) has(seq int) bool { return seq < s.first+len(s.batches) }

type stored struct {
	at   time.Time
	data []byte
}

// New returns a cloud without regions; they come into being when named.
func New(seed uint64, faults Faults) *Cloud {
	return &Cloud{
		seed: seed, faults: faults,
		streams: make(map[string]*stream),
		cut:     make(map[link]bool),
		down:    make(map[string]bool),
		changed: make(chan struct{}),
	}
}

// Observer is told what logs take, and what destinations acknowledge as handled, before
// either counts. It must not call back.
type Observer struct {
	Appended func(region string, b geo.Batch)
	Handled  func(origin, dst string, b geo.Batch)
}

// Observe has o told of what happens from now on.
func (c *Cloud) Observe(o Observer) { c.change(func() { c.observe = o }) }

// SetFaults changes the faults from now on.
func (c *Cloud) SetFaults(f Faults) { c.change(func() { c.faults = f }) }

// Cut breaks or heals the link on which dst pulls from origin.
func (c *Cloud) Cut(origin, dst string, cut bool) {
	c.change(func() { c.cut[link{origin, dst}] = cut })
}

// Outage makes every append to region's log fail, or ends that. Feeds go on.
func (c *Cloud) Outage(region string, down bool) {
	c.change(func() { c.down[region] = down })
}

// Truncate drops all but the last keep batches of region's log.
func (c *Cloud) Truncate(region string, keep int) {
	c.change(func() {
		s := c.stream(region)
		n := max(len(s.batches)-keep, 0)
		s.first += n
		s.batches = slices.Clone(s.batches[n:])
		for _, k := range s.consumers {
			k.fellOff(s.first)
		}
	})
}

// LoseTail drops the last n batches of region's log, as one does whose servers had
// not synced them. A destination that had got them is told nothing: it goes on where
// it was, and so passes over as many of those that come next.
func (c *Cloud) LoseTail(region string, n int) {
	c.change(func() {
		s := c.stream(region)
		left := max(len(s.batches)-n, 0)
		for _, b := range s.batches[left:] {
			delete(s.ids, b.Header.ID())
		}
		s.batches = slices.Clone(s.batches[:left])
		for _, k := range s.consumers {
			for seq := range k.again {
				if !s.has(seq) {
					delete(k.again, seq)
				}
			}
		}
	})
}

// Recreate empties region's log and makes it a new one.
func (c *Cloud) Recreate(region string) {
	c.change(func() {
		s := c.stream(region)
		s.epoch++
		s.first, s.batches = 1, nil
		s.ids, s.offers = make(map[string]stored), make(map[string]int)
		for dst := range s.consumers {
			s.consumers[dst] = newConsumer("log was made anew")
		}
	})
}

// Backlog tells how many batches of origin's log dst has not handled.
func (c *Cloud) Backlog(origin, dst string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.stream(origin)
	k := s.consumers[dst]
	if k == nil {
		return len(s.batches)
	}
	return k.open(s, dst)
}

func (c *Cloud) change(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
	c.wake()
}

// wake tells all runs to look again. c.mu is held.
func (c *Cloud) wake() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// stream returns region's log. c.mu is held.
func (c *Cloud) stream(region string) *stream {
	s := c.streams[region]
	if s == nil {
		s = &stream{
			first: 1, ids: make(map[string]stored), offers: make(map[string]int),
			consumers: make(map[string]*consumer), listeners: make(map[*run]struct{}),
		}
		c.streams[region] = s
	}
	return s
}

// chance draws a number in [0, 1) that belongs to what and nothing else.
func (c *Cloud) chance(what ...any) float64 {
	h := fnv.New64a()
	fmt.Fprint(h, c.seed)
	for _, w := range what {
		fmt.Fprintf(h, "|%v", w)
	}
	x := h.Sum64() // mixed once more: FNV's high bits move little
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	x ^= x >> 33
	return float64(x>>11) / (1 << 53)
}

// delay draws how long what is under way. c.mu is held.
func (c *Cloud) delay(what ...any) time.Duration {
	spread := max(c.faults.DelayMax-c.faults.DelayMin, 0)
	return c.faults.DelayMin + time.Duration(c.chance(append(what, "delay")...)*float64(spread))
}

// Log is one region's log as its own nodes see it.
type Log struct {
	cloud  *Cloud
	region string
}

var _ geo.Log = (*Log)(nil)

// Log returns region's log.
func (c *Cloud) Log(region string) *Log { return &Log{c, region} }

// Append stores b at once, as faults allow, and confirms after a delay.
func (l *Log) Append(b geo.Batch, done func(error)) {
	c := l.cloud
	c.mu.Lock()
	defer c.mu.Unlock()
	s, id := c.stream(l.region), b.Header.ID()
	if c.observe.Appended != nil {
		c.observe.Appended(l.region, b)
	}
	s.offers[id]++
	offer := s.offers[id]
	err := c.store(l.region, s, b, offer)
	time.AfterFunc(c.delay("append", l.region, id, offer), func() { done(err) })
}

func (c *Cloud) store(region string, s *stream, b geo.Batch, offer int) error {
	id, now := b.Header.ID(), time.Now()
	switch {
	case c.down[region]:
		return errOutage
	case len(b.Data) > geo.MaxMessage:
		return geo.ErrTooLarge
	case c.chance("refuse", region, id, offer) < c.faults.Refuse:
		return errRefused
	}
	if old, ok := s.ids[id]; ok && now.Sub(old.at) < dedupeWindow {
		if !bytes.Equal(old.data, b.Data) {
			panic("memlog: two batches with the id " + id)
		}
	} else if s.ids[id] = (stored{now, b.Data}); c.chance("lose", region, id) >= c.faults.Lose {
		s.batches = append(s.batches, b)
		s.silence.Appended(now)
		c.wake()
	}
	if c.chance("unsure", region, id, offer) < c.faults.Unsure {
		return errUnsure
	}
	return nil
}

// backlogWanted is how many batches a destination that is cut off may have before
// it. It is small, so that simulated worlds come to it.
const backlogWanted = 8

// Wanted is false while all destinations are cut off and have a backlog.
func (l *Log) Wanted() bool {
	c := l.cloud
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.stream(l.region)
	for dst, k := range s.consumers {
		if !c.cut[link{l.region, dst}] || k.open(s, dst) < backlogWanted {
			return true
		}
	}
	return len(s.consumers) == 0
}

// Silent is for how long no destination has taken anything; see geo.Log.
func (l *Log) Silent() time.Duration {
	l.cloud.mu.Lock()
	defer l.cloud.mu.Unlock()
	return l.cloud.stream(l.region).silence.Length(time.Now())
}

// Announce hands data to every feed that runs and is not cut off.
func (l *Log) Announce(data []byte) error {
	c := l.cloud
	data = bytes.Clone(data)
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.stream(l.region)
	s.announced++
	for r := range s.listeners {
		what := []any{"announce", l.region, r.feed.dst, s.announced}
		if c.cut[link{l.region, r.feed.dst}] || c.chance(what...) < c.faults.Mute {
			continue
		}
		select {
		case r.inbox <- announcement{data, time.Now().Add(c.delay(what...))}:
		default: // unreliable by contract
		}
	}
	return nil
}
