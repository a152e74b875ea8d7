// Package hlc is a hybrid logical clock (Kulkarni, Demirbas et al. 2014): stamps
// that follow physical time and never run backwards, so that causal order and
// wall-clock order agree wherever clocks do.
//
// Invariants:
//
//	H1  Stamps that one Clock returns strictly increase.
//	H2  A Clock is never more than MaxAhead ahead of its physical source
//	    because of what peers said; only its own counter may pass that.
//	H3  A stamp is above every stamp that its caller had seen.
package hlc

import (
	"fmt"
	"sync"
	"time"
)

// Stamp is 48 bits of milliseconds since 1970 above 16 bits of counter.
type Stamp uint64

// FromMillis returns the first stamp of a millisecond; 0 for a time before
// 1970, and the last millisecond that a stamp can tell for one after it (the
// year 10889).
func FromMillis(ms int64) Stamp {
	return Stamp(min(max(ms, 0), 1<<48-1)) << 16
}

// Millis is the physical part, in milliseconds since 1970.
func (s Stamp) Millis() int64 { return int64(s >> 16) }

// Time is the physical part.
func (s Stamp) Time() time.Time { return time.UnixMilli(s.Millis()) }

func (s Stamp) String() string { return fmt.Sprintf("%d.%d", s.Millis(), uint16(s)) }

// MaxAhead is how far in front of the physical source a Clock follows peers.
const MaxAhead = 250 * time.Millisecond

// Clock hands out stamps. It is safe for concurrent use.
type Clock struct {
	physical func() time.Time

	mu   sync.Mutex
	last Stamp
}

// New returns a clock on a physical source, which is the only thing a test
// needs to replace to skew it.
func New(physical func() time.Time) *Clock { return &Clock{physical: physical} }

// Next returns a stamp above all that it returned before, not below physical
// time, and above after: the highest stamp that the writer has seen. A high
// after lifts this one stamp and not the clock: one key with a stamp from the
// far future does not drag all others with it.
func (c *Clock) Next(after Stamp) Stamp {
	now := FromMillis(c.physical().UnixMilli())
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = max(now, c.last+1)
	return max(c.last, after+1)
}

// Observe follows a peer's stamp, but not further than MaxAhead in front of
// physical time. It returns how far the peer is ahead (negative: behind).
func (c *Clock) Observe(s Stamp) time.Duration {
	now := c.physical()
	bound := FromMillis(now.Add(MaxAhead).UnixMilli())
	c.mu.Lock()
	c.last = max(c.last, min(s, bound))
	c.mu.Unlock()
	return s.Time().Sub(now.Truncate(time.Millisecond))
}

// Now is the physical time in milliseconds since 1970.
func (c *Clock) Now() int64 { return c.physical().UnixMilli() }
