package intake

import (
	"context"
	"time"

	"github.com/atolldb/atoll/internal/pause"
)

// pacer spreads lines evenly over time. After a delay it catches up for at
// most a second.
type pacer struct {
	rate  float64
	start time.Time
	n     float64
}

func newPacer(rate float64) *pacer { return &pacer{rate: rate, start: time.Now()} }

// wait reports false when ctx ended it.
func (p *pacer) wait(ctx context.Context) bool {
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
