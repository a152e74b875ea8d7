package nodetest

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

// What the deciders of a World did is judged by porcupine, key by key. It tries
// orders until one fits; what helps it to find one soon, or to see that there is none,
// is to be told early where an operation of unknown outcome can stand at all.

// register is what the operations mean one after the other: at most one value.
// An operation of unknown outcome may take effect at any time after its call,
// also after everything else.
var register = porcupine.Model{
	Init: func() any { return "" },
	Step: func(state, input, _ any) (bool, any) {
		cur, op := state.(string), input.(*serialOp)
		holds := !(op.absent && cur != "") && !(op.expect != "" && cur != op.expect)
		switch {
		case op.read:
			return op.saw == cur, cur
		case op.outcome == serialFailed:
			return !holds && op.saw == cur, cur
		case op.outcome == serialDone && !holds:
			return false, cur
		case !holds:
			return true, cur
		}
		return true, op.value
	},
}

// tell lists the operations in the order of their calls.
func (k *serialKey) tell() string {
	var b strings.Builder
	for _, op := range slices.SortedFunc(slices.Values(k.ops), func(a, b *serialOp) int { return cmp.Compare(a.call, b.call) }) {
		what := "write " + strconv.Quote(op.value)
		switch {
		case op.read:
			what = "read"
		case op.absent:
			what += " if absent"
		case op.expect != "":
			what += " if " + strconv.Quote(op.expect)
		}
		fmt.Fprintf(&b, "  c%d %v - %v %s: %s, saw %q\n", op.who, op.call, op.ret, what, [...]string{"unknown", "done", "condition failed", "not applied"}[op.outcome], op.saw)
		if op.outcome == serialOpen || op.outcome == serialNothing || len(op.tries) > 1 {
			for _, try := range op.tries {
				fmt.Fprintf(&b, "      %s\n", try)
			}
		}
	}
	return b.String()
}

// fuel is how many steps the checker may take for one key, before the key counts as
// undecided: some ten seconds. The clock is no measure, for it is the World's.
const fuel = 20_000_000

// checkSerial judges operations on one key; ops is how many of them there are to be
// judged.
func checkSerial(all []*serialOp) (verdict porcupine.CheckResult, ops int) {
	var spans []span
	for _, op := range all {
		if ret, counts := bound(op, all); counts {
			spans = append(spans, span{op, op.call, ret})
		}
	}
	if !narrow(spans) {
		return porcupine.Illegal, len(spans)
	}
	var h []porcupine.Operation
	for _, s := range spans {
		h = append(h, porcupine.Operation{ClientId: s.op.who, Input: s.op, Call: int64(s.call), Return: int64(s.ret)})
	}
	steps := 0
	verdict = porcupine.CheckOperationsTimeout(counted(spans, &steps), h, 0)
	if steps > fuel {
		verdict = porcupine.Unknown
	}
	return verdict, len(h)
}

// present is what is there, and how many operations are still to meet it: no other
// value can come before they have.
type present struct {
	value string
	left  int
}

// unseen stands for all values that nobody meets.
const unseen = "-"

// counted is register for these operations, with what its state says besides.
func counted(spans []span, steps *int) porcupine.Model {
	met := map[string]int{}
	for _, s := range spans {
		if op := s.op; op.outcome == serialFailed || op.read {
			met[op.saw]++
		} else if op.outcome == serialDone && op.expect != "" {
			met[op.expect]++
		} else if op.expect != "" {
			met[op.expect] += 0
		}
	}
	return porcupine.Model{
		Init: func() any { return present{} },
		Step: func(state, input, output any) (bool, any) {
			if *steps++; *steps > fuel {
				return false, state
			}
			cur, op := state.(present), input.(*serialOp)
			ok, next := register.Step(cur.value, input, output)
			value := next.(string)
			switch {
			case !ok:
				return false, state
			case cur.value == "" && value == "":
				return true, cur
			case op.read, op.outcome == serialFailed:
				return true, present{cur.value, cur.left - 1}
			case op.outcome == serialOpen && value == cur.value:
				return true, cur
			case op.outcome == serialDone && op.expect != "":
				cur.left--
			}
			if cur.left > 0 {
				return false, state
			}
			if _, seen := met[value]; !seen && value != "" {
				value = unseen
			}
			if value == "" {
				return true, present{}
			}
			return true, present{value, met[value]}
		},
	}
}

// bound is the latest time at which an operation can have had its effect, and
// whether it had one that has to be placed. Of unknown outcome, a write whose value
// somebody has seen had it before that one returned; and without a write whose value
// nobody has seen all others fit if they fit with it: only something that replaces
// whatever is there can have come next.
func bound(op *serialOp, all []*serialOp) (ret time.Duration, counts bool) {
	switch {
	case op.outcome == serialNothing, op.read && op.outcome == serialOpen:
		return 0, false
	case op.outcome != serialOpen:
		return op.ret, true
	case op.value == "":
		return never, true
	}
	ret = never
	for _, by := range all {
		switch {
		case by == op, by.outcome == serialNothing:
		case by.outcome == serialOpen && by.expect == op.value:
			counts = true // if that one was carried out, which its own bound tells
		case by.outcome != serialOpen && (by.expect == op.value && by.outcome == serialDone || by.saw == op.value):
			ret, counts = min(ret, by.ret), true
		}
	}
	return ret, counts
}

// never ends what may still happen.
const never = time.Duration(1 << 60)

// linearizable judges all keys of which no disk has taken back what it had
// acknowledged without a sign.
func (w *World) linearizable() (problems []string) {
	for _, name := range w.serial.names() {
		k := w.serial.keys[name]
		switch why := w.doubted(name); {
		case w.lied(name):
			continue
		case why == movedHomes: // each home for itself
			found, ops := k.epochs()
			problems = append(problems, found...)
			w.serial.byEpoch += ops
			continue
		case why != "":
			continue
		}
		problems = append(problems, k.denied()...)
		verdict, ops := checkSerial(k.ops)
		w.serial.judged += ops
		switch verdict {
		case porcupine.Illegal:
			w.serial.illegal++
			problems = append(problems, fmt.Sprintf("L1: the %d operations on %s are not linearizable:\n%s", ops, name, k.tell()))
		case porcupine.Unknown:
			w.serial.undecided++
			problems = append(problems, fmt.Sprintf("L1: the %d operations on %s were not judged:\n%s", ops, name, k.tell()))
		}
	}
	return problems
}

// denied are the values that somebody saw although their writer was told that they
// were not written.
func (k *serialKey) denied() (problems []string) {
	for _, op := range k.ops {
		if op.read || op.value == "" || op.outcome != serialNothing {
			continue
		}
		if slices.ContainsFunc(k.ops, func(other *serialOp) bool { return other.saw == op.value }) {
			problems = append(problems, fmt.Sprintf("L1: %s shows %q, which was reported as not applied:\n%s", k.name, op.value, k.tell()))
		}
	}
	return problems
}

func (b *serialBook) names() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []string
	for name := range b.keys {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}
