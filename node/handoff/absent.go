package handoff

import (
	"sync"
	"time"

	"github.com/atolldb/atoll/node/topology"
)

const (
	// probeEvery is how often all copies of a node together ask a source that
	// does not answer.
	probeEvery = time.Second
	// absentFor is how long it is remembered when nobody asks.
	absentFor = time.Minute
)

// absent are the sources that do not answer: what one copy had to wait for to
// learn, the others need not wait for again. Who answers is forgotten at once,
// and so is who has not been asked for long.
type absent struct {
	patience time.Duration

	mu   sync.Mutex
	with map[topology.NodeID]*absence
}

type absence struct {
	since time.Time // of the first question without an answer
	asked time.Time // when the last one began, or was found to be unanswered
}

// heard notes that a source has answered.
func (a *absent) heard(id topology.NodeID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.with, id)
}

// missed notes that a source did not answer.
func (a *absent) missed(id topology.NodeID) {
	now := time.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.with == nil {
		a.with = map[topology.NodeID]*absence{}
	}
	n := a.current(id, now)
	if n == nil {
		n = &absence{since: now}
		a.with[id] = n
	}
	n.asked = now
}

// long reports whether a source has not answered for so long that others are to
// be copied from.
func (a *absent) long(id topology.NodeID) bool {
	now := time.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	n := a.current(id, now)
	return n != nil && now.Sub(n.since) >= a.patience
}

// ask reports whether a source is to be asked: of one that has not answered for
// long only now and then.
func (a *absent) ask(id topology.NodeID) bool {
	now := time.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	n := a.current(id, now)
	if n == nil || now.Sub(n.since) < a.patience {
		return true
	}
	if now.Sub(n.asked) < probeEvery {
		return false
	}
	n.asked = now
	return true
}

// current returns what is known of a source, nil for nothing; what was learned
// long ago says nothing of now.
func (a *absent) current(id topology.NodeID, now time.Time) *absence {
	n := a.with[id]
	if n != nil && now.Sub(n.asked) > absentFor {
		delete(a.with, id)
		return nil
	}
	return n
}
