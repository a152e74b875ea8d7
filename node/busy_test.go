package node

import "testing"

func TestBusy(t *testing.T) {
	for backlog, want := range map[float64]float64{0: 0, .5: .25, 1: .5, 2: 1, 32: 1} {
		if got := busy(backlog); got != want {
			t.Errorf("a backlog of %v groups: %v, not %v", backlog, got, want)
		}
	}
}
