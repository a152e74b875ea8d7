package geo

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
)

// aliveWithin is the age of the last heartbeat up to which a link counts as
// alive: eight beats.
const aliveWithin = 2500 * time.Millisecond

// Lag counts, for the partitions that this node owns, which writes of each other
// region are still to come here, and which of the own region's have still to arrive
// in each other region. It goes by clocks alone: the other regions' as their nodes
// announce them, the own ones as they are. So a count is exact as of the last
// heartbeat; what one that was lost would have told comes with the next full round.
// It reads no clock: time is an argument. It is safe for concurrent use.
//
// What is missing is missing on every owner there: a write that one owner has is a
// matter of repair inside its region.
type Lag struct {
	cfg    LagConfig
	clocks Clocks

	mu    sync.Mutex
	links map[string]*link
}

// LagConfig says who counts.
type LagConfig struct {
	// Region and RegionID are the own ones, Others the other regions to begin with.
	Region   string
	RegionID uint8
	Others   []string
	// Owners of a partition in another region; nil if not known.
	Owners func(region string, p hashring.Partition) []string
	// EntryBytes is the average size of what the own region ships, 0 when unknown.
	EntryBytes func() uint64
}

// LagReport is about one direction of a link: writes of Origin that are missing at
// Destination, one of which is the own region. Its figures are separate, and none
// stands for another: a dead link with nothing known to be pending is dead, not up
// to date.
type LagReport struct {
	Origin, Destination string
	// Alive says that a heartbeat of the other region came within the last 2.5 s.
	Alive bool
	// Heard is false when none came ever; HeartbeatAge is then the time since
	// this Lag was made.
	Heard        bool
	HeartbeatAge time.Duration
	// Pending is how many of Origin's dots no owner at Destination has.
	Pending uint64
	// PendingAge is how long ago the oldest of them was first known to be missing.
	PendingAge time.Duration
	// PendingBytes is an estimate: Pending times the average size of an entry
	// that the origin last told. Hot keys travel once for many dots, so it is
	// an upper one.
	PendingBytes uint64
	// Unheld dots are those that some owner at Destination lacks, pending ones
	// included. Only the origin tells it.
	Unheld uint64
	// Unknown partitions are not counted: none of their owners in the other region
	// was heard since this Lag was made.
	Unknown int
	// Unsure partitions have an owner in the other region of whom something was not
	// heard: to come may be more, and to arrive less than was counted.
	Unsure int
}

// link is what is known of another region.
type link struct {
	said
	regionID uint8
	in, out  map[hashring.Partition]*tally
}

// NewLag returns a Lag that has heard nobody.
func NewLag(now time.Time, cfg LagConfig, clocks Clocks) *Lag {
	if cfg.Owners == nil {
		cfg.Owners = func(string, hashring.Partition) []string { return nil }
	}
	if cfg.EntryBytes == nil {
		cfg.EntryBytes = func() uint64 { return 0 }
	}
	l := &Lag{cfg: cfg, clocks: clocks, links: make(map[string]*link)}
	for _, r := range cfg.Others {
		l.Add(now, r)
	}
	return l
}

// Add counts for one more region from now on; one that is counted for is left as it
// is.
func (l *Lag) Add(now time.Time, region string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.links[region] != nil {
		return
	}
	l.links[region] = &link{
		said: said{nodes: map[string]*saidNode{}, since: now},
		in:   map[hashring.Partition]*tally{}, out: map[hashring.Partition]*tally{},
	}
}

// Drop forgets a region, and refuses its heartbeats.
func (l *Lag) Drop(region string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.links, region)
}

// Heard takes a heartbeat that came at now. It reports whether its node is to be
// asked for a full round (Announcer.Full), because this node has missed something
// of it: that is so at most every 5 s.
func (l *Lag) Heard(now time.Time, h *Heartbeat) (ask bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.links[h.region]
	if k == nil {
		return false, fmt.Errorf("take heartbeat of region %q: it is unknown", h.region)
	}
	k.regionID = h.regionID
	held := map[hashring.Partition]*crdt.Clock{}
	for _, c := range h.clocks {
		held[c.partition] = l.clocks.Clock(c.partition)
	}
	ask = k.take(now, h, func(p hashring.Partition) bool { return held[p] != nil })
	for _, c := range h.clocks {
		if mine := held[c.partition]; mine != nil {
			l.incoming(now, h.region, k, c.partition, mine)
		}
	}
	return ask, nil
}

// Changed takes the clock that this node has of p since now. What is missing
// elsewhere is as old as the call that first told of it.
func (l *Lag) Changed(now time.Time, p hashring.Partition, clock *crdt.Clock) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for name, k := range l.links {
		l.outgoing(now, name, k, p, ofRegion(clock, l.cfg.RegionID))
	}
}

// incoming counts what is missing here, and reports false when nobody knows.
func (l *Lag) incoming(now time.Time, from string, k *link, p hashring.Partition, mine *crdt.Clock) (n uint64, known bool) {
	there := k.seen(p, l.cfg.Owners(from, p), k.regionID)
	if there == nil {
		return 0, false
	}
	return of(k.in, p).count(now, there, mine), true
}

// outgoing counts which dots of minted, the own region's, are missing there.
func (l *Lag) outgoing(now time.Time, to string, k *link, p hashring.Partition, minted *crdt.Clock) (n uint64, known bool) {
	there := k.seen(p, l.cfg.Owners(to, p), l.cfg.RegionID)
	if there == nil {
		// Their age counts from here all the same.
		of(k.out, p).count(now, minted, new(crdt.Clock))
		return 0, false
	}
	return of(k.out, p).count(now, minted, there), true
}

func of(m map[hashring.Partition]*tally, p hashring.Partition) *tally {
	if m[p] == nil {
		m[p] = new(tally)
	}
	return m[p]
}

func (k *link) alive(now time.Time) bool { return k.heard && now.Sub(k.since) <= aliveWithin }

// Alive says whether a heartbeat of a region has come within the last 2.5 s.
func (l *Lag) Alive(now time.Time, region string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.links[region]
	return k != nil && k.alive(now)
}

// Report returns, for each other region by name, what is still to come from it and
// what has still to arrive in it, of the owned partitions that mine takes; nil for
// all. When each partition is taken by one node of the region, the sums over the
// nodes are those of the region.
func (l *Lag) Report(now time.Time, mine func(hashring.Partition) bool) (in, out []LagReport) {
	owned := slices.Clone(l.clocks.Owned())
	l.mu.Lock()
	defer l.mu.Unlock()
	for name, k := range l.links {
		link := LagReport{Heard: k.heard, HeartbeatAge: now.Sub(k.since)}
		link.Alive = k.alive(now)
		i, o := link, link
		i.Origin, i.Destination = name, l.cfg.Region
		o.Origin, o.Destination = l.cfg.Region, name
		kept := map[hashring.Partition]bool{}
		for _, p := range owned {
			clock := l.clocks.Clock(p)
			if clock == nil {
				continue
			}
			kept[p] = true
			if mine == nil || mine(p) {
				l.add(now, name, k, p, clock, &i, &o)
			}
		}
		gone := func(p hashring.Partition, _ *tally) bool { return !kept[p] }
		maps.DeleteFunc(k.in, gone)
		maps.DeleteFunc(k.out, gone)
		i.PendingBytes, o.PendingBytes = i.Pending*k.entryBytes, o.Pending*l.cfg.EntryBytes()
		in, out = append(in, i), append(out, o)
	}
	slices.SortFunc(in, func(a, b LagReport) int { return strings.Compare(a.Origin, b.Origin) })
	slices.SortFunc(out, func(a, b LagReport) int { return strings.Compare(a.Destination, b.Destination) })
	return in, out
}

// Owed tells how many bytes of a region's writes are known to be missing, of all owned
// partitions, and in what time they came to be: since the link was cut,
// for those that were heard of when it was there again, or else since they were heard of
// first. The bytes are an estimate, as in a LagReport.
func (l *Lag) Owed(now time.Time, region string) (bytes uint64, span time.Duration) {
	owned := slices.Clone(l.clocks.Owned())
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.links[region]
	if k == nil {
		return 0, 0
	}
	dots := uint64(0)
	for _, p := range owned {
		clock := l.clocks.Clock(p)
		if clock == nil {
			continue
		}
		if n, known := l.incoming(now, region, k, p, clock); known && n > 0 {
			dots += n
			span = max(span, of(k.in, p).age(now))
		}
	}
	// All that was written during a cut is heard of with the full rounds after it.
	if dots > 0 && !k.cutTo.IsZero() && now.Add(-span).Sub(k.cutTo) < 2*askAgain {
		span = max(span, now.Sub(k.cutFrom))
	}
	return dots * k.entryBytes, span
}

// add what is known of one partition.
func (l *Lag) add(now time.Time, name string, k *link, p hashring.Partition, clock *crdt.Clock, in, out *LagReport) {
	if n, known := l.incoming(now, name, k, p, clock); known {
		in.Pending += n
		in.PendingAge = max(in.PendingAge, of(k.in, p).age(now))
	} else {
		in.Unknown++
	}
	if !k.sure(p, l.cfg.Owners(name, p)) {
		in.Unsure++
		out.Unsure++
	}
	minted := ofRegion(clock, l.cfg.RegionID)
	if n, known := l.outgoing(now, name, k, p, minted); known {
		out.Pending += n
		out.PendingAge = max(out.PendingAge, of(k.out, p).age(now))
		out.Unheld += k.unheld(p, l.cfg.Owners(name, p), minted)
	} else {
		out.Unknown++
	}
}

// Missing returns the dots that owners in a region said to have of its own actors
// and this node has not, by owned partition; none for a region that is not known.
// After a region is lost that is what is known to be lost with it, as far as no other
// owner here has it.
func (l *Lag) Missing(region string) map[hashring.Partition]*crdt.Clock {
	owned := slices.Clone(l.clocks.Owned())
	l.mu.Lock()
	defer l.mu.Unlock()
	out := map[hashring.Partition]*crdt.Clock{}
	k := l.links[region]
	if k == nil {
		return out
	}
	for _, p := range owned {
		mine, there := l.clocks.Clock(p), k.seen(p, l.cfg.Owners(region, p), k.regionID)
		if mine == nil || there == nil {
			continue
		}
		if lacking := mine.Beyond(there); len(lacking.Actors()) > 0 {
			out[p] = lacking
		}
	}
	return out
}
