package model

import (
	"slices"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
)

// disk is what an owner has made durable: the result of its log of batches, in
// order. A crash takes a suffix of the log, never a middle.
type disk struct {
	records [Keys]crdt.Record
	clock   crdt.Clock
	// index knows the keys behind these events' dots.
	index eventSet
	marks
	nonce uint32 // handed out at the last start
	clean bool   // stopped in order
	log   []batch
}

// marks are an owner's durable stamps.
type marks struct {
	floor   hlc.Stamp
	promise hlc.Stamp // mint above this only
	dropTo  hlc.Stamp // all owners have raised their floor to this
}

// batch is what one commit changed.
type batch struct {
	key       int8 // -1 for none
	rec       crdt.Record
	delivered eventSet    // into clock and index
	runs      []crdt.Dots // into the clock alone
	pruned    eventSet    // out of the index
	marks     marks       // each raised to this
}

func (d *disk) commit(w *world, b batch) {
	w.commits++
	d.do(w, &b)
	d.log = append(d.log, b)
}

func (d *disk) do(w *world, b *batch) {
	if b.key >= 0 {
		d.records[b.key] = b.rec
	}
	for s := b.delivered; s != 0; s = s.less(s.first()) {
		if e := s.first(); d.clock.Add(w.events[e].dot) {
			d.index |= bit(e)
		}
	}
	for _, run := range b.runs {
		d.clock.AddSpan(run)
	}
	d.index &^= b.pruned
	d.floor = max(d.floor, b.marks.floor)
	d.promise = max(d.promise, b.marks.promise)
	d.dropTo = max(d.dropTo, b.marks.dropTo)
}

// upTo returns the disk as it was after n batches.
func (d *disk) upTo(w *world, n int) disk {
	old := disk{nonce: d.nonce, log: slices.Clone(d.log[:n])}
	for i := range old.log {
		old.do(w, &old.log[i])
	}
	return old
}

// damage replaces o's disk unless that would destroy the last copy of an
// acknowledged write.
func (w *world) damage(o *owner, to disk) bool {
	before, was := w.coverage(), o.disk
	o.disk = to
	if gone := before &^ w.coverage() & w.acked &^ w.collected; gone != 0 {
		o.disk = was
		w.stats.Refused++
		return false
	}
	return true
}

// crash stops o and takes back its last n batches.
func (w *world) crash(o *owner, n int) {
	n = min(n, len(o.disk.log))
	to := o.disk
	if n > 0 {
		to = o.disk.upTo(w, len(o.disk.log)-n)
	}
	if !w.damage(o, to) {
		return
	}
	o.stop()
	w.stats.Crashes++
	w.stats.TakenBack += n
	if w.opt.Trace {
		w.logf("%v crashes, %d batches are taken back", o, n)
	}
}

// wipe stops o and empties its disk.
func (w *world) wipe(o *owner) {
	if !w.damage(o, disk{}) {
		return
	}
	o.stop()
	w.stats.Wipes++
	if w.opt.Trace {
		w.logf("%v is wiped", o)
	}
}

// copyDisk stops o and gives it an old copy of its own disk, taken at an
// orderly stop: only the nonce tells.
func (w *world) copyDisk(o *owner, n int) {
	to := o.disk.upTo(w, max(0, len(o.disk.log)-n))
	to.clean, to.nonce = true, o.disk.nonce-1
	if !w.damage(o, to) {
		return
	}
	o.stop()
	w.stats.Copies++
	if w.opt.Trace {
		w.logf("%v gets an old copy of its disk, %d batches younger ones are gone", o, n)
	}
}

// rot silently loses o's record of a key, or brings back an older one.
func (w *world) rot(o *owner, key int, lose bool) {
	var old crdt.Record
	if !lose {
		for i := range o.disk.log {
			if b := &o.disk.log[i]; int(b.key) == key && w.chance(40) {
				old = b.rec
			}
		}
	}
	if old.SameDots(o.disk.records[key]) {
		return
	}
	to := o.disk
	to.records[key] = old
	if !w.damage(o, to) {
		return
	}
	o.disk.log = append(o.disk.log, batch{key: int8(key), rec: old})
	o.rotten[key] = true
	w.revivable |= held(old)
	w.stats.SilentFaults++
	if w.opt.Trace {
		w.logf("%v silently has k%d as %v", o, key, show(old))
	}
}
