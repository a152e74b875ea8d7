package memnet

import (
	"container/heap"
	"time"

	"github.com/atolldb/atoll/node/topology"
)

// agenda is what is going to happen, ordered by time, then by link and by
// number on the link. One timer serves it. It is guarded by Fabric.mu.
type agenda struct {
	events  events
	timer   *time.Timer
	running bool // in work
	inEvent bool // in an event's run
	// out are callbacks that events produced; they run without the lock, in
	// order, before the next event.
	out []func()
}

type event struct {
	at    time.Time
	route route
	seq   uint64
	run   func() // under Fabric.mu
	index int    // -1: done or withdrawn
}

// after schedules run, called under the lock, for c's link.
func (f *Fabric) after(d time.Duration, l *link, c *call, run func()) *event {
	return f.at(time.Now().Add(d), l, c.from.id, c.toID, run)
}

// at schedules run for a time, at least 1 ns from now: a bubble's clock only
// moves on when all of the bubble waits, so by then every event of that time
// is in the agenda, and the order among them does not hang on the scheduler.
// (Timers of 0 s are to be avoided in bubbles anyway: two at once crash the
// race detector, as of Go 1.26.)
func (f *Fabric) at(at time.Time, l *link, from, to topology.NodeID, run func()) *event {
	if soon := time.Now().Add(1); at.Before(soon) {
		at = soon
	}
	l.seq++
	e := &event{at: at, route: route{from, to}, seq: l.seq, run: run}
	heap.Push(&f.events, e)
	if e.index == 0 {
		f.arm()
	}
	return e
}

func (f *Fabric) withdraw(e *event) {
	if e != nil && e.index >= 0 {
		heap.Remove(&f.events, e.index)
	}
}

// arm sets the timer for the first event, unless the agenda is being worked
// off just now.
func (f *Fabric) arm() {
	if f.running || len(f.events) == 0 {
		return
	}
	d := time.Until(f.events[0].at)
	if f.timer == nil {
		f.timer = time.AfterFunc(d, f.work)
		return
	}
	f.timer.Reset(d)
}

// work runs what is due. Only one goroutine is ever in it.
func (f *Fabric) work() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.running {
		return
	}
	f.running = true
	for {
		if len(f.out) > 0 {
			f.flush()
		} else if len(f.events) > 0 && !f.events[0].at.After(time.Now()) {
			e := heap.Pop(&f.events).(*event)
			f.inEvent = true
			e.run()
			f.inEvent = false
		} else {
			break
		}
	}
	f.running = false
	f.arm()
}

// flush runs the callbacks that wait. They may call anything of the fabric.
func (f *Fabric) flush() {
	out := f.out
	f.out = nil
	f.mu.Unlock()
	defer f.mu.Lock()
	for _, call := range out {
		call()
	}
}

type events []*event

func (h events) Len() int { return len(h) }

func (h events) Less(i, j int) bool {
	a, b := h[i], h[j]
	switch {
	case !a.at.Equal(b.at):
		return a.at.Before(b.at)
	case a.route.from != b.route.from:
		return a.route.from < b.route.from
	case a.route.to != b.route.to:
		return a.route.to < b.route.to
	}
	return a.seq < b.seq
}

func (h events) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

func (h *events) Push(x any) {
	e := x.(*event)
	e.index = len(*h)
	*h = append(*h, e)
}

func (h *events) Pop() any {
	old := *h
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	e.index = -1
	return e
}
