package model

import (
	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
)

// pull is anti-entropy of a from b: by clocks, then, when those are equal, by
// digests.
func (w *world) pull(a, b *owner, whole bool) {
	if a.state != serving || b.state != serving || !a.reaches(b) {
		return
	}
	lacks := a.disk.clock.CountMissing(&b.disk.clock)
	if lacks == 0 {
		w.compareDigests(a, b)
		return
	}
	var behind [Keys]eventSet
	found := uint64(0)
	for s := b.disk.index; s != 0; s = s.less(s.first()) {
		if e := &w.events[s.first()]; !a.disk.clock.Contains(e.dot) {
			behind[e.key] |= bit(s.first())
			found++
		}
	}
	if found < lacks {
		w.fullSync(a, b)
		return
	}
	w.stats.ClockSyncs++
	if w.opt.Trace {
		w.logf("%v pulls %d dots from %v", a, lacks, b)
	}
	for k := range Keys {
		if behind[k] == 0 {
			continue
		}
		m := message{from: b.id, to: a.id, key: int8(k), floor: b.disk.floor, rec: b.disk.records[k], named: behind[k]}
		if w.opt.Bugs.StripByClock {
			w.strip(a, b, k)
		}
		switch {
		case whole || w.chance(80):
			w.apply(a, &m)
		case w.chance(50):
			w.slept = append(w.slept, m)
		}
	}
}

// compareDigests compares what owners with equal clocks hold, and joins the
// keys that differ both ways. Hidden is what either may have dropped: a round
// that was broken off while floors were raised proves nothing yet.
func (w *world) compareDigests(a, b *owner) {
	floor := max(a.disk.dropTo, b.disk.dropTo)
	if !a.disk.clock.Equal(&b.disk.clock) || a.digest(floor) == b.digest(floor) {
		return
	}
	w.stats.DigestRepairs++
	for k := range Keys {
		x, y := a.visible(k, floor), b.visible(k, floor)
		if x.SameDots(y) {
			continue
		}
		if w.opt.Trace {
			w.logf("digests of %v and %v differ on k%d: %v, %v", a, b, k, show(x), show(y))
		}
		if w.opt.Bugs.StripByClock {
			w.strip(a, b, k)
			w.strip(b, a, k)
		}
		w.repair(a, b, k, y)
		w.repair(b, a, k, x)
	}
}

// repair gives o what p has of a key, and then lets p look whether its disk
// brought something back: a version at or below the floor was delivered to
// everybody when the floor was raised.
func (w *world) repair(o, p *owner, key int, rec crdt.Record) {
	w.apply(o, &message{from: p.id, to: o.id, key: int8(key), floor: p.disk.floor, rec: rec})
	if w.opt.BelieveOwners {
		return
	}
	for i := range w.owners {
		if q := &w.owners[i]; q != p && !(p.reaches(q) && q.state == serving) {
			return
		}
	}
	w.sift(p, key, p.disk.floor, 2) // two: one may have lost it silently
}

// strip is a planted bug: what b's clock has and b's record has not, was
// deleted, so a forgets it.
func (w *world) strip(a, b *owner, key int) {
	var gone []crdt.Dot
	for _, v := range a.disk.records[key].Versions {
		if b.disk.clock.Contains(v.Dot) && b.disk.records[key].Find(v.Dot) == nil {
			gone = append(gone, v.Dot)
		}
	}
	if len(gone) > 0 {
		w.logf("%v strips %v of k%d: %v's clock has it", a, gone, key, b)
		w.commitIfNew(a, key, crdt.Without(a.disk.records[key], gone), 0)
	}
}

// fullSync streams all of b's records, and then the clock of the same moment,
// to a.
func (w *world) fullSync(a, b *owner) {
	w.stats.FullSyncs++
	s := w.openStream(a, b)
	for !w.advance(&s) {
	}
}

// stream is a full sync under way, possibly a slow one.
type stream struct {
	from, to int8
	boot     int // of the receiver: a restart ends the stream
	records  [Keys]crdt.Record
	clock    *crdt.Clock
	floor    hlc.Stamp
	next     int
}

func (w *world) openStream(a, b *owner) stream {
	if w.opt.Trace {
		w.logf("%v opens a full sync from %v", a, b)
	}
	return stream{from: b.id, to: a.id, boot: a.boot, records: b.disk.records, clock: b.disk.clock.Clone(), floor: b.disk.floor}
}

// advance applies the stream's next record, or its clock at the end, and
// reports whether it is over.
func (w *world) advance(s *stream) (over bool) {
	o := &w.owners[s.to]
	if o.state != serving || o.boot != s.boot {
		return true
	}
	if s.next < Keys {
		k := s.next
		s.next++
		w.apply(o, &message{from: s.from, to: s.to, key: int8(k), stream: true, floor: s.floor, rec: s.records[k]})
		return false
	}
	if runs := o.disk.clock.Missing(s.clock); len(runs) > 0 {
		o.disk.commit(w, batch{key: -1, runs: runs})
		if w.opt.Trace {
			w.logf("%v joins the stream's clock: %v", o, runs)
		}
	}
	return true
}

// syncAll repeats anti-entropy between all pairs until a pass repairs nothing,
// and reports whether it came to that.
func (w *world) syncAll() bool {
	for range 12 {
		before := w.commits
		for a := range w.owners {
			for b := range w.owners {
				if a != b {
					w.pull(&w.owners[a], &w.owners[b], true)
				}
			}
		}
		if w.commits == before {
			return true
		}
	}
	return false
}
