package cas

import (
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/atolldb/atoll/crdt"
)

// register is the sequential meaning of the operations on one key without plain
// writes: at most one live version. An operation whose outcome is not known may
// have had its effect at any time, or never.
type registerOutput struct {
	unknown bool
	result  Result
	wrote   crdt.Dot
	live    crdt.Dot // what a read, or a failed write, showed
}

var register = porcupine.NondeterministicModel{
	Init: func() []any { return []any{crdt.Dot{}} },
	Step: func(state, input, output any) []any {
		cur, op, out := state.(crdt.Dot), input.(*modelOp), output.(registerOutput)
		holds := op.kind == "put" || op.kind == "delete" ||
			op.kind == "if-absent" && cur.IsZero() || op.kind == "if-version" && cur == op.expect
		if out.unknown {
			next := []any{cur}
			for _, d := range op.dots {
				switch {
				case !holds || op.kind == "read":
				case op.kind == "delete":
					next = append(next, crdt.Dot{})
				default:
					next = append(next, d)
				}
			}
			return next
		}
		switch {
		case out.result == Refused:
			return []any{cur}
		case op.kind == "read":
			if out.live == cur {
				return []any{cur}
			}
		case out.result == Failed:
			if !holds && out.live == cur {
				return []any{cur}
			}
		case holds && op.kind == "delete":
			return []any{crdt.Dot{}}
		case holds:
			return []any{out.wrote}
		}
		return nil
	},
	Equal: func(a, b any) bool { return a == b },
}

func live(r crdt.Record) crdt.Dot {
	for i := range r.Versions {
		if !r.Versions[i].Dead {
			return r.Versions[i].Dot
		}
	}
	return crdt.Dot{}
}

func (m *model) events() []porcupine.Operation {
	var out []porcupine.Operation
	for i, op := range m.ops {
		o := registerOutput{unknown: op.open || op.dead, result: op.outcome.Result, wrote: op.outcome.Version, live: live(op.outcome.Record)}
		ret := int64(op.ret)
		if o.unknown {
			ret = int64(1)<<40 + int64(i)
		}
		out = append(out, porcupine.Operation{ClientId: i, Input: op, Call: int64(op.call), Output: o, Return: ret})
	}
	return out
}

func TestLinearizable(t *testing.T) {
	n, ops := histories(t, 300), 0
	for seed := *flagSeed; seed < *flagSeed+uint64(n); seed++ {
		m := newModel(modelOptions{nodes: 3 + int(seed%2)*2}, seed)
		if err := m.run(modelSteps); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		ops += len(m.ops)
		model := register.ToModel()
		if res := porcupine.CheckOperationsTimeout(model, m.events(), 20*time.Second); res != porcupine.Ok {
			t.Fatalf("seed %d: %v", seed, res)
		}
	}
	t.Logf("%d histories, %d operations", n, ops)
	caught := 0
	for seed := range uint64(200) {
		m := newModel(modelOptions{nodes: 3, bugs: bugs{readThenWrite: true}}, seed)
		_ = m.run(modelSteps)
		model := register.ToModel()
		if porcupine.CheckOperationsTimeout(model, m.events(), 20*time.Second) != porcupine.Ok {
			caught++
		}
	}
	if caught == 0 {
		t.Error("a read and then a write passes for linearizable")
	}
	t.Logf("read and then write: %d of 200 histories are not linearizable", caught)
}
