package cas

import (
	"fmt"
	"maps"
	"slices"

	"github.com/atolldb/atoll/crdt"
)

// Operations of the model: what is asked, what is known of it, what its outcome says.

// saw notes what the writer of d, on top of cur with that past, has truly seen.
func (m *model) saw(d crdt.Dot, cur crdt.Record, past crdt.VV) {
	seen := map[crdt.Dot]bool{}
	for i := range cur.Versions {
		u := cur.Versions[i].Dot
		if past.Covers(u) {
			seen[u] = true
			for x := range m.truth[u] {
				seen[x] = true
			}
		}
	}
	for u := range m.collected {
		seen[u] = true
	}
	m.truth[d] = seen
}

func exactly(d crdt.Dot) func(crdt.Record) bool {
	return func(cur crdt.Record) bool {
		v := crdt.Read(cur, crdt.MV, 0)
		return len(v.Live) == 1 && v.Live[0].Dot == d
	}
}

func absent(cur crdt.Record) bool { return len(crdt.Read(cur, crdt.MV, 0).Live) == 0 }

// op draws an operation for a node.
func (m *model) newOp(o *owner) (*modelOp, *Op) {
	if len(m.begun) > 0 && m.chance(500) {
		return m.again()
	}
	op := &modelOp{id: m.tick(), call: m.tick(), open: true, made: m.now}
	m.ops = append(m.ops, op)
	// One register, whether a region decides for itself or as somebody's home.
	do := &Op{Actor: crdt.BallotActor(ballotRegion, uint32(m.rng.IntN(3)))}
	live := crdt.Read(m.pick().disk.rec, crdt.MV, 0).Live
	switch k := m.rng.IntN(10); {
	case k < 2:
		op.kind = "read"
		return op, do
	case k < 4:
		op.kind, do.Holds = "if-absent", absent
	case k < 8 && len(live) > 0:
		op.expect = live[m.rng.IntN(len(live))].Dot
		op.kind, do.Holds = "if-version", exactly(op.expect)
	case k == 8:
		op.kind = "delete"
	default:
		op.kind = "put"
	}
	if !m.chance(200) {
		op.request = crdt.MakeRequestID(m.now, [10]byte{byte(op.id), byte(op.id >> 8)})
		do.ID = op.request
	}
	op.retry = do
	do.Write = func(cur crdt.Record, dot crdt.Dot) (crdt.Version, crdt.VV) {
		past := cur.Context().Seen
		if !slices.Contains(op.dots, dot) {
			op.dots = append(op.dots, dot)
			m.saw(dot, cur, past)
		}
		return crdt.Version{Dead: op.kind == "delete", Stamp: cur.MaxStamp() + 1, Value: fmt.Appendf(nil, "%d", op.id)}, past
	}
	return op, do
}

// again is a retry of an operation of unknown outcome.
func (m *model) again() (*modelOp, *Op) {
	i := m.rng.IntN(len(m.begun))
	was := m.begun[i]
	op := &modelOp{id: m.tick(), kind: was.kind, call: was.call, open: true, expect: was.expect, request: was.request, made: was.made, first: was}
	m.ops = append(m.ops, op)
	m.stats.retries++
	do := *was.retry
	do.Retry = true
	do.Write = func(cur crdt.Record, dot crdt.Dot) (crdt.Version, crdt.VV) {
		if !slices.Contains(op.dots, dot) {
			op.dots = append(op.dots, dot)
		}
		return was.retry.Write(cur, dot)
	}
	return op, &do
}

// joins notes which versions of requests are anywhere.
func (m *model) joins(p *Proposal) {
	if p.ID.IsZero() || p.NoOp() {
		return
	}
	if m.shown[p.ID] == nil {
		m.shown[p.ID] = map[crdt.Dot]bool{}
	}
	if m.shown[p.ID][p.Dot] = true; len(m.shown[p.ID]) > 1 {
		m.twice = fmt.Errorf("twice: request %v was carried out by %v", p.ID, slices.Collect(maps.Keys(m.shown[p.ID])))
	}
}

func (m *model) begin(o *owner) {
	op, do := m.newOp(o)
	o.op = op
	m.say("%d: n%d begins op %d %s %v", op.call, o.id, op.id, op.kind, op.expect)
	if m.opt.bugs.readThenWrite {
		m.beginRTW(o, do)
		return
	}
	m.step(o, o.prop.Begin(do, m.row(), m.ms(o)))
}

func (m *model) end(op *modelOp, out Outcome) {
	op.outcome, op.ret, op.open = out, m.tick(), false
	m.say("%d: op %d %s: %d %v %v", op.ret, op.id, op.kind, out.Result, out.Version, dots(out.Record))
	switch {
	case out.Result == Unknown:
		op.ret, op.dead = 0, true
		m.stats.unknown++
		m.mayRetry(op)
	case op.first != nil && out.Result == Refused: // of the attempt, not of the request
		op.ret, op.dead = 0, true
	case out.Carried != nil:
		m.stats.replays++
		m.forget(op)
	case out.Result == Done && op.kind == "read":
		m.stats.reads++
	case out.Result == Done:
		m.stats.done++
		m.forget(op)
	case out.Result == Failed:
		m.stats.failed++
		m.forget(op)
	default:
		m.stats.refused++
	}
}

func dots(r crdt.Record) (out []crdt.Dot) {
	for i := range r.Versions {
		out = append(out, r.Versions[i].Dot)
	}
	return out
}

// mayRetry has an operation with an id be tried again.
func (m *model) mayRetry(op *modelOp) {
	if op.first == nil && !op.request.IsZero() {
		m.begun = append(m.begun, op)
	}
}

// forget ends the retries of a request of which the outcome is known.
func (m *model) forget(op *modelOp) {
	m.begun = slices.DeleteFunc(m.begun, func(x *modelOp) bool { return x == op.first })
}
