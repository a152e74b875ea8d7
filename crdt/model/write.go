package model

import (
	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
)

// client keeps for each key what its last answer told it.
type client struct {
	known [Keys]knowledge
}

// knowledge is a context, beside what its bearer has truly seen.
type knowledge struct {
	ctx  crdt.Context
	seen eventSet
}

func (w *world) know(r crdt.Record) knowledge {
	return knowledge{r.Context(), w.closure(r)}
}

// read is a client's read of n owners in its region: the join of their
// answers. It may leave a read repair behind, from a coordinator that is no
// owner and may sleep before it sends.
func (w *world) read(c, key, n int) (knowledge, bool) {
	region, at := c%2, w.rng.IntN(Owners/2)
	var answer crdt.Record
	var asked [Owners / 2]*owner
	got := 0
	for i := range Owners / 2 {
		o := &w.owners[region*Owners/2+(at+i)%(Owners/2)]
		if o.state == serving && got < n {
			answer = crdt.Join(answer, o.disk.records[key])
			asked[got] = o
			got++
		}
	}
	if got < n {
		return knowledge{}, false
	}
	for _, o := range asked[:got] {
		if !o.disk.records[key].SameDots(answer) && w.chance(w.profile.readRepair) {
			w.post(message{from: -1, to: o.id, key: int8(key), rec: answer})
		}
	}
	w.checkRead(answer)
	k := w.know(answer)
	if w.opt.Bugs.NoStampInContext {
		k.ctx.Stamp = 0
	}
	w.clients[c].known[key] = k
	return k, true
}

// minter is the first owner of c's region in table order that serves, or now
// and then another one.
func (w *world) minter(c int) *owner {
	region := c % 2
	if w.opt.Roaming && w.chance(w.profile.roam) {
		region = 1 - region
	}
	at := 0
	if w.chance(w.profile.unsticky) {
		at = w.rng.IntN(Owners / 2)
	}
	for i := range Owners / 2 {
		o := &w.owners[region*Owners/2+(at+i)%(Owners/2)]
		if o.state == serving {
			return o
		}
	}
	return nil
}

// write is what a client asks of a minter: a value or a delete on top of what
// it knows.
type write struct {
	key    int
	base   knowledge
	dead   bool
	expiry int64
}

// mint makes an event at o and sends it out.
func (w *world) mint(c int, o *owner, q write) {
	if len(w.events) == MaxEvents {
		return
	}
	if q.base.ctx.Seen.Get(o.actor) > o.counter {
		w.stats.Amnesia++
		o.newActor("a context shows it a dot that it does not know")
	}
	d := &o.disk
	local := d.records[q.key]
	if w.opt.Roaming && w.chance(w.profile.settled) {
		w.noteTold()
		q.base.ctx = q.base.ctx.Settled(local, func(d crdt.Dot) bool { return w.wasTold(d) || w.opt.Bugs.EarlySettled })
	}
	o.counter++
	e := len(w.events)
	v := crdt.Version{
		Dot:    crdt.Dot{Actor: o.actor, N: o.counter},
		Stamp:  o.stamp.Next(max(q.base.ctx.Stamp, local.MaxStamp(), d.floor, d.promise)),
		Dead:   q.dead,
		Expiry: q.expiry,
		Meta:   names[e],
	}
	w.noteHoles(o, q.key, w.closure(local)|q.base.seen)
	w.noteMint(event{dot: v.Dot, key: int8(q.key), dead: v.Dead, expiry: v.Expiry, stamp: v.Stamp, seen: q.base.seen, votes: 1 << o.id, minter: o.id})
	rec := crdt.Write(local, q.base.ctx.Seen, v)
	w.checkGivesUp(o, local, rec)
	d.commit(w, batch{key: int8(q.key), rec: rec, delivered: bit(e)})
	if q.dead {
		w.stats.Deletes++
	}
	if w.opt.Trace {
		w.logf("client %d: e%d at %v on k%d, having seen %b: now %v", c, e, o, q.key, q.base.seen, show(rec))
	}
	w.fanOut(o, q.key, e, rec)
	// Only now: a vote may have told the minter what its disk had lost.
	w.answer(c, q, crdt.Without(d.records[q.key], []crdt.Dot{v.Dot}), &v)
}

// answer tells client c the context of its write, once that is acknowledged. A
// client that roams asks for one acknowledgement alone, now and then.
func (w *world) answer(c int, q write, local crdt.Record, v *crdt.Version) {
	if !w.acked.has(eventOf(v)) && !(w.opt.Roaming && w.chance(w.profile.alone)) {
		return
	}
	ctx := q.base.ctx.After(local, v)
	if w.opt.Bugs.PresumedAnswers {
		ctx.Seen = presumed(&q.base.ctx, local, v)
	}
	if w.opt.Bugs.FoldedAnswers {
		ctx.Seen = ctx.Seen.With(v.Dot)
	}
	seen := q.base.seen | bit(eventOf(v))
	if w.opt.Bugs.NoStampInContext {
		ctx.Stamp = 0
	}
	w.clients[c].known[q.key] = knowledge{ctx, seen}
}

// presumed is a planted bug: all earlier events of v's actor, but those that are
// live at its minter.
func presumed(c *crdt.Context, local crdt.Record, v *crdt.Version) crdt.VV {
	seen, low := c.Seen, uint64(0)
	for _, u := range local.Versions { // they ascend
		if d := u.Dot; d.Actor == v.Dot.Actor && !c.Seen.Covers(d) {
			if d.N > low+1 {
				seen = seen.WithAbove(crdt.Dot{Actor: d.Actor, N: d.N - 1}, low)
			}
			low = d.N
		}
	}
	return seen.WithAbove(v.Dot, low)
}

// noteHoles excuses earlier writes of o's actor on a key that its record does
// not know any more, if a silent fault took them.
func (w *world) noteHoles(o *owner, key int, known eventSet) {
	for i := range w.events {
		e := &w.events[i]
		if int(e.key) != key || e.dot.Actor != o.actor || (known | w.collected).has(i) {
			continue
		}
		if o.rotten[key] {
			w.excused |= bit(i)
			if w.opt.Trace {
				w.logf("%v mints over its own e%d, which its disk has lost: e%d is excused", o, i, i)
			}
		}
	}
}

// fanOut sends the whole record to the other owners.
func (w *world) fanOut(o *owner, key, e int, rec crdt.Record) {
	if w.opt.Bugs.DenseDeltas {
		rec = denseDelta(rec, w.events[e].dot)
	}
	for i := range w.owners {
		if int8(i) == o.id {
			continue
		}
		m := message{from: o.id, to: int8(i), key: int8(key), vote: true, floor: o.disk.floor, rec: rec, named: bit(e)}
		p := &w.profile
		switch n := w.rng.IntN(100); {
		case n < p.atOnce:
			w.deliver(m)
		case n < p.atOnce+p.lost:
		default:
			w.post(m)
		}
		if w.chance(p.sleep) {
			w.slept = append(w.slept, m)
		}
	}
}

// denseDelta is a planted bug: only the new version, with the context of the
// whole record as its past.
func denseDelta(rec crdt.Record, d crdt.Dot) crdt.Record {
	v := *rec.Find(d)
	var past crdt.VV
	for _, e := range rec.Context().Seen {
		if e.Actor == d.Actor {
			e.N = d.N - 1
		}
		if e.N > 0 {
			past = append(past, e)
		}
	}
	v.Past = past
	return crdt.Record{Versions: []crdt.Version{v}}
}

// tell is a voter's answer to a minter whose record lacks an earlier dot of
// its own that the voter holds: the minter's disk has lost it.
func (w *world) tell(o *owner, m *message) {
	if m.from < 0 || w.opt.SilentVotes {
		return
	}
	by, minter := w.events[m.named.first()].dot.Actor, &w.owners[m.from]
	if !o.reaches(minter) || minter.state != serving {
		return
	}
	r := o.disk.records[m.key]
	for i := range r.Versions {
		v := &r.Versions[i]
		d := crdt.Dot{Actor: by, N: v.Past.Get(by)}
		if v.Dot.Actor == by {
			d = v.Dot
		}
		if d.N > 0 && !m.rec.Covers(d) {
			w.apply(minter, &message{from: o.id, to: m.from, key: m.key, floor: o.disk.floor, rec: r})
			return
		}
	}
}

// acknowledge counts o's vote for the events that m named.
func (w *world) acknowledge(o *owner, m *message) {
	if !m.vote {
		return
	}
	e := m.named.first()
	w.tell(o, m)
	ev := &w.events[e]
	if !o.disk.records[m.key].Covers(ev.dot) {
		return
	}
	ev.votes |= 1 << o.id
	inRegion := uint8(0b111)
	if ev.minter >= Owners/2 {
		inRegion <<= Owners / 2
	}
	if n := eventSet(ev.votes & inRegion).len(); n >= 2 && !w.acked.has(e) {
		w.acked |= bit(e)
		if w.opt.Trace {
			w.logf("e%d is acknowledged", e)
		}
	}
}

// standIn is a planted bug: somebody who is no owner and mints all the same,
// on a record that it forgets once it has handed it off.
type standIn struct {
	actor   crdt.Actor
	counter uint64
}

func (w *world) mintByStandIn(c int, q write) {
	if len(w.events) == MaxEvents {
		return
	}
	s := &w.standIn
	if s.actor == 0 {
		w.actors++
		s.actor = crdt.MakeActor(w.actors, uint8(c%2+1))
	}
	s.counter++
	e := len(w.events)
	v := crdt.Version{Dot: crdt.Dot{Actor: s.actor, N: s.counter}, Stamp: max(q.base.ctx.Stamp+1, hlc.FromMillis(w.now)), Dead: q.dead, Meta: names[e]}
	owner := int8(c % 2 * (Owners / 2))
	w.noteMint(event{dot: v.Dot, key: int8(q.key), dead: v.Dead, stamp: v.Stamp, seen: q.base.seen, minter: owner})
	rec := crdt.Write(crdt.Record{}, q.base.ctx.Seen, v)
	w.logf("client %d: e%d at the stand-in on k%d: %v", c, e, q.key, show(rec))
	for i := range w.owners {
		if w.chance(40) {
			w.post(message{from: -1, to: int8(i), key: int8(q.key), vote: true, rec: rec, named: bit(e)})
		}
	}
}
