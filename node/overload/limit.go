package overload

import (
	"math"
	"math/bits"
)

// The times of this package are nanoseconds: moments since any fixed one, and
// spans.
const (
	microsecond = 1_000
	millisecond = 1_000_000
	second      = 1_000_000_000
)

const (
	// window is how long a limit looks before it is changed, at least; and
	// longer where it takes longer that something ends which began in it.
	window = 100 * millisecond
	// enough samples for a median, and how long to wait for as many.
	enough    = 16
	longLook  = 2 * second
	targetMin = 100 * millisecond
	targetMax = 500 * millisecond
)

// Limit is how much may run at a time, found by trial: it grows as long as all
// of it is used and what runs takes no longer than the target, and shrinks
// otherwise, or when most of it is given up (additive-increase /
// multiplicative-decrease as of Jacobson, "Congestion avoidance and control", 1988,
// slow start included; the increase is a tenth rather than one, since there is no
// other sender to be fair to).
//
// The target is twice what an operation takes when nothing waits, within
// 100..500 ms: by Little's law a limit of throughput * target lets everything
// be used that the disks, the network and the processors give, and keeps no
// more in them than they do in that time. The floor of 100 ms is there because
// the group commit makes latency grow with load long before it is congestion.
type Limit struct {
	cfg   Config
	limit int
	// until is where the limit stops doubling.
	until int
	base  int64 // the median latency when little runs; 0 not known yet
	takes int64 // the median latency of the last window
	began int64 // of the window
	peak  int   // in flight, in this window
	n     int
	lost  int // of them, those that failed and took their time
	hist  [histSize]uint32
}

const (
	histSub  = 4 // buckets an octave
	histLow  = 10
	histSize = 27 * histSub // 1 us .. 2^27 us
)

func bucketOf(latency int64) int {
	v := uint64(max(latency, 1<<histLow))
	octave := bits.Len64(v) - 1
	sub := int(v>>(octave-2)) & (histSub - 1)
	return min((octave-histLow)*histSub+sub, histSize-1)
}

// bucketTop is the largest latency of a bucket.
func bucketTop(b int) int64 {
	octave, sub := b/histSub+histLow, int64(b%histSub)
	return 1<<octave + (sub+1)<<(octave-2)
}

func newLimit(cfg Config) Limit {
	return Limit{cfg: cfg, limit: cfg.Start, until: math.MaxInt, began: math.MinInt64}
}

// Now is the limit, in units.
func (l *Limit) Now() int { return l.limit }

// Target is what the median latency may be.
func (l *Limit) Target() int64 { return max(targetMin, min(2*l.base, targetMax)) }

// Takes is how long half of what ended lately took at least; 0 not known yet.
func (l *Limit) Takes() int64 { return l.takes }

// started notes how much is in flight.
func (l *Limit) started(inFlight int) { l.peak = max(l.peak, inFlight) }

// ended takes the latency of something that began at start, and whether it failed.
func (l *Limit) ended(now, start int64, failed bool) {
	if l.began == math.MinInt64 {
		l.began = start
	}
	if start >= l.began { // else it tells of an earlier limit
		l.hist[bucketOf(now-start)]++
		l.n++
		if failed {
			l.lost++
		}
	}
	if age := now - l.began; l.n >= enough && age >= window || l.n > 0 && age >= longLook {
		l.decide()
		l.began = now
	}
}

func (l *Limit) decide() {
	median := l.median()
	l.takes = median
	// Where most is given up before it ends, the target does not matter: it may be
	// longer than what callers wait for.
	congested := median > l.Target() || 2*l.lost > l.n
	// What little runs tells what an operation takes by itself. The smallest
	// limit is little by definition: so a disk that has become slow is told
	// from a queue.
	if l.peak < l.limit/2 || l.limit <= l.cfg.Min {
		if l.base == 0 || median < l.base {
			l.base = median
		} else {
			l.base += (median - l.base) / 8
		}
	}
	switch {
	case congested && l.peak >= l.limit/2:
		// By Little's law what meets the target, but not by a single look.
		fits := int(float64(l.limit) * float64(l.Target()) / float64(median))
		l.limit = max(min(l.limit*4/5, max(fits, l.limit/2)), l.cfg.Min)
		l.until = l.limit
	case l.peak >= l.limit:
		if l.limit < l.until {
			l.limit *= 2
		} else {
			l.limit += max(l.limit/10, 1)
		}
		l.limit = min(l.limit, l.cfg.Max)
	}
	l.peak, l.n, l.lost = 0, 0, 0
	clear(l.hist[:])
}

func (l *Limit) median() int64 {
	left := (l.n + 1) / 2
	for b, n := range l.hist {
		if left -= int(n); left <= 0 {
			return bucketTop(b)
		}
	}
	return bucketTop(histSize - 1)
}
