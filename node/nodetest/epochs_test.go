package nodetest

import (
	"strings"
	"testing"
	"time"

	"github.com/atolldb/atoll/crdt"
)

// Planted histories: what breaks the order in one epoch is found, and what two homes did
// at the same time is not held against them.
func TestEpochs(t *testing.T) {
	eu, us := crdt.BallotActor(1, 1), crdt.BallotActor(2, 2)
	at := func(s int) time.Duration { return time.Duration(s) * time.Second }
	write := func(a crdt.Actor, n uint64, call, ret int, value string) *serialOp {
		return &serialOp{call: at(call), ret: at(ret), value: value, outcome: serialDone, dot: crdt.Dot{Actor: a, N: n}}
	}
	after := func(op *serialOp, expect string) *serialOp { op.expect = expect; return op }
	absent := func(op *serialOp) *serialOp { op.absent = true; return op }
	as := func(op *serialOp, out serialOutcome) *serialOp { op.outcome = out; return op }
	for _, c := range []struct {
		what, want string
		ops        []*serialOp
	}{
		{"in order", "", []*serialOp{write(eu, 1, 1, 2, "a"), after(write(eu, 2, 3, 4, "b"), "a"), write(eu, 3, 3, 9, "c"), after(write(eu, 4, 5, 9, "d"), "c")}},
		{"two homes", "", []*serialOp{write(eu, 1, 1, 2, "a"), after(write(eu, 7, 3, 4, "b"), "a"), after(write(us, 2, 8, 9, "c"), "a"), absent(write(us, 3, 5, 9, "")), write(eu, 9, 10, 11, "e")}},
		{"backwards", "decided before", []*serialOp{write(eu, 2, 1, 2, "a"), write(eu, 1, 3, 4, "b")}},
		{"backwards, far apart", "decided before", []*serialOp{write(eu, 9, 1, 2, "a"), write(eu, 1, 5, 6, "b"), write(eu, 4, 1, 7, "c")}},
		{"backwards elsewhere", "", []*serialOp{write(eu, 2, 1, 2, "a"), write(us, 1, 3, 4, "b")}},
		{"one version twice", "came between", []*serialOp{write(eu, 1, 1, 2, "a"), after(write(eu, 2, 3, 9, "b"), "a"), after(write(eu, 3, 3, 9, "c"), "a")}},
		{"of the epoch before", "", []*serialOp{write(eu, 1, 1, 2, "a"), write(us, 5, 3, 9, "b"), after(write(us, 6, 3, 9, "c"), "a")}},
		{"absent, and there", "is there", []*serialOp{write(eu, 1, 1, 2, "a"), absent(write(eu, 2, 3, 4, "b"))}},
		{"absent, deleted", "", []*serialOp{write(eu, 1, 1, 2, "a"), as(write(eu, 0, 2, 3, ""), serialOpen), absent(write(eu, 2, 3, 4, "b"))}},
		{"absent, deleted later", "is there", []*serialOp{write(eu, 1, 1, 2, "a"), absent(write(eu, 2, 3, 4, "b")), as(write(eu, 0, 5, 6, ""), serialOpen)}},
		{"absent, not deleted", "is there", []*serialOp{write(eu, 1, 1, 2, "a"), as(write(eu, 0, 2, 3, ""), serialNothing), absent(write(eu, 2, 3, 4, "b"))}},
	} {
		k := &serialKey{name: c.what, ops: c.ops}
		problems, _ := k.epochs()
		got := strings.Join(problems, "\n")
		if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: found %q, not %q", c.what, got, c.want)
		}
	}
}
