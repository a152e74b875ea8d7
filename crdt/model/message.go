package model

import (
	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
)

// message carries one record to one owner: a replicated write, a read repair,
// a hint, an answer of anti-entropy.
type message struct {
	// from is the owner that read the record from its store and vouches for
	// it with its floor of that moment; -1 when nobody does (a coordinator).
	from, to int8
	key      int8
	vote     bool // a write that waits for votes
	stream   bool // part of a full sync
	floor    hlc.Stamp
	rec      crdt.Record
	named    eventSet // dots that this delivers beside those of its versions
}

// post puts m on its way. Round and void checks see what is on its way.
func (w *world) post(m message) { w.mail = append(w.mail, m) }

// deliver applies m, or keeps it as a hint when its owner does not answer.
func (w *world) deliver(m message) {
	o := &w.owners[m.to]
	unreachable := o.state != serving
	if m.from >= 0 && w.cut && w.owners[m.from].region() != o.region() {
		unreachable = true
	}
	if unreachable {
		if w.chance(w.profile.hint) {
			w.post(m)
		}
		return
	}
	w.apply(o, &m)
	w.acknowledge(o, &m)
}

// apply is the only way in for what was decided elsewhere. What the
// late-message rule keeps back is not delivered.
func (w *world) apply(o *owner, m *message) {
	local := o.disk.records[m.key]
	rec, ok := w.admit(o, m, local)
	if !ok {
		return
	}
	joined := crdt.Join(local, rec)
	for i := range rec.Versions {
		v := &rec.Versions[i]
		o.stamp.Observe(v.Stamp)
		if v.Dot.Actor == o.actor && !local.Covers(v.Dot) {
			w.stats.Amnesia++
			o.newActor("it is shown a dot of its own that its record lacks")
		}
	}
	if w.opt.Bugs.MergeMints {
		joined = o.bump(local, joined)
	}
	w.checkNames(joined)
	w.checkGivesUp(o, local, joined)
	delivered := held(rec) | m.named&^held(m.rec)
	w.commitIfNew(o, int(m.key), joined, delivered)
}

// commitIfNew writes a record and deliveries, unless o has them already.
func (w *world) commitIfNew(o *owner, key int, rec crdt.Record, delivered eventSet) {
	d := &o.disk
	var news eventSet
	for s := delivered; s != 0; s = s.less(s.first()) {
		if e := s.first(); !d.clock.Contains(w.events[e].dot) {
			news |= bit(e)
		}
	}
	if news == 0 && rec.SameDots(d.records[key]) {
		return
	}
	d.commit(w, batch{key: int8(key), rec: rec, delivered: news})
	if w.opt.Trace {
		w.logf("  %v has k%d as %v", o, key, show(rec))
	}
}

// bump is a planted bug: a join that changed something is an event.
func (o *owner) bump(local, joined crdt.Record) crdt.Record {
	if len(local.Versions) == 0 || joined.SameDots(local) {
		return joined
	}
	o.counter++
	v := joined.Versions[len(joined.Versions)-1]
	seen := v.Past.With(v.Dot)
	v.Dot = crdt.Dot{Actor: o.actor, N: o.counter}
	return crdt.Write(joined, seen, v)
}
