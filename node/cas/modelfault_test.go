package cas

import (
	"fmt"
	"slices"

	"github.com/atolldb/atoll/crdt"
)

// Time and faults of the model, and its run.

func (m *model) start(o *owner) {
	m.actors++
	o.actor, o.disk = crdt.MakeActor(m.actors, ballotRegion), o.durable
	o.prop = NewProposer(crdt.BallotActor(ballotRegion, 0), uint16(o.id+1))
	o.prop.Break(m.opt.bugs.proposer)
	o.turn, o.waiting, o.asked, o.ride = o.turn+1000, false, nil, 0
	if o.op != nil {
		o.op.dead = true
		m.mayRetry(o.op)
		m.say("n%d forgets op %d", o.id, o.op.id)
	}
	o.op = nil
}

// fault and time.
func (m *model) timeouts(o *owner) {
	if o.op == nil || m.opt.bugs.readThenWrite {
		return
	}
	if o.waiting {
		o.waiting = false
		m.step(o, o.prop.Retry(m.row(), m.ms(o)))
		return
	}
	if m.chance(100) {
		m.step(o, o.prop.Expire())
		return
	}
	turn := o.turn
	for _, x := range m.nodes {
		if o.op != nil && o.turn == turn && o.asked[x.id] && m.chance(500) {
			m.step(o, o.prop.Fail(turn, x.id, false, false, m.ms(o)))
		}
	}
}

func (m *model) wipe(o *owner) {
	m.wiped, m.round = true, nil
	m.stats.wipes++
	m.say("n%d loses everything", o.id)
	o.durable = disk{}
	m.start(o)
	for _, op := range m.ops {
		if op.kind == "plain" && op.open {
			delete(op.at, o.id)
		}
	}
	others := m.rng.Perm(len(m.nodes))
	others = slices.DeleteFunc(others, func(i int) bool { return i == o.id })
	for n, i := range others {
		x := m.nodes[i]
		o.disk.rec = crdt.Join(o.disk.rec, x.durable.rec)
		if n < len(others)/2+1 && !m.opt.bugs.forgetful {
			o.disk.state = o.disk.state.Merge(x.durable.state)
		}
	}
	if !m.opt.bugs.forgetful {
		o.disk.min = At(m.now + 500)
	}
	o.disk.state = o.disk.state.Learned(o.disk.rec)
	o.disk.memory = m.now + 1
	o.sync()
}

func (m *model) run(steps int) error {
	loss := m.rng.IntN(150)
	chaos := m.rng.IntN(20)
	for range steps {
		if m.dice.IntN(1000) < m.opt.rounds {
			m.rounds()
		}
		m.now += int64(m.rng.IntN(3))
		switch k := m.rng.IntN(1000); {
		case k < 700:
			if len(m.net) == 0 {
				if o := m.pick(); o.op == nil {
					m.begin(o)
				}
				continue
			}
			i := m.rng.IntN(len(m.net))
			p := m.net[i]
			if !m.chance(60) { // else it comes twice
				m.net = slices.Delete(m.net, i, i+1)
			}
			if !m.chance(loss) {
				m.deliver(p)
			}
		case k < 800:
			if o := m.pick(); o.op == nil {
				m.begin(o)
			}
		case k < 880:
			m.timeouts(m.pick())
		case k < 900:
			if o := m.pick(); o.ride != 0 && o.op == nil {
				o.sync()
				for _, x := range m.nodes {
					if x != o {
						m.send(packet{from: o.id, to: x.id, msg: &Message{Verb: Commit, Decided: o.ride}})
					}
				}
				o.ride = 0
			}
		case k < 920:
			from, to := m.pick(), m.pick()
			r := from.durable.rec
			m.send(packet{from: from.id, to: to.id, apply: &r})
		case k < 960:
			if m.opt.plain {
				m.plain(m.pick())
			}
		case k < 960+chaos:
			m.stats.crashes++
			o := m.pick()
			m.say("n%d crashes", o.id)
			m.start(o)
		case k > 995 && !m.wiped:
			m.wipe(m.pick())
		}
		if err := m.phantoms(); err != nil {
			return err
		}
	}
	return m.finish()
}

// finish ends the faults, and reads once more.
func (m *model) finish() error {
	m.net = nil
	for _, o := range m.nodes {
		o.sync()
		m.start(o)
	}
	m.now += 2000
	o := m.nodes[0]
	if m.opt.bugs.readThenWrite {
		return m.check()
	}
	op := &modelOp{id: m.tick(), kind: "read", call: m.tick(), open: true}
	m.ops = append(m.ops, op)
	o.op = op
	m.step(o, o.prop.Begin(&Op{}, m.row(), m.ms(o)))
	for range 1000 {
		if !op.open {
			break
		}
		if o.waiting {
			o.waiting = false
			m.step(o, o.prop.Retry(m.row(), m.ms(o)))
		}
		for len(m.net) > 0 {
			p := m.net[0]
			m.net = m.net[1:]
			m.deliver(p)
		}
	}
	if op.open || op.outcome.Result != Done {
		return fmt.Errorf("the last read does not end: %+v", op.outcome)
	}
	for range 2 {
		for _, a := range m.nodes {
			for _, b := range m.nodes {
				m.joined(a, b.disk.rec)
			}
		}
	}
	if err := m.phantoms(); err != nil {
		return err
	}
	return m.check()
}
