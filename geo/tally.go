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
	// steps are missing dots by the time they were first counted, ascending, and known
	// is what is in them. Of a step some dots may not be missing any more.
	steps []step
	known crdt.Clock
}

type step struct {
	at   time.Time
	dots *crdt.Clock
}

// count returns how many dots of want are not in have, which is exact. Those that
// were not missing before are missing since now.
func (t *tally) count(now time.Time, want, have *crdt.Clock) uint64 {
	missing := have.Beyond(want)
	n := new(crdt.Clock).CountMissing(missing)
	if n == 0 {
		*t = tally{}
		return 0
	}
	before := len(t.steps)
	t.steps = slices.DeleteFunc(t.steps, func(s step) bool { return !missing.Overlaps(s.dots) })
	if len(t.steps) < before {
		t.known = crdt.Clock{}
		for _, s := range t.steps {
			t.known.Join(s.dots)
		}
	}
	if fresh := t.known.Beyond(missing); len(fresh.Actors()) > 0 {
		t.known.Join(fresh)
		t.steps = append(t.steps, step{now, fresh})
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
