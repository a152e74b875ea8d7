package model

// rejoin lets o serve once it knows the others' floor, and has sifted its own
// store if its floor is below that. It needs one owner that serves, or, when
// nobody does (all were down at once), word from all of them: then those with
// the highest floor go first. While it cannot tell whether something old was
// superseded, and not all owners answer, it waits.
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
			open := 0
			for k := range Keys {
				open += w.sift(o, k, most.floor, 1)
			}
			if open > 0 && !all {
				return
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
