package client

import "time"

// window bounds how many calls of a link may be unanswered. It shrinks when the
// node refuses calls or does not answer them in time, and grows with what it
// answers: additive increase, multiplicative decrease (Jacobson, "Congestion
// avoidance and control", 1988). Without that, the calls of many clients would
// wait where nobody can see them, between client and node, until they are of no
// use to anybody, and the node would serve them all the same.
type window struct {
	size     int
	answered int // since it grew last
	shrunk   time.Time
	// refused is when the node last said that it is asked for too much, and
	// retryAfter what it told then.
	refused    time.Time
	retryAfter time.Duration
}

// refuses says that the node has refused calls just now.
func (w *window) refuses(now time.Time) bool {
	return !w.refused.IsZero() && now.Sub(w.refused) < linkRefuses
}

// now is how many calls may be unanswered.
func (w *window) now(t time.Time) int { return max(w.size, w.least(t)) }

func (w *window) least(t time.Time) int {
	if w.refuses(t) {
		return linkRefused
	}
	return linkWindowMin
}

// shrink takes a quarter off, but once in linkShrink: the many calls that are
// refused together are one sign.
func (w *window) shrink(now time.Time) {
	w.answered = 0
	if now.Sub(w.shrunk) >= linkShrink {
		w.size = max(w.size-w.size/4, w.least(now))
		w.shrunk = now
	}
}

// grow adds a sixteenth for each windowful of answers, one at least.
func (w *window) grow(answers int) {
	if w.answered += answers; w.answered >= w.size {
		w.answered = 0
		w.size = min(w.size+max(w.size/16, 1), linkWindow)
	}
}
