package cas

import (
	"slices"

	"github.com/atolldb/atoll/crdt"
)

// Rounds that end the states of acceptors, and with them records that are dead.

// round is one in the model.
type round struct {
	floor  Ballot
	raised map[int]bool
	ended  map[int]bool // who has deleted its state
}

// rounds takes a step of a round.
func (m *model) rounds() {
	r := m.round
	switch {
	case r == nil || len(r.ended) == len(m.nodes):
		m.round = &round{floor: At(m.now + int64(m.dice.IntN(300)) - 50), raised: map[int]bool{}, ended: map[int]bool{}}
	case len(r.raised) < len(m.nodes):
		o := m.other(r.raised)
		if o.disk.state.Pending() && o.disk.state.Accepted.Ballot < r.floor {
			m.round = nil
			return
		}
		if r.raised[o.id] = true; !m.opt.bugs.spendPromises {
			o.disk.min = max(o.disk.min, r.floor)
		}
		o.sync()
	default:
		if len(r.ended) == 0 {
			m.collect()
		}
		o := m.other(r.ended)
		if r.ended[o.id] = true; o.disk.state.Spent(r.floor) {
			m.say("n%d ends its state %+v below %x", o.id, o.disk.state, r.floor)
			o.disk.state = State{}
			m.stats.spent++
		}
		o.sync()
	}
}

// timely is a record without what was collected: the rule for late messages.
func (m *model) timely(r crdt.Record) crdt.Record {
	if len(m.collected) == 0 {
		return r
	}
	return crdt.Without(r, slices.DeleteFunc(dots(r), func(d crdt.Dot) bool { return m.collected[d] == 0 }))
}

// collect drops a record that is dead wherever it is, as rounds do when everybody has
// all of it.
func (m *model) collect() {
	var rec crdt.Record
	for _, o := range m.nodes {
		if rec = crdt.Join(rec, o.disk.rec); o.op != nil {
			return
		}
	}
	if !absent(rec) || len(rec.Versions) == 0 || Ballot(rec.MaxBallot(ballotRegion)) >= m.round.floor {
		return
	}
	for _, o := range m.nodes {
		m.joined(o, rec)
	}
	m.net = slices.DeleteFunc(m.net, func(p packet) bool { return p.apply != nil })
	at := m.tick()
	for i := range rec.Versions {
		d := rec.Versions[i].Dot
		m.collected[d] = at
		for x := range m.truth[d] {
			m.collected[x] = at
		}
	}
	for _, o := range m.nodes {
		o.disk.rec = crdt.Record{}
		o.sync()
	}
	m.stats.collected++
	m.say("%d: the record is collected", at)
}

// other is an owner that is not among those.
func (m *model) other(than map[int]bool) *owner {
	for {
		if o := m.nodes[m.dice.IntN(len(m.nodes))]; !than[o.id] {
			return o
		}
	}
}
