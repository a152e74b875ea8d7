package replica

import (
	"errors"
	"fmt"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/geo"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/storage"
	"github.com/atolldb/atoll/node/topology"
)

// A gathering is what the outbox ships next: the events of a stretch of the
// backlog, or of what is fresh, put together by key. So a key that was written
// ten thousand times while nobody took anything crosses a few times, however
// many other keys were written between. Its marks are reached when all of it has
// been given out: a mark speaks for everything before it, and the events are not
// in order any more (O1).
//
// It holds no records but those that waited in memory; the others are read when
// they are given out, current then.
type gathering struct {
	items []gathered
	given int // items that were given out
	byKey map[place]int
	slots map[slot]*track
	dots  int
	bytes int // of keys and ids
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

// gathered is one key with events of it, or dots alone.
type gathered struct {
	to     topology.Region // "" for all
	p      hashring.Partition
	key    []byte
	skip   bool
	record []byte // the newest that waited; nil: to be read
	dots   []crdt.Dot
	ids    []crdt.EventID
}

// Bounds of a gathering, and of the events that one record carries: those are
// joined as one step wherever they arrive.
const (
	gatherDots  = 1 << 14
	gatherBytes = 4 << 20
	keyDots     = 1 << 14
	keyBytes    = 1 << 20
)

// full says that an item takes no more events: what the owners there write for it,
// an index entry for each and another for its id, is one operation of theirs.
func (it *gathered) full() bool {
	return len(it.dots) >= keyDots || indexRoom(len(it.key), len(it.dots), len(it.ids)) >= keyBytes
}

// heldFor is how long the outbox waits before it looks again which regions have
// a bucket.
const heldFor = 100 * time.Millisecond

func newGathering(lanes func([]byte) ([]lane, bool)) *gathering {
	return &gathering{byKey: map[place]int{}, slots: map[slot]*track{}, lanes: lanes}
}

// later calls poke in a while if something is held.
func (g *gathering) later(poke func()) {
	if g.held {
		time.AfterFunc(heldFor, poke)
	}
}

func (g *gathering) full() bool { return g.dots >= gatherDots || g.bytes >= gatherBytes }

// track is where the events of a slot are, which came in ascending order.
type track struct {
	events []tracked
	at     int    // the first event that is not given out yet
	end    uint64 // reached when all are
	told   uint64 // the mark given out last
}

type tracked struct {
	n    uint64
	item int
}

func (g *gathering) slot(s slot) *track {
	t := g.slots[s]
	if t == nil {
		t = &track{}
		g.slots[s] = t
	}
	return t
}

// mark says that there is nothing up to n but what was added.
func (g *gathering) mark(s slot, n uint64) {
	t := g.slot(s)
	t.end = max(t.end, n)
}

// add takes the event d of which the index says x, unless it is held. A record
// that is not nil is the key's at that event or later; it may be kept.
func (g *gathering) add(p hashring.Partition, d crdt.Dot, x *indexed, record []byte) bool {
	to, known := g.lanes(bucketOf(x.key))
	if !known {
		g.held = true
		return false
	}
	g.mark(slot{p, d.Actor}, d.N)
	g.dots++
	if to == nil {
		g.put("", p, d, x, record)
	}
	for _, l := range to {
		if l.has {
			g.put(l.to, p, d, x, record)
		} else {
			g.skip(l.to, p, d, skipKey(bucketOf(x.key)))
		}
	}
	return true
}

// at returns the item of a key that takes one more event, or a new one.
func (g *gathering) at(to topology.Region, p hashring.Partition, key []byte, d crdt.Dot) (it *gathered, fresh bool) {
	where := place{to, p, string(key)}
	i, ok := g.byKey[where]
	if !ok || g.items[i].full() {
		i, fresh = len(g.items), true
		g.byKey[where] = i
		g.items = append(g.items, gathered{to: to, p: p, key: key})
		g.bytes += len(key) + 64
	}
	g.slot(slot{p, d.Actor}).add(d.N, i)
	it = &g.items[i]
	it.dots = append(it.dots, d)
	return it, fresh
}

func (g *gathering) put(to topology.Region, p hashring.Partition, d crdt.Dot, x *indexed, record []byte) {
	it, fresh := g.at(to, p, x.key, d)
	it.ids = x.tells(it.ids, d)
	if !x.id.IsZero() {
		g.bytes += 28
	}
	if fresh || record != nil {
		it.record = record // the newer one
	}
}

// skip tells a region of a dot alone.
func (g *gathering) skip(to topology.Region, p hashring.Partition, d crdt.Dot, key []byte) {
	it, _ := g.at(to, p, key, d)
	it.skip = true
}

// give returns entries of about max bytes, at least one if any is left, and how
// many items they stand for. It changes nothing: an error leaves all to be given
// again.
func (g *gathering) give(r *Replica, max int) (entries []geo.Entry, items int, err error) {
	size := 0
	for _, it := range g.items[g.given:] {
		if items > 0 && size >= max {
			break
		}
		items++
		record := it.record
		if record == nil && !it.skip {
			record, err = r.give(hashring.KeyHash(it.key), it.key)
			if err != nil && !errors.Is(err, storage.ErrCorrupt) {
				return nil, 0, fmt.Errorf("read record for the geo log: %w", err)
			}
			if err != nil || len(record) == 0 {
				continue // lost or unreadable here; anti-entropy will find it
			}
		}
		entries = append(entries, geo.Entry{To: string(it.to), Partition: it.p, Key: it.key, Record: record, Dots: it.dots, IDs: it.ids})
		size += len(record) + len(it.key) + 24 + 12*len(it.dots) + 28*len(it.ids)
	}
	return entries, items, nil
}

// done takes items as given, and returns the marks that this reaches: a mark
// speaks for everything up to it (O1).
func (g *gathering) done(items int) []geo.Mark {
	g.given += items
	var out []geo.Mark
	for s, t := range g.slots {
		if n := t.reached(g.given); n > t.told {
			t.told = n
			out = append(out, geo.Mark{Partition: s.p, Actor: s.a, N: n})
		}
	}
	return out
}

func (t *track) add(n uint64, item int) { t.events = append(t.events, tracked{n, item}) }

// reached is up to where all events were given out, 0 for nowhere.
func (t *track) reached(given int) uint64 {
	for t.at < len(t.events) && t.events[t.at].item < given {
		t.at++
	}
	switch t.at {
	case len(t.events):
		return t.end
	case 0:
		return 0
	}
	return t.events[t.at].n - 1
}
