package nodetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"pgregory.net/rapid"
)

// TestBoundsOfUnknown: a history is linearizable with what checkSerial knows of
// operations of unknown outcome if it is with each of them anywhere after its call.
func TestBoundsOfUnknown(t *testing.T) {
	var legal, illegal int
	rapid.Check(t, func(t *rapid.T) {
		values := []string{""}
		var ops []*serialOp
		for i := range rapid.IntRange(2, 9).Draw(t, "operations") {
			call := time.Duration(rapid.IntRange(0, 12).Draw(t, "call"))
			op := &serialOp{who: i, call: call, ret: call + time.Duration(rapid.IntRange(1, 8).Draw(t, "takes"))}
			switch rapid.IntRange(0, 4).Draw(t, "kind") {
			case 0:
				op.read, op.outcome = true, serialDone
			case 1:
				op.outcome = serialOutcome(rapid.IntRange(0, 1).Draw(t, "outcome")) // deletes
			case 2:
				op.absent = true
				op.outcome = serialOutcome(rapid.IntRange(0, 2).Draw(t, "outcome"))
			case 3:
				op.expect = rapid.SampledFrom(values).Draw(t, "expects")
				op.outcome = serialOutcome(rapid.IntRange(0, 2).Draw(t, "outcome"))
				if op.expect == "" && op.outcome == serialFailed {
					op.outcome = serialDone
				}
			default:
				op.outcome = serialOutcome(rapid.IntRange(0, 1).Draw(t, "outcome"))
			}
			if op.read || op.outcome == serialFailed {
				op.saw = rapid.SampledFrom(values).Draw(t, "saw")
			}
			if !op.read && (op.absent || op.expect != "" || rapid.Bool().Draw(t, "puts")) {
				op.value = fmt.Sprint("v", i)
				values = append(values, op.value)
			}
			ops = append(ops, op)
		}
		var h []porcupine.Operation
		for _, op := range ops {
			ret := op.ret
			if op.outcome == serialOpen {
				ret = never
			}
			h = append(h, porcupine.Operation{ClientId: op.who, Input: op, Call: int64(op.call), Return: int64(ret)})
		}
		want := porcupine.CheckOperationsTimeout(register, h, 0)
		got, _ := checkSerial(ops)
		if got != want {
			t.Fatalf("%v, and %v without the bounds:\n%s", got, want, (&serialKey{ops: ops}).tell())
		}
		if want == porcupine.Ok {
			legal++
		} else {
			illegal++
		}
	})
	t.Logf("%d legal, %d illegal", legal, illegal)
	if legal < 10 || illegal < 10 {
		t.Errorf("%d histories are linearizable and %d are not: too few to tell", legal, illegal)
	}
}
