package jetstream

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/atolldb/atoll/geo"
	"github.com/atolldb/atoll/internal/pause"
)

// setback is since when nothing that was handled here succeeded. Who fails at once
// would take batch after batch from those who share the consumer and could apply
// them, only to put all of them off.
type setback struct {
	mu    sync.Mutex
	since time.Time // zero: the last one succeeded
	told  time.Time
}

// tellBeat is how often it is told that nothing succeeds.
const tellBeat = time.Minute

// ended takes how a batch has ended, and returns how long its place is to stay taken:
// as long as nothing has succeeded, within nakMin and nakMax, and 0 after a success.
// It reports whether to tell of the failure.
func (s *setback) ended(now time.Time, err error) (wait time.Duration, tell bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case errors.Is(err, geo.ErrCrowded): // others may do
		return 0, false
	case err == nil, errors.Is(err, geo.ErrPoison):
		s.since = time.Time{}
		return 0, false
	}
	if s.since.IsZero() {
		s.since = now
	}
	failing := now.Sub(s.since)
	if tell = failing >= nakMax && now.Sub(s.told) >= tellBeat; tell {
		s.told = now
	}
	return min(max(failing, nakMin), nakMax), tell
}

// rest keeps the place of a batch that has ended with err.
func (r *feedRun) rest(ctx context.Context, err error) {
	wait, tell := r.setback.ended(time.Now(), err)
	if tell {
		r.logger.Warn("no batch can be applied", "origin", r.cfg.Origin, "error", err)
	}
	if wait > 0 {
		pause.For(ctx, wait)
	}
}
