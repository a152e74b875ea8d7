package geo

import (
	"sync"
	"time"
)

// Silence measures for how long nobody has taken anything of a log: from the first
// batch that was appended after somebody did. It is what a Log answers Silent with.
// The zero value has heard nothing yet, and is not believed before it has: whoever
// cannot hear that batches are taken would take that for silence. It is safe for
// concurrent use.
type Silence struct {
	mu    sync.Mutex
	hears bool
	since time.Time // zero: nothing was appended since
}

// Appended says that there is one more batch.
func (s *Silence) Appended(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.since.IsZero() {
		s.since = now
	}
}

// Taken says that a batch was taken.
func (s *Silence) Taken() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hears, s.since = true, time.Time{}
}

// Deaf says that batches were taken of which nobody said so.
func (s *Silence) Deaf() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hears = false
}

// Length is for how long; 0 if that is not known.
func (s *Silence) Length(now time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.hears || s.since.IsZero() {
		return 0
	}
	return max(now.Sub(s.since), 0)
}
