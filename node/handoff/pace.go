package handoff

import (
	"context"
	"math"
	"sync"
	"time"
)

// pacer spreads bytes over time: who has spent waits until they are paid for.
// All copies of a node share one, so that they share the rate evenly.
type pacer struct {
	mu   sync.Mutex
	free time.Time // when all that was spent is paid for
}

// spend accounts for n bytes at a rate per second, and waits its turn. Nothing
// is saved up while nothing is spent.
func (p *pacer) spend(ctx context.Context, n int, rate uint64) bool {
	p.mu.Lock()
	now := time.Now()
	if p.free.Before(now) {
		p.free = now
	}
	p.free = p.free.Add(time.Duration(float64(n) / float64(rate) * float64(time.Second)))
	wait := p.free.Sub(now)
	p.mu.Unlock()
	return sleep(ctx, wait)
}

// meter measures a rate over the last seconds, older ones counting less.
type meter struct {
	mu   sync.Mutex
	last time.Time
	rate float64
}

const meterSpan = 5 * time.Second

func (m *meter) add(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.decay()
	m.rate += float64(n) / meterSpan.Seconds()
}

// perSecond is 0 when nothing has happened for long.
func (m *meter) perSecond() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.decay()
	return uint64(m.rate)
}

func (m *meter) decay() {
	now := time.Now()
	if !m.last.IsZero() {
		m.rate *= math.Exp(-float64(now.Sub(m.last)) / float64(meterSpan))
	}
	m.last = now
}
