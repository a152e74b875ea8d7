package model

import (
	"fmt"
	"strings"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
)

type state uint8

const (
	serving   state = iota
	rejoining       // started, but may neither serve nor send nor apply
	down
)

// owner is a node that stores the partition.
type owner struct {
	w     *world
	id    int8
	state state
	disk  disk
	boot  int // starts so far

	actor   crdt.Actor
	counter uint64
	// rotten are the keys whose record was silently damaged under the present
	// actor. The owner does not know; the twin does.
	rotten [Keys]bool

	skew  int64 // of its physical clock, in milliseconds
	stamp *hlc.Clock
}

func (o *owner) init(w *world, id int8) {
	log := o.disk.log[:0]
	stamp := o.stamp
	*o = owner{w: w, id: id, disk: disk{log: log}, stamp: stamp}
	o.newActor("first start")
	o.newClock()
	w.nonces[id] = 1
	o.disk.nonce = 1
}

func (o *owner) region() int { return int(o.id) / (Owners / 2) }

func (o *owner) String() string { return fmt.Sprintf("r%d", o.id) }

// newActor takes the region's next incarnation.
func (o *owner) newActor(why string) {
	o.w.actors++
	o.actor, o.counter = crdt.MakeActor(o.w.actors, uint8(o.region()+1)), 0
	o.rotten = [Keys]bool{}
	if o.w.opt.Trace && why != "first start" {
		o.w.logf("%v becomes %v: %s", o, o.actor, why)
	}
}

func (o *owner) newClock() {
	o.stamp = hlc.New(func() time.Time { return time.UnixMilli(o.w.now + o.skew) })
}

func (o *owner) stop() {
	o.state = down
	o.disk.clean = false
}

// stopCleanly leaves the marker that lets the next start go on as before.
func (o *owner) stopCleanly() {
	o.state = down
	o.disk.clean = true
	o.w.stats.CleanStops++
	if o.w.opt.Trace {
		o.w.logf("%v stops in order", o)
	}
}

// start begins an incarnation, or goes on with the last one after an orderly
// stop of this very disk.
func (o *owner) start() {
	w := o.w
	fresh := o.disk.clean && o.disk.nonce == w.nonces[o.id]
	w.nonces[o.id] += 2
	o.disk.nonce, o.disk.clean = w.nonces[o.id], false
	o.state = rejoining
	o.boot++
	o.newClock()
	switch {
	case fresh:
	case w.opt.Bugs.ReuseActor:
		o.counter = o.disk.clock.Max(o.actor)
	default:
		o.newActor("no orderly stop of this disk")
	}
	w.rejoin(o)
}

// visible is o's record of a key, absent if a floor says so.
func (o *owner) visible(key int, floor hlc.Stamp) crdt.Record {
	r := o.disk.records[key]
	if crdt.Collectible(r, floor) {
		return crdt.Record{}
	}
	return r
}

// digest is the XOR over what o holds above a floor, and all that lives.
func (o *owner) digest(floor hlc.Stamp) (d uint64) {
	for k := range Keys {
		d ^= crdt.Digest(1, uint64(k), o.visible(k, floor))
	}
	return d
}

// reaches tells whether a request gets from o to p and back.
func (o *owner) reaches(p *owner) bool {
	return p != o && p.state != down && o.state != down && (!o.w.cut || o.region() == p.region())
}

// show prints a record as dots with their events: 3@1.7=e5 is live, -e5 dead.
func show(r crdt.Record) string {
	var b strings.Builder
	b.WriteByte('{')
	for i := range r.Versions {
		v := &r.Versions[i]
		sign := "="
		if v.Dead {
			sign = "-"
		}
		fmt.Fprintf(&b, " %v%se%d%v", v.Dot, sign, eventOf(v), v.Past)
	}
	b.WriteString(" }")
	return b.String()
}
