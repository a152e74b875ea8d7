package node

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/atolldb/atoll/geo"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/yield"
)

const (
	// catchUpLeast is how fast a node catches up in any case, in bytes a second, and
	// catchUpAhead how many times faster than the backlog was written: what a cut of
	// an hour leaves is there in less than that, whatever clients feel, as far as
	// disks, links and processors do it.
	catchUpLeast = 48 << 20
	catchUpAhead = 2
	// catchUpRest is after how long without anything late it has caught up.
	catchUpRest = 10 * time.Second
	// catchUpBeat is how often the rate of writing is measured.
	catchUpBeat = time.Second
)

// catchUp is how fast something late crosses: as fast as clients do not feel it, but
// not slower than what keeps up with what is written, else the lag would grow for
// ever. One goroutine measures, any may ask. Nothing asks at present: on two processors
// it made catching up slower, and clients felt as much (docs/bench).
type catchUp struct {
	pacer yield.Pacer
	floor atomic.Uint64 // bytes a second, by what was measured
	late  atomic.Int64  // when something was late for the last time, ns on the wall clock

	mu       sync.Mutex
	measured time.Time
	keep     geo.Keepup
}

func newCatchUp(g *yield.Governor) *catchUp {
	return &catchUp{pacer: yield.Pacer{Governor: g}}
}

// least is the rate below which it does not go, in bytes a second.
func (c *catchUp) least() uint64 { return max(catchUpLeast, c.floor.Load()) }

// rate is how fast it may go now, in bytes a second.
func (c *catchUp) rate() uint64 { return max(c.least(), c.pacer.Governor.Level()) }

// follow waits until so many late bytes may be applied.
func (c *catchUp) follow(ctx context.Context, bytes int) error {
	c.late.Store(time.Now().UnixNano())
	return c.pacer.Follow(ctx, bytes, c.least)
}

// after is for how long nothing follows so many late bytes that were shipped.
func (c *catchUp) after(bytes int) time.Duration {
	c.late.Store(time.Now().UnixNano())
	return c.pacer.After(bytes, c.least())
}

// behind reports whether something was late not long ago.
func (c *catchUp) behind(now time.Time) bool {
	return now.Sub(time.Unix(0, c.late.Load())) < catchUpRest
}

// measure has look tell, when it is time to, how many dots a second are written that
// this node has to move, and their size.
func (c *catchUp) measure(now time.Time, look func() (rate float64, size uint64)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Sub(c.measured) < catchUpBeat {
		return
	}
	c.measured = now
	rate, size := look()
	c.floor.Store(uint64(catchUpAhead * rate * float64(size)))
}

// saw takes how many dots were written, in so many partitions. It is called by the
// look of measure.
func (c *catchUp) saw(now time.Time, dots uint64, parts int) {
	c.keep.Saw(now, dots, parts, c.behind(now))
}

// rates at which the drains may apply what is late.
func (a *abroad) rates() map[topology.Region]uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := make(map[topology.Region]uint64, len(a.of))
	for name, o := range a.of {
		out[name] = o.catch.rate()
	}
	return out
}
