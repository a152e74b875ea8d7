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
	agreed [Keys]crdt.Record // what the lists hold, once they are identical
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
		switch {
		case !w.sameOwners():
			w.endRound("an owner is another incarnation")
		case w.settled():
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
	if r.phase != idle && r.done == 1<<Owners-1 {
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
		if !w.stillHolds(o) {
			w.endRound("an owner has lost what it listed")
			return
		}
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

// stillHolds tells whether o holds or covers all that was listed. A tombstone
// that a disk loses between list and raise, while a late message brings back
// what it covered, would else be dropped everywhere.
func (w *world) stillHolds(o *owner) bool {
	for k := range Keys {
		for _, v := range w.round.agreed[k].Versions {
			if !w.opt.Bugs.BlindRaise && !o.disk.records[k].Covers(v.Dot) {
				return false
			}
		}
	}
	return true
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
		for k := range Keys {
			if rec := w.owners[0].disk.records[k]; crdt.Collectible(rec, r.floor) {
				r.agreed[k] = rec
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
