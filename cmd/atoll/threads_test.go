package main

import "testing"

func TestThreads(t *testing.T) {
	for _, c := range []struct {
		chosen int
		set    string
		want   int
	}{
		{1, "", 4},
		{1, "1", 0}, // that is somebody's wish
		{2, "", 0},
		{64, "", 0},
	} {
		if got := threads(c.chosen, c.set); got != c.want {
			t.Errorf("%d chosen, %q set: %d", c.chosen, c.set, got)
		}
	}
}
