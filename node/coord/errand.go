package coord

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/wire"
)

const (
	// moreHelpers is how many nodes that do not serve the partition an errand
	// tries when those that do cannot be reached.
	moreHelpers = 2
	// errandPause is how long an errand waits before it asks all of a region once
	// more, first; then twice as long each time, at most maxErrandPause.
	errandPause    = 100 * time.Millisecond
	maxErrandPause = time.Second
)

// errand has one node of another region carry out a request there; another one
// if that fails or is slow; and all of them again while there is time. It sends
// only what may be done twice. Nothing fences it: the other region goes by its
// own topology, and any node there will do.
type errand struct {
	c        *Coordinator
	region   topology.Region
	part     hashring.Partition
	verb     peer.Verb
	body     []byte
	deadline time.Time
	// patient: it waits for a region of which nobody can be reached.
	patient bool
	// once: it asks each node once, and not all of them again.
	once bool
	// done gets the reply of the first node that did what was asked, or why no
	// node of the region can be reached, once; nothing after close, and nothing at
	// the deadline. It is never called on the stack of begin.
	done func(wire.RegionReply, error)

	mu      sync.Mutex
	queue   []topology.NodeID // not asked in this turn
	waiting int               // asked, and not answered
	turn    int
	ended   bool
	final   bool // no turn begins any more
	timer   *time.Timer
	best    wire.RegionReply // of those that were not enough
	last    error
}

// begin asks the first node.
func (e *errand) begin() {
	e.mu.Lock()
	e.order()
	if len(e.queue) == 0 {
		e.nobody()
		e.mu.Unlock()
		return
	}
	e.timer = time.AfterFunc(e.c.cfg.RegionHedgeAfter, e.tick)
	next := e.next()
	e.mu.Unlock()
	e.ask(next)
}

// nobody ends the errand, or a patient one's turn, when there is nobody to ask.
// Called with the lock held.
func (e *errand) nobody() {
	if e.last == nil {
		e.last = fmt.Errorf("no node of region %s can be reached", e.region)
	}
	if e.patient {
		e.timer = time.AfterFunc(maxErrandPause/4, e.again)
		return
	}
	e.timer = time.AfterFunc(1, e.give)
}

// order finds who is to be asked in this turn: those who serve the partition
// there, and a few others, as far as they are thought to be up. Called with the
// lock held.
func (e *errand) order() {
	top := e.c.region(e.region)
	if top == nil {
		return
	}
	e.queue = e.queue[:0]
	var seen []topology.NodeID
	slots := top.Row(e.part).Slots
	for i := range slots {
		id := slots[(i+e.turn)%len(slots)].Serves()
		seen = append(seen, id)
		if e.c.alive(id) {
			e.queue = append(e.queue, id)
		}
	}
	more := 0
	for _, id := range top.Present() {
		if more < moreHelpers && !contains(seen, id) && e.c.alive(id) {
			e.queue = append(e.queue, id)
			more++
		}
	}
}

// contains is for a handful.
func contains(list []topology.NodeID, id topology.NodeID) bool {
	for _, have := range list {
		if have == id {
			return true
		}
	}
	return false
}

// next takes one more node. Called with the lock held.
func (e *errand) next() topology.NodeID {
	id := e.queue[0]
	e.queue = e.queue[1:]
	e.waiting++
	return id
}

func (e *errand) ask(id topology.NodeID) {
	e.c.send(id, 0, e.verb, e.body, e.deadline, func(b []byte, err error) {
		var reply wire.RegionReply
		if err == nil {
			reply, err = wire.DecodeRegionReply(b)
		}
		if err == nil && reply.Yes < reply.Needed {
			err = errors.New(reply.Detail)
		}
		if err != nil {
			err = fmt.Errorf("%s: %w", id, err)
		}
		e.answer(reply, err)
	})
}

// answer takes what a node said.
func (e *errand) answer(reply wire.RegionReply, err error) {
	e.mu.Lock()
	if e.ended {
		e.mu.Unlock()
		return
	}
	e.waiting--
	if err == nil {
		e.end()
		e.mu.Unlock()
		e.done(reply, nil)
		return
	}
	e.last = err
	if reply.Yes > e.best.Yes || e.best.Needed == 0 {
		e.best = reply
	}
	if len(e.queue) > 0 {
		next := e.next()
		e.mu.Unlock()
		e.ask(next)
		return
	}
	switch {
	case e.waiting > 0:
	case e.final:
		e.end()
	case e.once:
		e.end()
		best, last := e.best, e.last
		e.mu.Unlock()
		e.done(best, last)
		return
	default:
		e.turn++
		e.timer.Stop()
		e.timer = time.AfterFunc(min(errandPause<<min(e.turn-1, 10), maxErrandPause), e.again)
	}
	e.mu.Unlock()
}

// again begins a further turn, or gives up when nobody is left to ask.
func (e *errand) again() {
	e.mu.Lock()
	if e.ended || e.final || time.Until(e.deadline) <= 0 {
		e.mu.Unlock()
		return
	}
	e.order()
	if len(e.queue) == 0 {
		e.nobody()
		e.mu.Unlock()
		return
	}
	e.timer = time.AfterFunc(e.c.cfg.RegionHedgeAfter, e.tick)
	next := e.next()
	e.mu.Unlock()
	e.ask(next)
}

// tick asks one more node while others are silent.
func (e *errand) tick() {
	e.mu.Lock()
	if e.ended || len(e.queue) == 0 {
		e.mu.Unlock()
		return
	}
	e.c.stats.Hedges.Add(1)
	next := e.next()
	e.timer.Reset(e.c.cfg.RegionHedgeAfter)
	e.mu.Unlock()
	e.ask(next)
}

// give ends the errand without success.
func (e *errand) give() {
	e.mu.Lock()
	if e.ended {
		e.mu.Unlock()
		return
	}
	e.end()
	best, last := e.best, e.last
	e.mu.Unlock()
	e.done(best, last)
}

// wane lets the turn that has begun be the last one, and done be uncalled if it
// is of no use.
func (e *errand) wane() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.final = true
	if e.waiting == 0 && !e.ended {
		e.end()
	}
}

// end is called with the lock held.
func (e *errand) end() {
	e.ended = true
	e.timer.Stop()
}

// close ends the errand; what was sent may still be done. It returns the best
// that was heard, and why it was not enough, nil for nothing.
func (e *errand) close() (wire.RegionReply, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.ended {
		e.end()
	}
	return e.best, e.last
}
