package model

import (
	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
)

// admit is the late-message rule: what m carries at or below o's floor, and o
// does not know, passes if another owner holds it, or if the sender vouches for
// it and nobody has reason to think it superseded. It is left out if that is
// known: two owners, o included, had it and have it no more. If neither is known, all of m waits, for half a
// record is worse than none: vectors take for granted that a record comes
// whole, so that whoever reads the rest would cover what was left out.
func (w *world) admit(o *owner, m *message, local crdt.Record) (rec crdt.Record, ok bool) {
	if w.opt.Bugs.NoLateRule {
		return m.rec, true
	}
	vouched := m.from >= 0 && m.floor >= o.disk.floor
	var late []crdt.Dot
	switch {
	case !vouched:
		late = crdt.Late(m.rec, local, o.disk.floor)
	case w.opt.BelieveOwners:
	case m.stream: // to ask about each record of a full sync would double it
		late = crdt.LateVouched(m.rec, local, &o.disk.clock, o.disk.floor)
	default:
		late = crdt.Late(m.rec, local, o.disk.floor)
	}
	var gone []crdt.Dot
	for _, dot := range late {
		others := w.ask(o, m.from, int(m.key), dot)
		lack := others.lack
		if o.disk.clock.Contains(dot) {
			lack++
		}
		switch {
		case others.holds || vouched && lack == 0:
			w.stats.LateConfirmed++
			continue
		case lack < 2 && !w.opt.Bugs.HalfRecords:
			w.stats.LateWaits++
			if w.opt.Trace {
				w.logf("  %v refuses k%d: nobody can tell whether %v was collected", o, m.key, dot)
			}
			return crdt.Record{}, false
		}
		w.stats.LateKept++
		gone = append(gone, dot)
		if w.opt.Trace {
			w.logf("  %v keeps back %v of k%d: late", o, dot, m.key)
		}
	}
	if len(gone) == 0 {
		return m.rec, true
	}
	rec = crdt.Without(m.rec, gone)
	w.noteWithout(m.rec, rec)
	return rec, true
}

// word is what peers say of a dot. Who neither has it nor had it is behind,
// not wiser, and says nothing.
type word struct {
	holds  bool   // one has the version
	covers *owner // one has a version that superseded it
	lack   int    // so many had it delivered and have it no more
}

// ask asks o's peers, less the sender.
func (w *world) ask(o *owner, sender int8, key int, dot crdt.Dot) (a word) {
	for i := range w.owners {
		p := &w.owners[i]
		if p.id == sender || !o.reaches(p) || p.state != serving {
			continue
		}
		switch r := p.disk.records[key]; {
		case r.Find(dot) != nil:
			a.holds = true
		case r.Covers(dot):
			a.covers = p
			a.lack++
		case p.disk.clock.Contains(dot):
			a.lack++
		}
	}
	return a
}

// sift applies the late-message rule to o's own record of a key. What is at or
// below the floor and superseded elsewhere is joined with what superseded it;
// what nobody holds, and enough peers had and have no more, goes to the side
// log. That nobody knows a dot is no reason: they may all have lost more than
// o. It returns how many versions remain about which nobody could tell.
func (w *world) sift(o *owner, key int, floor hlc.Stamp, enough int) (open int) {
	var gone []crdt.Dot
	for _, dot := range crdt.Late(o.disk.records[key], crdt.Record{}, floor) {
		switch others := w.ask(o, -1, key, dot); {
		case others.holds:
		case others.covers != nil:
			w.commitIfNew(o, key, crdt.Join(o.disk.records[key], others.covers.disk.records[key]), 0)
		case others.lack >= enough:
			gone = append(gone, dot)
		default:
			open++
		}
	}
	if len(gone) == 0 {
		return open
	}
	rec := o.disk.records[key]
	rest := crdt.Without(rec, gone)
	w.stats.Sifted += len(gone)
	w.sifted |= held(rec) &^ held(rest)
	w.noteWithout(rec, rest)
	o.disk.commit(w, batch{key: int8(key), rec: rest})
	if w.opt.Trace {
		w.logf("  %v puts %v of k%d into its side log: superseded, and the tombstone collected", o, gone, key)
	}
	return open
}

// noteWithout notes that an owner has rest of a record.
func (w *world) noteWithout(rec, rest crdt.Record) {
	for s := held(rec) &^ held(rest); s != 0; s = s.less(s.first()) {
		w.without[s.first()] |= held(rest)
	}
}
