package model

import "github.com/atolldb/atoll/crdt"

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
