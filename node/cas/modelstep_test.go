package cas

import (
	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
)

// Messages of the model: what proposers and acceptors do with them.

// step does what a proposer says.
func (m *model) step(o *owner, s Step) {
	if s.Chosen != nil {
		st, p, _ := o.disk.state.Commit(s.Chosen.Ballot)
		o.disk.state = st
		if p != nil {
			o.disk.rec = crdt.Join(o.disk.rec, m.timely(p.Record))
		}
		m.joins(s.Chosen)
		if id := s.Chosen.ID; !id.IsZero() && !s.Chosen.NoOp() {
			o.disk.note(id, Carried{Version: s.Chosen.Dot})
		}
		o.ride, o.ridden = s.Chosen.Ballot, s.Chosen.Record
		m.say("n%d: %v of %x is decided", o.id, s.Chosen.Dot, s.Chosen.Ballot)
	}
	if s.Outcome != nil {
		op := o.op
		o.op, o.asked = nil, nil
		op.direct = s.Chosen != nil && uint64(s.Chosen.Ballot) == s.Outcome.Version.N
		m.end(op, *s.Outcome)
	}
	o.waiting = s.Again
	if s.Send == nil {
		return
	}
	msg := *s.Send
	if msg.Unprepared {
		m.stats.unprepared++
	}
	if d := msg.Proposal.Dot; m.opt.bugs.nodeDots && !d.IsZero() && d.Actor.IsBallot() {
		m.rename(o, &msg)
	}
	o.turn = s.Turn
	o.asked = map[int]bool{}
	a := m.receive(o, &msg)
	if msg.Verb == Accept && a.Verdict != OK {
		m.step(o, o.prop.Unsent(s.Turn, &a, m.ms(o)))
		return
	}
	o.sync()
	msg.Exactly = nil
	for _, x := range m.nodes {
		if x == o {
			continue
		}
		o.asked[x.id] = true
		c := msg
		if o.ride != 0 && msg.Verb == Accept {
			c.Decided = o.ride
		}
		m.send(packet{from: o.id, to: x.id, prop: o.prop, turn: s.Turn, msg: &c})
	}
	m.step(o, o.prop.Answer(s.Turn, o.id, false, a, m.ms(o)))
}

// rename is a bug: the proposal gets the next dot of the node's own actor.
func (m *model) rename(o *owner, msg *Message) {
	d := msg.Proposal.Dot
	if d.N == uint64(msg.Proposal.Ballot) && o.op != nil && o.prop.intent == toWrite {
		o.disk.count++
		n := crdt.Dot{Actor: o.actor, N: o.disk.count}
		v := *msg.Proposal.Record.Find(d)
		rest := crdt.Without(msg.Proposal.Record, []crdt.Dot{d})
		v.Dot = n
		m.truth[n] = m.truth[d]
		o.op.dots = append(o.op.dots, n)
		msg.Proposal.Dot, msg.Proposal.Record = n, crdt.Join(rest, crdt.Record{Versions: []crdt.Version{v}})
		o.prop.proposal, o.prop.mine[len(o.prop.mine)-1] = msg.Proposal, n
	}
}

// receive is an acceptor.
func (m *model) receive(o *owner, msg *Message) Answer {
	d := &o.disk
	was := d.state
	if msg.Decided != 0 {
		st, p, _ := d.state.Commit(msg.Decided)
		d.state = st
		if p != nil {
			d.rec = crdt.Join(d.rec, m.timely(p.Record))
			if !p.ID.IsZero() && !p.NoOp() {
				d.note(p.ID, Carried{Version: p.Dot})
			}
		}
	}
	var carried Carried
	unsure := false
	if id := msg.Proposal.ID; !id.IsZero() {
		carried = d.notes[id]
		made, _ := id.MadeAt()
		unsure = made <= d.memory
	}
	var v Verdict
	switch msg.Verb {
	case Prepare:
		d.state, v = d.state.Prepare(msg.Ballot, d.min)
	case Accept:
		c := *msg
		c.Unprepared = c.Unprepared && !m.opt.bugs.assume
		if c.Noted = carried; m.opt.bugs.noKnown {
			c.Noted, c.Proposal.ID = Carried{}, crdt.RequestID{}
		}
		d.state, v = d.state.Accept(&c, d.rec, d.min)
		if v == Changed {
			m.stats.changed++
		}
		if v == OK && m.opt.bugs.joinAccepted {
			d.rec = crdt.Join(d.rec, msg.Proposal.Record)
		}
	case Commit:
		v = OK
		if d.state.Committed < msg.Decided {
			v = Missed
		}
	}
	if msg.Verb == Accept && v == OK && msg.Proposal.NoOp() && !msg.Proposal.ID.IsZero() && d.notes[msg.Proposal.ID].IsZero() {
		d.note(msg.Proposal.ID, Carried{Ended: true})
	}
	m.keep(d, was)
	a := d.state.Show(v, d.min, d.rec)
	if msg.Verb == Prepare {
		a.Carried, a.Unsure = carried, unsure
	}
	return a
}

// plain mints a write that knows of no proposal.
func (m *model) plain(o *owner) {
	op := &modelOp{id: m.tick(), kind: "plain", call: m.tick(), open: true}
	m.ops = append(m.ops, op)
	var past crdt.VV
	from := m.pick().disk.rec
	if m.chance(600) {
		past = from.Context().Seen
	}
	o.disk.count++
	d := crdt.Dot{Actor: o.actor, N: o.disk.count}
	m.saw(d, crdt.Join(from, o.disk.rec), past)
	rec := crdt.Write(o.disk.rec, past, crdt.Version{Dot: d, Stamp: hlc.Stamp(op.id), Dead: m.chance(150)})
	if m.opt.bugs.nodeDots {
		// A minter's own event is dense: it has seen all before of its own.
		for i := range rec.Versions {
			if v := &rec.Versions[i]; v.Dot == d && len(past) > 0 {
				v.Past = past
			}
		}
	}
	m.joined(o, rec)
	o.sync()
	op.version, op.at = d, map[int]bool{o.id: true}
	m.say("%d: n%d plain op %d: %v past %v", op.call, o.id, op.id, d, past)
	for _, x := range m.nodes {
		if x != o {
			r := o.disk.rec
			m.send(packet{from: o.id, to: x.id, apply: &r, plain: op})
		}
	}
}

func (m *model) joined(o *owner, r crdt.Record) {
	was := o.disk.state
	o.disk.rec = crdt.Join(o.disk.rec, m.timely(r))
	o.disk.state = was.Learned(o.disk.rec)
	m.keep(&o.disk, was)
}

// keep notes what is not held any more.
func (m *model) keep(d *disk, was State) {
	p, fate := was.Carried(d.state, d.rec)
	if fate != Open && !m.opt.bugs.noNotes {
		d.note(p.ID, Carried{Version: p.Dot, Doubt: fate == Doubtful && !m.opt.bugs.noDoubts})
	}
}

// deliver one packet.
func (m *model) deliver(p packet) {
	o := m.nodes[p.to]
	switch {
	case p.apply != nil:
		m.joined(o, *p.apply)
		o.sync()
		if p.plain != nil {
			if p.plain.at[o.id] = true; len(p.plain.at) >= m.need() && p.plain.open {
				p.plain.open, p.plain.ret = false, m.tick()
				m.stats.plainAck++
				m.say("%d: plain op %d is acknowledged", p.plain.ret, p.plain.id)
			}
		}
	case p.msg != nil:
		a := m.receive(o, p.msg)
		o.sync()
		if p.msg.Verb == Commit && a.Verdict == Missed {
			r := m.nodes[p.from].durable.rec
			m.send(packet{from: p.from, to: p.to, apply: &r})
			return
		}
		m.send(packet{from: p.to, to: p.from, prop: p.prop, turn: p.turn, answer: &a})
	case p.answer != nil:
		if o.op != nil && o.prop == p.prop && o.turn == p.turn && o.asked[p.from] {
			m.step(o, o.prop.Answer(p.turn, p.from, false, *p.answer, m.ms(o)))
		}
	default:
		m.deliverRTW(o, p)
	}
}
