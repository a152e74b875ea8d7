package model

import (
	"math/bits"
	"slices"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
)

// eventSet is a set of the events of a history.
type eventSet uint64

func bit(e int) eventSet               { return 1 << e }
func (s eventSet) has(e int) bool      { return s>>e&1 == 1 }
func (s eventSet) len() int            { return bits.OnesCount64(uint64(s)) }
func (s eventSet) first() int          { return bits.TrailingZeros64(uint64(s)) }
func (s eventSet) less(e int) eventSet { return s &^ bit(e) }

// event is one write, as the twin knows it.
type event struct {
	dot    crdt.Dot
	key    int8
	dead   bool
	expiry int64
	stamp  hlc.Stamp
	// seen is what the writer had truly seen, closed.
	seen   eventSet
	votes  uint8 // owners that said durable
	minter int8
}

// oracle is the twin: sets of events.
type oracle struct {
	events []event
	acked  eventSet
	// collected are the events of records dropped by the floor, and all that
	// they had seen.
	collected eventSet
	// excused may be lost: a silent loss let their owner mint over them.
	excused eventSet
	// revivable are what a silent fault brought back.
	revivable eventSet
	// told are what all owners had at some time, as contexts are settled by.
	told eventSet
	// without are, for an event, what an owner has of a record less that one, as the
	// late-message rule left it.
	without [MaxEvents]eventSet
	// sifted are what an owner put into its own side log.
	sifted eventSet
}

// A version names its event in its metadata: a tombstone has no value.
var names = func() (t [MaxEvents][]byte) {
	for i := range t {
		t[i] = []byte{byte(i)}
	}
	return t
}()

func eventOf(v *crdt.Version) int { return int(v.Meta[0]) }

// held are the events that are versions of r.
func held(r crdt.Record) (s eventSet) {
	for i := range r.Versions {
		s |= bit(eventOf(&r.Versions[i]))
	}
	return s
}

// closure is everything that went into r: its versions and what their writers
// had truly seen.
func (o *oracle) closure(r crdt.Record) (s eventSet) {
	for i := range r.Versions {
		e := eventOf(&r.Versions[i])
		s |= bit(e) | o.events[e].seen
	}
	return s
}

// withPasts adds what the events of s had superseded, and what nothing else may
// have superseded.
func (o *oracle) withPasts(s eventSet) eventSet {
	all := s
	for ; s != 0; s = s.less(s.first()) {
		all |= o.events[s.first()].seen
	}
	return all
}

// coverage is everything that some disk still knows.
func (w *world) coverage() (s eventSet) {
	for i := range w.owners {
		for k := range w.owners[i].disk.records {
			s |= w.closure(w.owners[i].disk.records[k])
		}
	}
	return s
}

// noteMint checks a new event against all others before it is logged.
func (w *world) noteMint(e event) {
	for i := range w.events {
		if w.events[i].dot == e.dot {
			w.violate("I10", "event %d got %v, which is event %d's", len(w.events), e.dot, i)
		}
	}
	for s := e.seen; s != 0; s = s.less(s.first()) {
		if i := s.first(); w.events[i].stamp >= e.stamp {
			w.violate("I11", "event %d (%v) saw event %d, whose stamp is higher", len(w.events), e.dot, i)
		}
	}
	w.events = append(w.events, e)
}

// checkNames checks that the versions of r are what was minted.
func (w *world) checkNames(r crdt.Record) {
	for i := range r.Versions {
		v := &r.Versions[i]
		if e := eventOf(v); w.events[e].dot != v.Dot {
			w.violate("I10", "%v carries event %d, which was minted as %v", v.Dot, e, w.events[e].dot)
		}
	}
}

// checkGivesUp checks that o, whose record of a key was old, gives up only what
// the writer of something in rec had truly seen.
//
// Two outcomes are excused, until what replaced the event is back, which must still
// come: what is checked at the end excuses neither. One is at an owner whose disk took
// back what a context was settled by, so that it lacks it now: the owner has again
// what that had replaced, and gives it up for a write by that context. The other is by
// a write whose writer had seen what an owner had been given less the event, by the
// late-message rule: reads of it take the event for seen.
func (w *world) checkGivesUp(o *owner, old, rec crdt.Record) {
	if !w.opt.NoSilent {
		return
	}
	gone := held(old) &^ (w.closure(rec) | w.collected)
	if gone == 0 {
		return
	}
	if gone &^= w.tookBack(o) | w.leftOut(rec); gone != 0 {
		e := gone.first()
		w.violate("I12", "%v gives up event %d (%v) for %v, and nobody there has seen it", o, e, w.events[e].dot, show(rec))
	}
	w.stats.ExcusedGivenUp++
}

// tookBack are what had been replaced by what o once had, and all others, and lacks.
func (w *world) tookBack(o *owner) (s eventSet) {
	for t := w.told; t != 0; t = t.less(t.first()) {
		if e := &w.events[t.first()]; !o.disk.clock.Contains(e.dot) {
			s |= e.seen
		}
	}
	return s
}

// leftOut are what was kept back of what the writer of a version of rec had seen.
func (w *world) leftOut(rec crdt.Record) (s eventSet) {
	seen := w.closure(rec) // what is a version itself takes away nothing
	for e, rest := range w.without[:len(w.events)] {
		if rest&seen != 0 {
			s |= bit(e)
		}
	}
	return s
}

// noteTold notes what all owners have.
func (w *world) noteTold() {
	for e := range w.events {
		at := 0
		for i := range w.owners {
			if w.owners[i].disk.clock.Contains(w.events[e].dot) {
				at++
			}
		}
		if at == Owners {
			w.told |= bit(e)
		}
	}
}

// wasTold reports whether d was at all owners at some time.
func (w *world) wasTold(d crdt.Dot) bool {
	return w.told.has(slices.IndexFunc(w.events, func(e event) bool { return e.dot == d }))
}

// checkRead checks that no owner that serves shows what a collected tombstone
// had deleted.
func (w *world) checkRead(r crdt.Record) {
	for s := held(r) & w.collected &^ w.revivable; s != 0; s = s.less(s.first()) {
		if e := s.first(); w.events[e].liveAt(w.now) {
			w.violate("I3", "a read shows event %d (%v), whose tombstone was collected", e, w.events[e].dot)
		}
	}
}

// readAll is a read of every key at every owner that serves.
func (w *world) readAll() {
	for i := range w.owners {
		for k := range w.profile.keys {
			if o := &w.owners[i]; o.state == serving {
				w.checkRead(o.disk.records[k])
			}
		}
	}
}

func (e *event) liveAt(now int64) bool { return !e.dead && (e.expiry == 0 || e.expiry > now) }

// checkEnd checks everything that must hold once the owners are at rest.
func (w *world) checkEnd() {
	w.checkConvergence()
	if w.violation != nil {
		return
	}
	var live eventSet
	for k := range Keys {
		live |= held(w.owners[0].visible(k, w.completed()))
	}
	reached := w.coverage() // also by tombstones that the floor hides
	lost := w.acked &^ (reached | w.collected)
	excused := w.withPasts(w.excused)
	w.stats.Excused = w.excused.len()
	w.stats.ExcusedLost = (lost & excused).len()
	if w.stats.SilentFaults > 0 {
		sifted := w.withPasts(w.sifted)
		w.stats.OnlyInSideLogs = (lost & sifted &^ excused).len()
		excused |= lost & sifted
	}
	if lost &^= excused; lost != 0 {
		e := lost.first()
		w.violate("I1", "acknowledged event %d (%v) is lost", e, w.events[e].dot)
	}
	superseded := w.collected
	for e := range w.events {
		if (w.acked &^ excused).has(e) {
			superseded |= w.events[e].seen
		}
	}
	for s := live & superseded; s != 0; s = s.less(s.first()) {
		e := s.first()
		switch {
		case !w.events[e].liveAt(w.now): // a superseded delete that comes back shows nothing
		case w.revivable.has(e):
			w.stats.Revived++
		default:
			w.violate("I3", "event %d (%v) was superseded for good and is live again", e, w.events[e].dot)
		}
	}
}

// completed is the highest floor that all owners have raised.
func (w *world) completed() (floor hlc.Stamp) {
	for i := range w.owners {
		floor = max(floor, w.owners[i].disk.dropTo)
	}
	return floor
}

func (w *world) checkConvergence() {
	a, floor := &w.owners[0], w.completed()
	for i := 1; i < Owners; i++ {
		b := &w.owners[i]
		switch {
		case a.disk.floor != b.disk.floor:
			w.violate("I2", "floors of r0 and r%d differ: %v, %v", i, a.disk.floor, b.disk.floor)
		case !a.disk.clock.Equal(&b.disk.clock):
			w.violate("I2", "clocks of r0 and r%d differ: %v, %v", i, a.disk.clock.All(), b.disk.clock.All())
		case a.digest(floor) != b.digest(floor):
			w.violate("I2", "digests of r0 and r%d differ", i)
		}
		for k := range Keys {
			x, y := a.visible(k, floor), b.visible(k, floor)
			if !sameRecord(x, y) {
				w.violate("I2", "k%d of r0 and r%d differ: %v, %v", k, i, show(x), show(y))
			}
		}
	}
}

func sameRecord(a, b crdt.Record) bool {
	return slices.EqualFunc(a.Versions, b.Versions, func(v, w crdt.Version) bool {
		return v.Dot == w.Dot && v.Stamp == w.Stamp && v.Dead == w.Dead && v.Past.Equal(w.Past) && eventOf(&v) == eventOf(&w)
	})
}
