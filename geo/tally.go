package geo

import (
	"slices"
	"time"

	"github.com/atolldb/atoll/crdt"
)

// maxSteps bounds the times remembered per partition of dots that are missing.
// When there are more, neighbours share the older time.
const maxSteps = 128

// tally counts what is missing of a partition, and remembers since when.
type tally struct {
	// steps are missing dots by the time they were first counted, ascending.
	steps []step
}

type step struct {
	at   time.Time
	dots *crdt.Clock
}

// count returns how many dots of want are not in have, which is exact. Those that
// were not missing before are missing since now.
func (t *tally) count(now time.Time, want, have *crdt.Clock) uint64 {
	runs := have.Missing(want)
	if len(runs) == 0 {
		t.steps = nil
		return 0
	}
	n, missing := uint64(0), new(crdt.Clock)
	for _, d := range runs {
		n += d.Len()
		missing.AddSpan(d)
	}
	known := new(crdt.Clock)
	t.steps = slices.DeleteFunc(t.steps, func(s step) bool {
		if missing.CountMissing(s.dots) == new(crdt.Clock).CountMissing(s.dots) {
			return true // none of them is missing any more
		}
		known.Join(s.dots)
		return false
	})
	if fresh := known.Missing(missing); len(fresh) > 0 {
		s := step{now, new(crdt.Clock)}
		for _, d := range fresh {
			s.dots.AddSpan(d)
		}
		t.steps = append(t.steps, s)
		if len(t.steps) > maxSteps {
			t.thin()
		}
	}
	return n
}

// age of the oldest that was missing at the last count, 0 for none.
func (t *tally) age(now time.Time) time.Duration {
	if len(t.steps) == 0 {
		return 0
	}
	return now.Sub(t.steps[0].at)
}

// thin joins the two neighbours that together span the least time; they share
// the older time, so that an age is never told too low.
func (t *tally) thin() {
	best, least := 0, time.Duration(1<<63-1)
	for i := 0; i+2 < len(t.steps); i++ {
		if span := t.steps[i+2].at.Sub(t.steps[i].at); span < least {
			best, least = i, span
		}
	}
	t.steps[best].dots.Join(t.steps[best+1].dots)
	t.steps = slices.Delete(t.steps, best+1, best+2)
}
