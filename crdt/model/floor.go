package model

import (
	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
)

type phase uint8

const (
	idle phase = iota
	promising
	settling // every clock gets what any had at the promise
	listing
	raising
	dropping
)

// round is a collection round. Each phase asks every owner once, in any order;
// an owner that became another incarnation since the round began ends it.
type round struct {
	phase phase
	floor hlc.Stamp
	// from is the highest floor that all owners are known to have raised:
	// what is dead at or below it was listed before, and may be gone anywhere.
	from   hlc.Stamp
	actors [Owners]crdt.Actor
	done   uint8 // owners that are through with this phase
	had    crdt.Clock
	lists  [Owners]uint64
}

// stepRound moves the round on by one owner, or by one phase.
func (w *world) stepRound() {
	r := &w.round
	if r.phase == idle {
		floor := w.grace()
		for i := range w.owners {
			if w.owners[i].disk.floor >= floor {
				return
			}
			r.actors[i] = w.owners[i].actor
		}
		*r = round{phase: promising, floor: floor, actors: r.actors}
		if w.opt.Trace {
			w.logf("round: proposes %v", floor)
		}
		return
	}
	if r.phase == settling {
		if w.settled() {
			r.phase = listing
		}
		return
	}
	at := w.rng.IntN(Owners)
	for i := range Owners {
		o := &w.owners[(at+i)%Owners]
		if r.done>>o.id&1 == 1 {
			continue
		}
		if o.state != serving {
			return
		}
		if !w.sameOwners() {
			w.endRound("an owner is another incarnation")
			return
		}
		w.askRound(o)
		r.done |= 1 << o.id
		break
	}
	if r.done == 1<<Owners-1 {
		w.nextPhase()
	}
}

func (w *world) sameOwners() bool {
	r := &w.round
	if w.opt.Bugs.RoundSkipsRestarts || r.phase == dropping {
		return true
	}
	for i := range w.owners {
		if w.owners[i].actor != r.actors[i] {
			return false
		}
	}
	return true
}

func (w *world) endRound(why string) {
	w.stats.RoundsOff++
	w.round = round{}
	if w.opt.Trace {
		w.logf("round: off, %s", why)
	}
}

// askRound is one owner's part in a phase.
func (w *world) askRound(o *owner) {
	r := &w.round
	switch r.phase {
	case promising:
		o.disk.commit(w, batch{key: -1, marks: marks{promise: r.floor}})
		r.had.Join(&o.disk.clock)
		r.from = max(r.from, o.disk.dropTo)
	case listing:
		w.drop(o, r.from)
		for k := range Keys {
			if rec := o.disk.records[k]; crdt.Collectible(rec, r.floor) {
				r.lists[o.id] ^= crdt.Digest(2, uint64(k), rec)
			}
		}
	case raising:
		o.disk.commit(w, batch{key: -1, marks: marks{floor: r.floor}})
		if w.opt.Trace {
			w.logf("%v raises its floor to %v", o, r.floor)
		}
		if w.opt.Bugs.DropBeforeAllRaised {
			w.drop(o, r.floor)
		}
	case dropping:
		w.drop(o, r.floor)
	}
}

func (w *world) nextPhase() {
	r := &w.round
	switch r.phase {
	case listing:
		for i := range r.lists {
			if r.lists[i] != r.lists[0] {
				w.endRound("the lists differ")
				return
			}
		}
	case raising:
		if !w.sameOwners() {
			w.endRound("an owner is another incarnation")
			return
		}
	case dropping:
		w.stats.Rounds++
		w.round = round{}
		return
	}
	r.phase++
	r.done = 0
}

// settled tells whether every owner has what any had when it promised, nothing
// at or below the floor is on its way, and dead actors have no gaps.
func (w *world) settled() bool {
	r := &w.round
	for i := range w.owners {
		o := &w.owners[i]
		if o.state != serving || !o.disk.clock.Covers(&r.had) {
			return false
		}
	}
	for i := range w.mail {
		for _, v := range w.mail[i].rec.Versions {
			if v.Stamp <= r.floor {
				return false
			}
		}
	}
	for _, a := range r.had.Actors() {
		if w.isDead(a) && r.had.Base(a) < r.had.Max(a) && !w.owners[0].closed(a, r.had.Max(a)) {
			return false
		}
	}
	return true
}

func (o *owner) closed(a crdt.Actor, last uint64) bool { return o.disk.clock.Base(a) >= last }

func (w *world) isDead(a crdt.Actor) bool {
	for i := range w.owners {
		if w.owners[i].actor == a {
			return false
		}
	}
	return true
}

// drop forgets o's dead records at or below floor.
func (w *world) drop(o *owner, floor hlc.Stamp) {
	if o.disk.dropTo < floor {
		o.disk.commit(w, batch{key: -1, marks: marks{dropTo: floor}})
	}
	for k, rec := range o.disk.records {
		if !crdt.Collectible(rec, floor) {
			continue
		}
		w.collected |= w.closure(rec)
		w.stats.Collected++
		o.disk.commit(w, batch{key: int8(k)})
		if w.opt.Trace {
			w.logf("%v drops k%d: %v", o, k, show(rec))
		}
	}
}

// dropByAge is a planted bug.
func (w *world) dropByAge() {
	for i := range w.owners {
		if o := &w.owners[i]; o.state == serving {
			w.drop(o, w.grace())
		}
	}
}

// runRound tries to bring a round to its end at once, and reports whether one
// was completed.
func (w *world) runRound() bool {
	if w.opt.Bugs.AgeTombstones {
		w.dropByAge()
		return true
	}
	before := w.stats.Rounds
	for range 6 * (Owners + 1) {
		w.stepRound()
		if w.stats.Rounds > before {
			return true
		}
		if w.round.phase == idle {
			return false
		}
	}
	return false
}

// voidRound closes dead actors: when all owners answer and nothing of such an
// actor is on its way, the dots that nobody has are declared void in every
// clock.
func (w *world) voidRound() {
	var had crdt.Clock
	for i := range w.owners {
		if w.owners[i].state != serving {
			return
		}
		had.Join(&w.owners[i].disk.clock)
	}
	if w.cut || had.Gaps() == 0 {
		return
	}
	var void []crdt.Dots
	for _, a := range had.Actors() {
		if !w.isDead(a) || had.Base(a) == had.Max(a) || w.onItsWay(a) {
			continue
		}
		var all crdt.Clock
		all.AddSpan(crdt.Dots{Actor: a, Span: crdt.Span{Lo: 1, Hi: had.Max(a)}})
		void = append(void, had.Missing(&all)...)
	}
	if len(void) == 0 {
		return
	}
	w.stats.Voided += len(void)
	for i := range w.owners {
		w.owners[i].disk.commit(w, batch{key: -1, runs: void})
	}
	if w.opt.Trace {
		w.logf("void: %v", void)
	}
}

func (w *world) onItsWay(a crdt.Actor) bool {
	for i := range w.mail {
		for _, v := range w.mail[i].rec.Versions {
			if v.Dot.Actor == a {
				return true
			}
		}
	}
	return false
}

// rejoin lets o serve once it knows the others' floor, and has applied the
// late-message rule to its own store if its floor is below that. It needs one
// owner that serves, or, when nobody does (all were down at once), word from
// all of them; then those with the highest floor go first.
func (w *world) rejoin(o *owner) {
	most := o.disk.marks
	asked, all := 0, true
	for i := range w.owners {
		p := &w.owners[i]
		if p == o {
			continue
		}
		if !o.reaches(p) {
			all = false
		} else if p.state == serving {
			asked++
		}
	}
	if asked == 0 && !all {
		return
	}
	for i := range w.owners {
		if p := &w.owners[i]; o.reaches(p) && (asked == 0 || p.state == serving) {
			most.floor = max(most.floor, p.disk.floor)
			most.promise = max(most.promise, p.disk.promise)
			most.dropTo = max(most.dropTo, p.disk.dropTo)
		}
	}
	if most.floor > o.disk.floor {
		if asked == 0 {
			return // somebody with a higher floor goes first
		}
		if !w.opt.Bugs.NoRejoinRule {
			for k := range Keys {
				w.sift(o, k, most.floor)
			}
		}
	}
	if most != o.disk.marks {
		o.disk.commit(w, batch{key: -1, marks: most})
	}
	o.state = serving
	if w.opt.Trace {
		w.logf("%v serves, as %v, floor %v", o, o.actor, o.disk.floor)
	}
}

// sift applies the late-message rule to o's own record of a key: what is at or
// below the floor goes to the side log if a peer had it and has it no more, and
// none has it still. That nobody knows it is no reason: they may all have lost
// more than o.
func (w *world) sift(o *owner, key int, floor hlc.Stamp) {
	rec := o.disk.records[key]
	var gone []crdt.Dot
	for _, dot := range crdt.Late(rec, crdt.Record{}, floor) {
		if holds, lacks := w.ask(o, -1, key, dot); lacks && !holds {
			gone = append(gone, dot)
		}
	}
	if len(gone) == 0 {
		return
	}
	w.stats.Sifted += len(gone)
	o.disk.commit(w, batch{key: int8(key), rec: crdt.Without(rec, gone)})
	if w.opt.Trace {
		w.logf("  %v puts %v of k%d into its side log: superseded, and the tombstone collected", o, gone, key)
	}
}
