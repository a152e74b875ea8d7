//go:build chaos && linux

package chaos

import (
	"context"
	"sync"
	"time"
)

// metronome notes when this process was not let run in time. What operations
// did then says more about the machine than about the region.
type metronome struct {
	mu   sync.Mutex
	late []lateness
}

type lateness struct {
	at time.Time
	by time.Duration
}

const (
	metronomeBeat = 50 * time.Millisecond
	metronomeLate = 200 * time.Millisecond
)

func (m *metronome) run(ctx context.Context) {
	tick := time.NewTicker(metronomeBeat)
	defer tick.Stop()
	last := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := time.Now()
		if by := now.Sub(last) - metronomeBeat; by > metronomeLate {
			m.mu.Lock()
			m.late = append(m.late, lateness{now, by})
			m.mu.Unlock()
		}
		last = now
	}
}

// worst is how late it was at most in a span of time; 0 when never by much.
func (m *metronome) worst(from, to time.Time) (worst time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, l := range m.late {
		if l.at.After(from) && l.at.Add(-l.by).Before(to) {
			worst = max(worst, l.by)
		}
	}
	return worst
}
