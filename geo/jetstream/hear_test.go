package jetstream

import "testing"

func TestEars(t *testing.T) {
	var e ears
	for i, c := range []struct {
		before, after uint64
		moved, want   bool
	}{
		{0, 0, false, false},
		{0, 1, false, false}, // heard before the server says that it was taken
		{1, 1, true, false},
		{1, 1, true, false}, // may be on its way
		{2, 2, true, false},
		{2, 2, false, false},
		{2, 2, true, false}, // once
		{2, 2, false, false},
		{2, 2, true, true}, // and again
		{2, 2, true, true},
		{2, 3, true, false},
	} {
		if got := e.deaf(c.before, c.after, c.moved); got != c.want {
			t.Errorf("step %d: deaf %v", i, got)
		}
	}
}

func TestTakes(t *testing.T) {
	for answer, want := range map[string]bool{"": true, "+ACK": true, "+WPI": true, "-NAK": false, `-NAK {"delay":1}`: false, "+TERM": false} {
		if takes([]byte(answer)) != want {
			t.Errorf("%q: %v", answer, !want)
		}
	}
}
