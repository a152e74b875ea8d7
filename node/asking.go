package node

import (
	"sync"

	"github.com/atolldb/atoll/node/topology"
)

// asking joins questions to the same node that are asked while one is under
// way.
type asking struct {
	mu      sync.Mutex
	waiting map[topology.NodeID][]func()
}

// join adds then to those who wait for an answer of id; it reports whether the
// caller is the first, and so the one who asks.
func (a *asking) join(id topology.NodeID, then func()) (first bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.waiting == nil {
		a.waiting = map[topology.NodeID][]func(){}
	}
	_, under := a.waiting[id]
	a.waiting[id] = append(a.waiting[id], then)
	return !under
}

// finish calls everybody who waited for id.
func (a *asking) finish(id topology.NodeID) {
	a.mu.Lock()
	waited := a.waiting[id]
	delete(a.waiting, id)
	a.mu.Unlock()
	for _, then := range waited {
		then()
	}
}
