package repair

import (
	"testing"
	"time"
)

func TestRate(t *testing.T) {
	const budget = 64 << 20
	for _, c := range []struct {
		busy float64
		want uint64
	}{
		{0, budget}, {0.25, budget * 3 / 4}, {0.5, budget / 2},
		{0.99, budget / 32}, {1, budget / 32}, // never nothing
		{7, budget / 32}, {-1, budget}, // what is not a share
	} {
		if got := rate(budget, c.busy, false); got != c.want {
			t.Errorf("rate at busy %v: %v, want %v", c.busy, got, c.want)
		}
	}
	if got := rate(budget, 1, true); got != budget/16 {
		t.Errorf("rate of a busy node that does not answer: %v, want %v", got, budget/16)
	}
	if got := rate(3, 1, false); got != 1 {
		t.Errorf("rate of a tiny budget: %v, want 1", got)
	}
}

func TestRest(t *testing.T) {
	for _, c := range []struct {
		busy float64
		want time.Duration
	}{{0, 0}, {0.5, time.Second}, {1, 10 * time.Second}, {3, 10 * time.Second}, {-1, 0}} {
		if got := rest(time.Second, c.busy).Round(time.Millisecond); got != c.want {
			t.Errorf("rest at busy %v: %v, want %v", c.busy, got, c.want)
		}
	}
}
