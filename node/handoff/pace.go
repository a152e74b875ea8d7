package handoff

import (
	"math"
	"sync"
	"time"
)

// pace is what one node may receive for moves in a second, in bytes, and what it
// may give of what it has left: by the topology of now.
func (d Deps) pace() uint64 { return d.Replica.Topology().Pace.Filled().BytesPerSecond }

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
