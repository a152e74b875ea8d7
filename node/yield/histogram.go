package yield

import (
	"math/bits"
	"sync/atomic"
	"time"
)

const (
	histSub  = 8  // buckets an octave: 9 to 13 % each
	histLow  = 14 // the first octave begins at 16 us
	histSize = 20 * histSub
)

// histogram of durations, which many add to at a time.
type histogram [histSize]atomic.Uint32

func bucketOf(d time.Duration) int {
	v := uint64(max(d, 1<<histLow))
	octave := bits.Len64(v) - 1
	sub := int(v>>(octave-3)) & (histSub - 1)
	return min((octave-histLow)*histSub+sub, histSize-1)
}

// bucketTop is where a bucket ends.
func bucketTop(b int) time.Duration {
	octave, sub := b/histSub+histLow, b%histSub
	return time.Duration(1<<octave + (sub+1)<<(octave-3))
}

func (h *histogram) add(d time.Duration) { h[bucketOf(d)].Add(1) }

// highOf is where the high quantile begins: of ten the ninth.
const highOf = .9

// measure reads it; what is added meanwhile may be in it or not.
func (h *histogram) measure() (m Measure) {
	var counts [histSize]uint32
	for b := range h {
		counts[b] = h[b].Load()
		m.N += int(counts[b])
	}
	left := int(highOf*float64(m.N)) + 1
	for b, n := range counts {
		if left -= int(n); n > 0 && left <= 0 {
			m.High = bucketTop(b)
			return m
		}
	}
	return m
}

// clear forgets what was measured.
func (h *histogram) clear() {
	for b := range h {
		h[b].Store(0)
	}
}
