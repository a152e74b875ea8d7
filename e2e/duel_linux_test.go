//go:build e2e

package e2e

import (
	"slices"
	"testing"
	"time"
)

// A latency on a machine that others use, too, is judged against one that was
// measured in the same seconds: slices of time with a burden and without it
// take turns, and what others do hits both alike. One pair's p99 is off by a
// half easily, so the median of the pairs decides, and pairs are added while it
// misses the bar: an honest miss does not go away by that.
const duelLeast, duelMost = 8, 36

// duel compares the p99 of slices with a burden to those without it, and fails
// the test when the median of the ratios stays above bar; but where others use the
// processors all the while, it says that it could not judge.
func duel(t *testing.T, r *region, what string, bar float64, without, with func() served) {
	t.Helper()
	since := r.usage()
	var ratios []float64
	var alone, beside []time.Duration
	for i := 0; i < duelMost; i++ {
		var a, b served
		if i%2 == 0 {
			a, b = without(), with()
		} else {
			b = with()
			a = without()
		}
		ratios = append(ratios, float64(b.p99)/float64(a.p99))
		alone, beside = append(alone, a.p99), append(beside, b.p99)
		if len(ratios) >= duelLeast && median(ratios) <= bar {
			break
		}
	}
	slices.Sort(ratios)
	n, m := len(ratios), median(ratios)
	t.Logf("%s: p99 %.2f times as long, median of %d pairs (quartiles %.2f and %.2f); %v without, %v with",
		what, m, n, ratios[n/4], ratios[n*3/4], median(alone).Round(10*time.Microsecond), median(beside).Round(10*time.Microsecond))
	switch others := r.others(since); {
	case m <= bar:
	case others > othersMost:
		t.Logf("NOT JUDGED: noise: %s: p99 %.2f times as long, more than %.2f; others used %.2f processors", what, m, bar, others)
	default:
		t.Errorf("%s: p99 %.2f times as long, more than %.2f", what, m, bar)
	}
}

// median of an even number is the mean of the two in the middle.
func median[T float64 | time.Duration](of []T) T {
	sorted := slices.Sorted(slices.Values(of))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}
