package geo

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Against a dumb twin: after the grace, exactly the numbers between the first
// and the highest seen that never came are lost, each counted once.
func TestHoles(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var h holes
		now := time.Unix(0, 0)
		first := rapid.Uint64Range(1, 100).Draw(t, "first")
		h.saw(now, Header{Node: "n", Number: first})
		came := map[uint64]bool{first: true}
		highest := first
		for _, step := range rapid.SliceOfN(rapid.Uint64Range(0, 20), 0, 60).Draw(t, "numbers") {
			n := first + step
			now = now.Add(time.Millisecond)
			h.saw(now, Header{Node: "n", Number: n})
			came[n] = true
			highest = max(highest, n)
			if lost := h.overdue(now); lost != 0 {
				t.Fatalf("%d lost at once", lost)
			}
		}
		want := uint64(0)
		for n := first; n < highest; n++ {
			if !came[n] {
				want++
			}
		}
		now = now.Add(holeGrace)
		if lost := h.overdue(now); lost != want {
			t.Fatalf("lost %d, want %d", lost, want)
		}
		if lost := h.overdue(now.Add(time.Minute)); lost != 0 {
			t.Fatalf("%d lost twice", lost)
		}
		h.overdue(now.Add(2 * time.Hour))
		if len(h.sessions) != 0 {
			t.Fatal("an idle session is kept")
		}
	})
}

// Sessions do not mix: a restarted pump counts from 1 again.
func TestHolesBySession(t *testing.T) {
	var h holes
	now := time.Unix(0, 0)
	for s := range uint64(3) {
		for n := uint64(1); n <= 5; n++ {
			h.saw(now, Header{Node: "n", Session: s, Number: n})
		}
	}
	if lost := h.overdue(now.Add(holeGrace)); lost != 0 {
		t.Fatalf("%d lost", lost)
	}
}

func TestHolesBounded(t *testing.T) {
	var h holes
	now := time.Unix(0, 0)
	h.saw(now, Header{Number: 1})
	for n := uint64(3); n < 3+2*maxAhead; n++ {
		h.saw(now, Header{Number: n})
		h.overdue(now)
	}
	for _, s := range h.sessions {
		if len(s.ahead) > maxAhead {
			t.Fatalf("%d numbers kept", len(s.ahead))
		}
	}
}
