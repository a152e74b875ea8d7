package geo

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
)

const (
	// aliveWithin is the age of the last heartbeat up to which a link counts
	// as alive: ten beats.
	aliveWithin = 3 * time.Second
	// maxSteps bounds the times remembered per partition of dots not yet
	// here. When there are more, neighbours share the older time.
	maxSteps = 128
)

// Lag counts, per origin region, which writes this node is still to get: the
// dots that the origin's nodes announced, less those that this node's clocks
// contain, in the partitions that this node owns. Nothing here is guessed but
// the bytes. It reads no clock: time is an argument. It is safe for concurrent
// use.
type Lag struct {
	clocks Clocks

	mu      sync.Mutex
	origins map[string]*originLag
}

// LagReport is four separate figures, of which none stands for another: a dead
// link with nothing known to be pending is dead, not up to date.
type LagReport struct {
	Origin string
	// Alive says that a heartbeat came within the last 3 s.
	Alive bool
	// Heard is false when none came ever; HeartbeatAge is then the time since
	// this Lag was made.
	Heard        bool
	HeartbeatAge time.Duration
	// Pending is how many announced dots are not here.
	Pending uint64
	// PendingAge is how long ago the oldest of them was announced here.
	PendingAge time.Duration
	// PendingBytes is an estimate: Pending times the average size of an entry
	// that the origin last told. Hot keys travel once for many dots, so it is
	// an upper one.
	PendingBytes uint64
}

type originLag struct {
	since      time.Time // last heartbeat, or the start
	heard      bool
	entryBytes uint64
	nodes      map[string]beat
	partitions map[hashring.Partition]*announced
}

// beat is the place of a node's last heartbeat in its stream of them.
type beat struct{ session, seq uint64 }

// announced is what an origin has of a partition, as far as it told.
type announced struct {
	clock crdt.Clock
	// steps are the dots not here yet by the time they were first announced,
	// ascending.
	steps []step
}

type step struct {
	at   time.Time
	dots *crdt.Clock
}

// NewLag returns a Lag for the given origins, none of which it has heard.
func NewLag(now time.Time, origins []string, clocks Clocks) *Lag {
	l := &Lag{clocks: clocks, origins: make(map[string]*originLag)}
	for _, o := range origins {
		l.origins[o] = &originLag{
			since: now, nodes: make(map[string]beat), partitions: make(map[hashring.Partition]*announced),
		}
	}
	return l
}

// Announced takes a heartbeat that the feed of origin delivered at now.
func (l *Lag) Announced(now time.Time, origin string, data []byte) error {
	h, err := decodeHeartbeat(data)
	if err != nil {
		return fmt.Errorf("take heartbeat of %s: %w", origin, err)
	}
	if h.region != origin {
		return fmt.Errorf("take heartbeat of %s: it names region %q", origin, h.region)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	o := l.origins[origin]
	if o == nil {
		return fmt.Errorf("take heartbeat of %s: region is unknown", origin)
	}
	// A heartbeat that comes late says nothing about life, but its clocks are
	// as true as ever.
	at, last := beat{h.session, h.seq}, o.nodes[h.node]
	if at.session > last.session || at.session == last.session && at.seq > last.seq {
		o.nodes[h.node] = at
		o.since, o.heard = now, true
		if h.entryBytes > 0 {
			o.entryBytes = h.entryBytes
		}
	}
	for _, c := range h.clocks {
		if held := l.clocks.Clock(c.partition); held != nil {
			o.take(now, c, held)
		}
	}
	return nil
}

func (o *originLag) take(now time.Time, c partitionClock, held *crdt.Clock) {
	a := o.partitions[c.partition]
	if a == nil {
		a = new(announced)
		o.partitions[c.partition] = a
	}
	fresh := new(crdt.Clock)
	for _, d := range a.clock.Missing(c.clock) {
		fresh.AddSpan(d)
	}
	a.clock.Join(fresh)
	a.settle(held)
	if held.Covers(fresh) {
		return
	}
	a.steps = append(a.steps, step{now, fresh})
	if len(a.steps) > maxSteps {
		a.thin()
	}
}

// missing counts the announced dots that are not here. Those that were here
// and are no longer, since this node lost something, count from now.
func (a *announced) missing(now time.Time, held *crdt.Clock) uint64 {
	a.settle(held)
	dots := held.Missing(&a.clock)
	if len(dots) == 0 {
		return 0
	}
	n, lost, waiting := uint64(0), new(crdt.Clock), new(crdt.Clock)
	for _, s := range a.steps {
		waiting.Join(s.dots)
	}
	for _, d := range dots {
		n += d.Len()
		lost.AddSpan(d)
	}
	if !waiting.Covers(lost) {
		a.steps = append(a.steps, step{now, lost})
	}
	return n
}

// settle forgets the steps that are here.
func (a *announced) settle(held *crdt.Clock) {
	a.steps = slices.DeleteFunc(a.steps, func(s step) bool { return held.Covers(s.dots) })
}

// thin joins the two neighbours that together span the least time; they share
// the older time, so that an age is never told too low.
func (a *announced) thin() {
	best, least := 0, time.Duration(1<<63-1)
	for i := 0; i+2 < len(a.steps); i++ {
		if span := a.steps[i+2].at.Sub(a.steps[i].at); span < least {
			best, least = i, span
		}
	}
	a.steps[best].dots.Join(a.steps[best+1].dots)
	a.steps = slices.Delete(a.steps, best+1, best+2)
}

// Report returns the figures of every origin, by name.
func (l *Lag) Report(now time.Time) []LagReport {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []LagReport
	for name, o := range l.origins {
		r := LagReport{Origin: name, Heard: o.heard, HeartbeatAge: now.Sub(o.since)}
		r.Alive = o.heard && r.HeartbeatAge <= aliveWithin
		for p, a := range o.partitions {
			held := l.clocks.Clock(p)
			if held == nil { // not ours any more
				delete(o.partitions, p)
				continue
			}
			r.Pending += a.missing(now, held)
			if len(a.steps) > 0 {
				r.PendingAge = max(r.PendingAge, now.Sub(a.steps[0].at))
			}
		}
		r.PendingBytes = r.Pending * o.entryBytes
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b LagReport) int { return strings.Compare(a.Origin, b.Origin) })
	return out
}

// Overdue returns the partitions that lack dots of origin announced at least
// age ago, ascending: those for repair to look at.
func (l *Lag) Overdue(now time.Time, origin string, age time.Duration) []hashring.Partition {
	l.mu.Lock()
	defer l.mu.Unlock()
	o := l.origins[origin]
	if o == nil {
		return nil
	}
	var out []hashring.Partition
	for p, a := range o.partitions {
		held := l.clocks.Clock(p)
		if held == nil {
			continue
		}
		a.missing(now, held)
		if len(a.steps) > 0 && now.Sub(a.steps[0].at) >= age {
			out = append(out, p)
		}
	}
	slices.Sort(out)
	return out
}
