package node

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/crdt/hlc"
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
		var read []offset
		for _, d := range c.offsets {
			read = append(read, offset{d, d})
		}
		if got := typical(read, offset.sure); got != c.want {
			t.Errorf("typical(%v) = %v, want %v", c.offsets, got, c.want)
		}
	}
}

// A peer whose answer waits for a processor, here or there, does not make a clock look
// wrong that is right; and one that is wrong is found all the same.
func TestSlowAnswersAreNoSkew(t *testing.T) {
	const ms = time.Millisecond
	type trip struct{ there, back time.Duration }
	for _, c := range []struct {
		name  string
		ahead time.Duration // the peer's clock
		trips []trip        // of the readings, the last one again and again
		off   bool
	}{
		{"quick", 0, []trip{{1 * ms, 1 * ms}}, false},
		{"the answer is slow", 0, []trip{{1 * ms, 600 * ms}}, false},
		{"the request is slow", 0, []trip{{600 * ms, 1 * ms}}, false},
		{"both are slow", 0, []trip{{450 * ms, 450 * ms}}, false},
		{"ahead", 300 * ms, []trip{{1 * ms, 1 * ms}}, true},
		{"behind", -300 * ms, []trip{{1 * ms, 1 * ms}}, true},
		{"ahead, and one answer is slow", 300 * ms, []trip{{1 * ms, 600 * ms}, {2 * ms, 2 * ms}}, true},
		{"behind, and some requests are slow", -300 * ms, []trip{{600 * ms, 1 * ms}, {600 * ms, 1 * ms}, {2 * ms, 2 * ms}}, true},
		{"far ahead, and all answers are slow", 900 * ms, []trip{{1 * ms, 600 * ms}}, true},
		{"far behind, and all requests are slow", -900 * ms, []trip{{600 * ms, 1 * ms}}, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			i := 0
			o, ok := compare(func() int64 { return time.Now().UnixMilli() }, func() (int64, bool) {
				way := c.trips[min(i, len(c.trips)-1)]
				i++
				time.Sleep(way.there)
				at := time.Now().Add(c.ahead).UnixMilli()
				time.Sleep(way.back)
				return at, true
			})
			if off := o.sure().Abs() > hlc.MaxAhead; !ok || off != c.off || o.least > c.ahead || o.most < c.ahead {
				t.Errorf("%s: off %v by %v, between %v and %v", c.name, off, o.sure(), o.least, o.most)
			}
		})
	}
}

// A clock that is set between two readings is what the later one says.
func TestReadingsThatContradict(t *testing.T) {
	if got := (offset{0, 100}).and(offset{400, 500}); got != (offset{400, 500}) {
		t.Error(got)
	}
	if got := (offset{0, 100}).and(offset{50, 500}); got != (offset{50, 100}) {
		t.Error(got)
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
