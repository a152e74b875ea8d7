package repair

import (
	"testing"
	"time"
)

func TestRate(t *testing.T) {
	const budget = 64 << 20
	for _, c := range []struct{ busy, want float64 }{
		{0, budget}, {0.25, budget * 3 / 4}, {0.5, budget / 2},
		{0.99, budget / 32}, {1, budget / 32}, // never nothing
		{7, budget / 32}, {-1, budget}, // what is not a share
	} {
		if got := rate(budget, c.busy); got != c.want {
			t.Errorf("rate at busy %v: %v, want %v", c.busy, got, c.want)
		}
	}
	if got := rate(3, 1); got != 1 {
		t.Errorf("rate of a tiny budget: %v, want 1", got)
	}
}

func TestDebt(t *testing.T) {
	start := time.Unix(1000, 0)
	steps := []struct {
		name  string
		at    time.Duration
		bytes int
		rate  float64
		wait  time.Duration
	}{
		{"the first is owed", 0, 1000, 1000, time.Second},
		{"half is worked off", 500 * time.Millisecond, 0, 1000, 500 * time.Millisecond},
		{"more is owed on top", 500 * time.Millisecond, 500, 1000, time.Second},
		{"a busy node takes longer", 500 * time.Millisecond, 0, 100, 10 * time.Second},
		{"and is faster again", 1500 * time.Millisecond, 0, 1000, 0},
		{"after a long rest a burst is free", 60 * time.Second, 250, 1000, 0},
		{"and no more than that", 60 * time.Second, 100, 1000, 100 * time.Millisecond},
		{"a clock that stands still", 60 * time.Second, 0, 1000, 100 * time.Millisecond},
	}
	var d debt
	for _, s := range steps {
		if got := d.pay(start.Add(s.at), s.bytes, s.rate); got != s.wait {
			t.Errorf("%s: wait %v, want %v", s.name, got, s.wait)
		}
	}
}

// Whatever is fetched in whatever pieces, over a long time it is the rate.
func TestDebtKeepsTheRate(t *testing.T) {
	var d debt
	now, fetched := time.Unix(0, 0), 0
	for i := range 1000 {
		fetched += 1 + i*7919%5000
		now = now.Add(d.pay(now, 1+i*7919%5000, 10_000))
	}
	want := time.Duration(float64(fetched) / 10_000 * float64(time.Second))
	if took := now.Sub(time.Unix(0, 0)); took < want-300*time.Millisecond || took > want+time.Millisecond {
		t.Errorf("%d bytes took %v, want %v", fetched, took, want)
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
