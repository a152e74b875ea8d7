package cas

import (
	"fmt"
	"maps"
	"slices"

	"github.com/atolldb/atoll/crdt"
)

// phantoms: what was said never to be written is nowhere.
func (m *model) phantoms() error {
	if m.twice != nil {
		return m.twice
	}
	for d := range m.collected {
		for _, o := range m.nodes {
			if v := o.disk.rec.Find(d); v != nil && !v.Dead && d.Actor.IsBallot() {
				return fmt.Errorf("resurrected: %v is at n%d, and was collected", d, o.id)
			}
		}
	}
	for _, op := range m.ops {
		if op.first != nil && !op.open && op.outcome.Result == Failed && len(m.shown[op.request]) > 0 {
			return fmt.Errorf("phantom: %v of the request of op %d, of which a retry had failed", slices.Collect(maps.Keys(m.shown[op.request])), op.id)
		}
		if op.open || op.dead || op.outcome.Result != Failed && op.outcome.Result != Refused {
			continue
		}
		for _, o := range m.nodes {
			for _, d := range op.dots {
				if o.disk.rec.Find(d) != nil {
					return fmt.Errorf("phantom: %v of op %d, which had failed, is at n%d", d, op.id, o.id)
				}
			}
		}
	}
	return nil
}

// accounts reports whether r, which was read before that time, shows d or what has
// truly seen it, or d was collected before.
func (m *model) accounts(r crdt.Record, d crdt.Dot, before int) bool {
	if at := m.collected[d]; at != 0 && at < before {
		return true
	}
	for i := range r.Versions {
		if u := r.Versions[i].Dot; u == d || m.truth[u][d] {
			return true
		}
	}
	return false
}

// acked is the version that an operation was told to have written.
func (op *modelOp) acked() (crdt.Dot, bool) {
	switch {
	case op.open || op.dead:
		return crdt.Dot{}, false
	case op.kind == "plain":
		return op.version, true
	case op.kind == "read" || op.outcome.Result != Done:
		return crdt.Dot{}, false
	}
	return op.outcome.Version, true
}

func (m *model) check() error {
	var all crdt.Record
	for _, o := range m.nodes {
		all = crdt.Join(all, o.disk.rec)
	}
	for _, a := range m.ops {
		d, ok := a.acked()
		if !ok {
			continue
		}
		if !m.accounts(all, d, m.tick()) {
			return fmt.Errorf("lost: %v of op %d was acknowledged", d, a.id)
		}
		for _, b := range m.ops {
			if b == a || b.open || b.dead || b.kind == "plain" || b.outcome.Result == Refused {
				continue
			}
			e, wrote := b.acked()
			if wrote && d == e { // two attempts of one request
				continue
			}
			if wrote && a.kind != "plain" && !m.truth[d][e] && !m.truth[e][d] {
				return fmt.Errorf("fork: %v of op %d and %v of op %d", d, a.id, e, b.id)
			}
			if b.call < a.ret {
				continue
			}
			if wrote && !m.truth[e][d] && (a.kind != "plain" || b.direct) {
				return fmt.Errorf("order: op %d (%v) began after op %d (%v) had ended, and has not seen it", b.id, e, a.id, d)
			}
			if !wrote && !m.accounts(b.outcome.Record, d, b.ret) {
				return fmt.Errorf("stale: op %d %s began after op %d (%v) had ended, and does not show it", b.id, b.kind, a.id, d)
			}
		}
	}
	return nil
}

// A quorum read and a versioned write to a quorum, as a bug.
func (m *model) beginRTW(o *owner, do *Op) {
	o.turn++
	o.phase, o.acks, o.replies = 1, 1, []crdt.Record{o.disk.rec}
	for _, x := range m.nodes {
		if x != o {
			m.send(packet{from: o.id, to: x.id, read: true, turn: o.turn})
		}
	}
	o.prop.op = do
}

func (m *model) deliverRTW(o *owner, p packet) {
	switch {
	case p.read:
		r := o.disk.rec
		m.send(packet{from: p.to, to: p.from, write: &r, gen: 1, turn: p.turn})
	case p.write != nil && p.gen == 0:
		m.joined(o, *p.write)
		o.sync()
		m.send(packet{from: p.to, to: p.from, gen: 2, turn: p.turn})
	case p.gen == 1 && o.op != nil && o.phase == 1 && o.turn == p.turn:
		if o.replies = append(o.replies, *p.write); len(o.replies) < m.need() {
			return
		}
		m.judgeRTW(o)
	case p.gen == 2 && o.op != nil && o.phase == 2 && o.turn == p.turn:
		if o.acks++; o.acks == m.need() {
			op, d := o.op, o.op.dots[len(o.op.dots)-1]
			o.op, o.prop.op = nil, nil
			m.end(op, Outcome{Result: Done, Version: d, Record: o.disk.rec})
		}
	}
}

func (m *model) judgeRTW(o *owner) {
	var cur crdt.Record
	for _, r := range o.replies {
		cur = crdt.Join(cur, r)
	}
	do, op := o.prop.op, o.op
	if do.Write == nil || do.Holds != nil && !do.Holds(cur) {
		out := Outcome{Result: Done, Record: cur}
		if do.Write != nil {
			out.Result = Failed
		}
		o.op, o.prop.op = nil, nil
		m.end(op, out)
		return
	}
	o.disk.count++
	dot := crdt.Dot{Actor: o.actor, N: o.disk.count}
	v, past := do.Write(cur, dot)
	v.Dot = dot
	r := crdt.Write(cur, past, v)
	m.joined(o, r)
	o.sync()
	o.phase, o.acks = 2, 1
	for _, x := range m.nodes {
		if x != o {
			m.send(packet{from: o.id, to: x.id, write: &r, turn: o.turn})
		}
	}
}
