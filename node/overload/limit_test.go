package overload

import (
	"testing"

	"pgregory.net/rapid"
)

// station is a limit before a server of a capacity and a latency of its own:
// by Little's law what is in flight beyond their product only waits.
type station struct {
	limit    Limit
	now      int64
	capacity float64 // operations a second
	alone    int64   // latency
	// patience is when callers give up, so that nothing is done; 0 for never.
	patience int64
}

// run keeps up to demand in flight for a time.
func (s *station) run(demand int, span int64) (throughput float64, latency int64) {
	done := 0.0
	end := s.now + span
	for s.now < end {
		n := min(demand, s.limit.Now())
		latency = max(s.alone, int64(float64(n)/s.capacity*second))
		s.limit.started(n)
		if demand > n {
			s.limit.started(s.limit.Now())
		}
		failed := s.patience > 0 && latency > s.patience
		if failed {
			latency = s.patience
		}
		for range enough {
			s.limit.ended(s.now+latency, s.now, failed)
		}
		step := max(latency, millisecond)
		if failed {
			n = 0
		}
		done += float64(n) * float64(step) / float64(latency)
		s.now += step
	}
	return done / (float64(span) / second), latency
}

func TestLimitFindsCapacity(t *testing.T) {
	for _, c := range []struct {
		name     string
		capacity float64
		alone    int64
	}{
		{"small machine", 2_000, 2 * millisecond},
		{"2 cores", 15_000, 3 * millisecond},
		{"large machine", 150_000, millisecond},
		{"slow disk", 3_000, 150 * millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := station{limit: newLimit(Config{}.withDefaults()), capacity: c.capacity, alone: c.alone, now: second}
			s.run(10, 5*second) // a quiet time
			s.run(100_000, 10*second)
			got, latency := s.run(100_000, 20*second)
			t.Logf("%.0f/s of %.0f, %d ms, limit %d", got, c.capacity, latency/millisecond, s.limit.Now())
			if got < .9*c.capacity {
				t.Errorf("%.0f a second of %.0f", got, c.capacity)
			}
			if latency > 5*targetMax/4 {
				t.Errorf("%d ms", latency/millisecond)
			}
		})
	}
}

// TestLimitFollowsADiskThatTurnsSlow under full load: what it takes by itself
// is found out at the smallest limit.
func TestLimitFollowsADiskThatTurnsSlow(t *testing.T) {
	s := station{limit: newLimit(Config{}.withDefaults()), capacity: 20_000, alone: 2 * millisecond, now: second}
	s.run(100_000, 10*second)
	s.capacity, s.alone = 5_000, 180*millisecond
	s.run(100_000, 30*second)
	if got, _ := s.run(100_000, 10*second); got < 4_000 {
		t.Errorf("%.0f a second of 5000; limit %d", got, s.limit.Now())
	}
	s.capacity, s.alone = 20_000, 2*millisecond
	s.run(100_000, 5*second)
	if got, latency := s.run(100_000, 10*second); got < 18_000 || latency > 5*targetMax/4 {
		t.Errorf("%.0f a second of 20000, %d ms", got, latency/millisecond)
	}
}

// TestLimitStaysWhenLittleRuns: what takes long while next to nothing runs is
// no congestion.
func TestLimitStaysWhenLittleRuns(t *testing.T) {
	s := station{limit: newLimit(Config{}.withDefaults()), capacity: 1e6, alone: 2 * second, now: second}
	before := s.limit.Now()
	s.run(3, 60*second)
	if s.limit.Now() != before {
		t.Errorf("limit %d, was %d", s.limit.Now(), before)
	}
}

func TestBuckets(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := rapid.Int64Range(0, 200*second).Draw(t, "latency")
		b := bucketOf(v)
		if b > 0 && v <= bucketTop(b-1)-1 && b != histSize-1 || v > bucketTop(b) && b != histSize-1 {
			t.Fatalf("%d is in bucket %d, which ends at %d", v, b, bucketTop(b))
		}
	})
}

// TestLimitFollowsALossOfCapacity: a limit that is several times what fits any more is
// found within two seconds, not by a fifth at each look.
func TestLimitFollowsALossOfCapacity(t *testing.T) {
	s := station{limit: newLimit(Config{}.withDefaults()), capacity: 20_000, alone: 2 * millisecond, now: second}
	s.run(100_000, 10*second)
	s.capacity = 2_000
	_, latency := s.run(100_000, 2*second)
	if latency > 3*targetMin {
		t.Errorf("%d ms, limit %d", latency/millisecond, s.limit.Now())
	}
}

// TestLimitIsWithinPatience: what a node by itself takes long for is not let run up to
// twice as long where callers give up before.
func TestLimitIsWithinPatience(t *testing.T) {
	s := station{
		limit: newLimit(Config{}.withDefaults()), capacity: 1000, alone: 250 * millisecond, patience: 450 * millisecond, now: second,
	}
	s.run(10, 5*second) // a quiet time: the target is known to be 500 ms
	s.run(100_000, 10*second)
	if got, _ := s.run(100_000, 20*second); got < 600 {
		t.Errorf("%.0f a second of 1000, limit %d", got, s.limit.Now())
	}
}
