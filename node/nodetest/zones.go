package nodetest

import "time"

// Values are unique, so who saw or replaced one says when it was there: from when
// the first operation that met it had returned until the last was called, at least.
// That is its zone (after Gibbons and Korach, Testing Shared Memories, 1997), and
// whatever does not meet that value happened before or after it. This tells where
// most operations stand, and spares the checker nearly all of its search. The absence
// of a value has no zone: it may be there many times.

// span is an operation and when it can have had its effect.
type span struct {
	op        *serialOp
	call, ret time.Duration
}

// meets reports whether the operation wrote, saw or replaced a value.
func (op *serialOp) meets(value string) bool {
	return op.value == value && op.outcome != serialFailed || op.saw == value || op.expect == value && op.outcome == serialDone
}

type zone struct{ from, to time.Duration }

// narrow narrows spans by the zones of all values, and reports false if that leaves
// no order in which they fit.
func narrow(spans []span) bool {
	for {
		zones := map[string]*zone{}
		for i := range spans {
			s := &spans[i]
			for _, v := range [...]string{s.op.value, s.op.saw, s.op.expect} {
				if v == "" || !s.op.meets(v) {
					continue
				}
				z := zones[v]
				if z == nil {
					z = &zone{from: s.ret, to: s.call}
					zones[v] = z
				}
				z.from, z.to = min(z.from, s.ret), max(z.to, s.call)
			}
		}
		changed := false
		for v, z := range zones {
			if z.from >= z.to {
				continue
			}
			for u, y := range zones {
				if u != v && max(z.from, y.from) < min(z.to, y.to) {
					return false
				}
			}
			for i := range spans {
				s := &spans[i]
				if s.op.meets(v) {
					continue
				}
				if z.from < s.call && s.call < z.to {
					s.call, changed = z.to, true
				}
				if z.from < s.ret && s.ret < z.to {
					s.ret, changed = z.from, true
				}
				if s.call > s.ret {
					return false
				}
			}
		}
		if !changed {
			return true
		}
	}
}
