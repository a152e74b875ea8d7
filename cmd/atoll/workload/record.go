package workload

import (
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Latencies from 1 us to 2 minutes are kept with three digits; longer ones
// count as that.
const maxLatency = 2 * time.Minute

// Outcome of one operation.
type Outcome struct {
	// Failure is the reason, "" for success.
	Failure string
	// Missing: a read found nothing. Siblings: it found several values. Both
	// are successes.
	Missing, Siblings bool
}

// counts of an interval or of a whole run.
type counts struct {
	latency             [kinds]*hdrhistogram.Histogram
	failures            map[string]int
	missing, siblings   int
	firstFail, lastFail time.Time
}

func newCounts() *counts { return &counts{failures: map[string]int{}} }

func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, maxLatency.Microseconds(), 3)
}

func record(h **hdrhistogram.Histogram, d time.Duration) {
	if *h == nil {
		*h = newHistogram()
	}
	(*h).RecordValue(min(max(d, time.Microsecond), maxLatency).Microseconds()) //nolint:errcheck // it is in bounds
}

func (c *counts) add(kind Kind, began, ended time.Time, o Outcome) {
	if o.Failure != "" {
		c.failures[o.Failure]++
		if c.firstFail.IsZero() {
			c.firstFail = ended
		}
		c.lastFail = ended
		return
	}
	if o.Missing {
		c.missing++
	}
	if o.Siblings {
		c.siblings++
	}
	record(&c.latency[kind], ended.Sub(began))
}

// take moves what is in from into c.
func (c *counts) take(from *counts) {
	for k, h := range from.latency {
		if h == nil {
			continue
		}
		if c.latency[k] == nil {
			c.latency[k] = newHistogram()
		}
		c.latency[k].Merge(h)
		h.Reset()
	}
	for reason, n := range from.failures {
		c.failures[reason] += n
	}
	clear(from.failures)
	c.missing += from.missing
	c.siblings += from.siblings
	if !from.firstFail.IsZero() {
		if c.firstFail.IsZero() || from.firstFail.Before(c.firstFail) {
			c.firstFail = from.firstFail
		}
		if from.lastFail.After(c.lastFail) {
			c.lastFail = from.lastFail
		}
	}
	from.missing, from.siblings = 0, 0
	from.firstFail, from.lastFail = time.Time{}, time.Time{}
}

// recorder is several counts, so that clients do not wait for each other.
type recorder struct {
	shards [recorders]struct {
		mu sync.Mutex
		counts
	}
}

const recorders = 8

func newRecorder() *recorder {
	r := &recorder{}
	for i := range r.shards {
		r.shards[i].counts = *newCounts()
	}
	return r
}

func (r *recorder) add(client int, kind Kind, began, ended time.Time, o Outcome) {
	s := &r.shards[client%recorders]
	s.mu.Lock()
	s.counts.add(kind, began, ended, o)
	s.mu.Unlock()
}

// take returns what was added since the last call.
func (r *recorder) take() *counts {
	all := newCounts()
	for i := range r.shards {
		s := &r.shards[i]
		s.mu.Lock()
		all.take(&s.counts)
		s.mu.Unlock()
	}
	return all
}
