package crdt

import (
	"slices"
	"testing"

	"github.com/atolldb/atoll/crdt/hlc"
	"pgregory.net/rapid"
)

func TestCollectible(t *testing.T) {
	const s = hlc.Stamp(1 << 16) // one millisecond
	floor := 100 * s
	v := func(stamp hlc.Stamp, dead bool, expiry int64) Version {
		return Version{Dot: Dot{64, uint64(stamp)}, Stamp: stamp, Dead: dead, Expiry: expiry}
	}
	for _, c := range []struct {
		name string
		r    Record
		want bool
	}{
		{"absent", Record{}, false},
		{"dead at the floor", Record{[]Version{v(100*s, true, 0)}}, true},
		{"dead above", Record{[]Version{v(100*s+1, true, 0)}}, false},
		{"live below", Record{[]Version{v(1, false, 0)}}, false},
		{"one of two dead", Record{[]Version{v(1, true, 0), v(2, false, 0)}}, false},
		{"two dead, one above", Record{[]Version{v(1, true, 0), v(101*s, true, 0)}}, false},
		{"two dead", Record{[]Version{v(1, true, 0), v(2, true, 0)}}, true},
		{"expired at the floor", Record{[]Version{v(1, false, 100)}}, true},
		{"expires above", Record{[]Version{v(1, false, 101)}}, false},
		{"expired below, written above", Record{[]Version{v(101*s, false, 99)}}, false},
		{"a tombstone has no expiry", Record{[]Version{v(1, true, 101)}}, true},
		{"expiry beyond what a stamp holds", Record{[]Version{v(1, false, 1<<60)}}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := Collectible(c.r, floor); got != c.want {
				t.Fatalf("got %v", got)
			}
		})
	}
}

// What is collectible at a floor shows nothing to a reader of that time or
// later, and stays collectible at every higher floor.
func TestCollectibleIsDeadAndMonotone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := histories.Draw(t, "history").state(t, "state").rec
		floor := hlc.Stamp(rapid.Uint64Range(0, 120<<16).Draw(t, "floor"))
		if !Collectible(r, floor) {
			return
		}
		if view := Read(r, MV, floor.Millis()); len(view.Live) > 0 {
			t.Fatalf("shows %+v", view)
		}
		if at := CollectibleAt(r); at > floor || !Collectible(r, at) || at > 0 && Collectible(r, at-1) {
			t.Fatalf("collectible from %v on, it says", at)
		}
		if !Collectible(r, floor+hlc.Stamp(rapid.Uint64Range(0, 1<<40).Draw(t, "more"))) {
			t.Fatal("collectible, and not at a higher floor")
		}
		if !slices.Equal(Late(r, Record{}, floor), dotsOf(r)) {
			t.Fatal("collectible, and yet not late to an owner that dropped it")
		}
	})
}

func TestLate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := histories.Draw(t, "history")
		in, local := h.state(t, "in").rec, h.state(t, "local")
		floor := hlc.Stamp(rapid.Uint64Range(0, 1<<22).Draw(t, "floor"))
		late := Late(in, local.rec, floor)
		for _, v := range in.Versions {
			known := false
			for i, e := range h.events {
				known = known || e.dot == v.Dot && local.set>>i&1 == 1
			}
			if want := v.Stamp <= floor && !known; want != slices.Contains(late, v.Dot) {
				t.Fatalf("%v stamped %d, floor %d, known %v: late %v", v.Dot, v.Stamp, floor, known, !want)
			}
		}
		rest := Without(in, late)
		for _, v := range in.Versions {
			if slices.Contains(late, v.Dot) == (rest.Find(v.Dot) != nil) {
				t.Fatalf("without %v: %v", late, dotsOf(rest))
			}
		}
		if len(rest.Versions)+len(late) != len(in.Versions) {
			t.Fatal("without")
		}
	})
}
