package node

import (
	"slices"
	"testing"
	"time"

	"github.com/atolldb/atoll/node/topology"
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

func TestSkewIsComparedWithTheNextPeers(t *testing.T) {
	members := []topology.Member{{ID: "a"}, {ID: "b"}, {ID: "c"}, {ID: "d"}}
	for self, want := range map[topology.NodeID][]topology.NodeID{
		"a": {"b", "c", "d"}, "c": {"d", "a", "b"}, "d": {"a", "b", "c"}, "not a member": {"a", "b", "c", "d"},
	} {
		if got := after(members, self); !slices.Equal(got, want) {
			t.Errorf("after %s: %v, want %v", self, got, want)
		}
	}
}
