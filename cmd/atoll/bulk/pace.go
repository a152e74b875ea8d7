package bulk

import (
	"context"
	"time"

	"github.com/atolldb/atoll/internal/pause"
)

// Pacer spreads items evenly over time. After a delay it catches up for at
// most a second.
type Pacer struct {
	rate  float64
	start time.Time
	n     float64
}

// NewPacer begins now; a rate of 0 is no limit.
func NewPacer(rate float64) *Pacer { return &Pacer{rate: rate, start: time.Now()} }

// Wait for the next item; false when ctx ended it.
func (p *Pacer) Wait(ctx context.Context) bool {
	if p.rate <= 0 {
		return ctx.Err() == nil
	}
	now := time.Now()
	due := p.start.Add(time.Duration(p.n / p.rate * float64(time.Second)))
	p.n++
	if late := now.Sub(due); late > time.Second {
		p.start, p.n = now, 1
		return ctx.Err() == nil
	}
	return pause.For(ctx, due.Sub(now))
}
