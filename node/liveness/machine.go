// Package liveness decides which peers are reachable, from how requests to
// them end and from pings. It knows nothing of membership or ownership, and
// it says nothing of whether a peer does its work well: a peer that answers
// pings and refuses or times out everything else is up.
//
// Besides, it says which nodes are slow: a choice of whom to ask first, for
// those who have one, and no reason to call a node down.
//
// Machine and Pace are the pure decisions for one peer; Detector feeds them and
// sends the pings. Its Run has one goroutine.
//
// Invariants:
//
//	L1  A peer goes down only after failures that are burstSpan apart: the
//	    many requests that one broken link ends at once are one failure.
//	L2  A peer that is down comes back only by answers that are burstSpan
//	    apart, two after a first fall, more if it keeps falling.
//	L3  A refusal is an answer, and so is one that comes after its request was
//	    given up: a peer with too much to do is not dead. What this node would
//	    not send (peer.ErrNotTried) and what a caller gave up is neither answer
//	    nor failure.
//	L4  A node becomes slow after a second, and is slow for ten at least.
//
// A killed process is down some 0.2 s after a request or ping to it ended, and
// an idle peer is pinged every second, or less often where there are more than
// 64. A peer from which nothing comes, not even an error, takes four timeouts.
package liveness

import "time"

// State of a peer. The zero value is Up: what was never asked is thought
// reachable until a ping says otherwise.
type State uint8

// The states.
const (
	Up      State = iota
	Suspect       // failed lately; still used, and pinged at once
	Down          // not to be used
)

func (s State) String() string { return [...]string{"up", "suspect", "down"}[s] }

// Failure is a way in which a request fails to be answered.
type Failure uint8

// The failures.
const (
	Lost    Failure = iota + 1 // no link, or it broke: strong evidence
	Timeout                    // weak: the peer or the path may be slow
)

const (
	downScore = 4 // what puts a peer down: Lost counts 2, Timeout 1
	// burstSpan is the span within which failures, or answers of a peer that
	// is down, count once.
	burstSpan = 100 * time.Millisecond
	// calm is how long a peer must have stood since its last fall for that to be
	// forgotten.
	calm = 30 * time.Second
	// maxNeed bounds the answers that a peer needs to come back.
	maxNeed = 16
)

// Machine decides for one peer. The zero value is ready. Times must not go
// back.
type Machine struct {
	state   State
	score   int       // of failures without an answer between
	failed  time.Time // the last failure that counted
	good    int       // answers that counted since the fall, without a failure between
	counted time.Time // the last of them
	falls   int       // without a calm between
	fell    time.Time
}

// State returns the state now.
func (m *Machine) State() State { return m.state }

// Clean says that a further answer would change nothing.
func (m *Machine) Clean() bool { return m.state == Up && m.score == 0 }

// Recovering says that the peer is down and has begun to answer.
func (m *Machine) Recovering() bool { return m.state == Down && m.good > 0 }

// Answer notes that the peer answered.
func (m *Machine) Answer(now time.Time) State {
	if m.state != Down {
		m.state, m.score = Up, 0
		return m.state
	}
	if m.good > 0 && now.Sub(m.counted) < burstSpan {
		return m.state
	}
	m.good++
	m.counted = now
	if m.good >= m.need() {
		m.state, m.score = Up, 0
	}
	return m.state
}

// Fail notes that a request was not answered.
func (m *Machine) Fail(now time.Time, f Failure) State {
	m.good = 0
	if m.state == Down || m.score > 0 && now.Sub(m.failed) < burstSpan {
		return m.state
	}
	m.failed = now
	m.score++
	if f == Lost {
		m.score++
	}
	m.state = Suspect
	if m.score >= downScore {
		m.fall(now)
	}
	return m.state
}

func (m *Machine) fall(now time.Time) {
	m.state = Down
	if now.Sub(m.fell) > calm {
		m.falls = 0
	}
	m.falls++
	m.fell = now
}

// need is how many answers bring the peer back: 2, 4, 8, 16 for the first,
// second, third, further fall without a calm between.
func (m *Machine) need() int { return min(1<<min(m.falls, 10), maxNeed) }

// PatienceMin is how long a request must have been given for its timeout to say
// something of the peer. Callers must not report shorter ones.
const PatienceMin = 250 * time.Millisecond

// A node whose beat is later than lateBy does not trust its timeouts for
// lateFor.
const (
	lateBy  = 100 * time.Millisecond
	lateFor = time.Second
)

// Pings are sent so long after the last one ended, or after the peer was last
// heard of.
const (
	pingUp      = time.Second
	pingSuspect = 150 * time.Millisecond // also for one that begins to answer
	pingDown    = 500 * time.Millisecond
	// pingBudget is how many peers are pinged at these paces; with more, pings
	// are rarer. Requests tell of a peer's end at once, whatever the pace.
	pingBudget = 64
)

// Wait returns how long to wait until the next ping. A random half, by
// 0 <= chance < 1, is taken off when the peer is down, so that nodes do not
// knock together, and a quarter otherwise.
func (m *Machine) Wait(chance float64) time.Duration {
	d, spread := pingUp, 0.25
	switch {
	case m.state == Suspect || m.Recovering():
		d = pingSuspect
	case m.state == Down:
		d, spread = pingDown, 0.5
	}
	return d - time.Duration(chance*spread*float64(d))
}
