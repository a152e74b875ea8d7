package badgerstore

import (
	"sync"
	"sync/atomic"
)

// gate lets Close wait for the reads under way: Badger unmaps its files, and a
// read of them would end the process. A lock would not do, since a scan calls
// code that may read again.
type gate struct {
	closed atomic.Bool
	inside atomic.Int64 // plus one until it is closed
	once   sync.Once
	empty  chan struct{}
}

func (g *gate) init() {
	g.empty = make(chan struct{})
	g.inside.Store(1)
}

// enter returns false once the gate is closed; otherwise leave must follow.
func (g *gate) enter() bool {
	g.inside.Add(1)
	if g.closed.Load() {
		g.leave()
		return false
	}
	return true
}

func (g *gate) leave() {
	if g.inside.Add(-1) == 0 {
		g.once.Do(func() { close(g.empty) })
	}
}

// close closes the gate, waits until nobody is inside, and returns whether it
// was the first to do so.
func (g *gate) close() bool {
	if g.closed.Swap(true) {
		return false
	}
	g.leave()
	<-g.empty
	return true
}
