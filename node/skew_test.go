package node

import (
	"testing"
	"time"
)

func TestTypicalOffset(t *testing.T) {
	const ms = time.Millisecond
	for _, c := range []struct {
		offsets []time.Duration
		want    time.Duration
	}{
		{nil, 0},
		{[]time.Duration{300 * ms}, 300 * ms},
		{[]time.Duration{300 * ms, 1 * ms}, 1 * ms},        // one peer is off, not we
		{[]time.Duration{300 * ms, 290 * ms}, 290 * ms},    // we are
		{[]time.Duration{-400 * ms, -300 * ms}, -300 * ms}, // the other way
		{[]time.Duration{-400 * ms, 2 * ms, 300 * ms}, 2 * ms},
		{[]time.Duration{5 * ms, 900 * ms, 300 * ms, 310 * ms}, 300 * ms},
	} {
		if got := typical(c.offsets); got != c.want {
			t.Errorf("typical(%v) = %v, want %v", c.offsets, got, c.want)
		}
	}
}
