package nodetest

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/atolldb/atoll/crdt"
)

// A home that was moved by force may have decided on while another one did already: then
// operations on a key are not linearizable as a whole, and not promised to be. What each
// home has decided in its epoch is. The name of a version tells home and epoch (its
// actor) and its place in the order of decisions there (its number); a read tells
// nothing of the kind, so writes alone are judged:
//
//	E1  A write that had been answered before another one of its epoch was asked for
//	    comes before it.
//	E2  A write on condition of a version comes right after that one.
//	E3  A write on condition that there is none does not come right after one that
//	    wrote a value, unless somebody may have deleted it.

// epochs judges the writes on one key; judged is how many there were to be judged.
func (k *serialKey) epochs() (problems []string, judged int) {
	byEpoch := map[crdt.Actor][]*serialOp{}
	wrote := map[string]*serialOp{}
	for _, op := range k.ops {
		if op.read || op.outcome != serialDone || op.dot.IsZero() {
			continue
		}
		byEpoch[op.dot.Actor] = append(byEpoch[op.dot.Actor], op)
		if op.value != "" {
			wrote[op.value] = op
		}
	}
	found := func(format string, args ...any) {
		problems = append(problems, fmt.Sprintf("L2: "+format+":\n%s", append(args, k.tell())...))
	}
	for actor, ops := range byEpoch {
		slices.SortFunc(ops, func(a, b *serialOp) int { return cmp.Compare(a.dot.N, b.dot.N) })
		judged += len(ops)
		latest := ops[0] // of those so far the one that was asked for last
		for i, op := range ops {
			if op.ret < latest.call {
				found("in the epoch %v of %s %v is decided before %v, which was asked for after it had been answered", actor, k.name, latest.dot, op.dot)
			}
			if op.call > latest.call {
				latest = op
			}
			if i == 0 {
				continue
			}
			before := ops[i-1]
			switch seen := wrote[op.expect]; {
			case op.expect != "" && seen != nil && seen.dot.Actor == actor && seen != before:
				found("in the epoch %v of %s %v is decided on condition of %v, and %v came between", actor, k.name, op.dot, seen.dot, before.dot)
			case op.absent && before.value != "" && !k.mayDelete(op):
				found("in the epoch %v of %s %v is decided on condition that there is nothing, and %v is there", actor, k.name, op.dot, before.dot)
			}
		}
	}
	return problems, judged
}

// mayDelete reports whether somebody may have deleted before op was answered.
func (k *serialKey) mayDelete(op *serialOp) bool {
	return slices.ContainsFunc(k.ops, func(other *serialOp) bool {
		return !other.read && other.value == "" && other.call < op.ret && other.outcome != serialNothing && other.outcome != serialFailed
	})
}
