package repair

import (
	"context"
	"sync"
	"time"
)

// leastRate is the share of the budget, as a divisor, that repair takes from
// clients however busy they keep the node: without it a node under load for
// days would never be whole again.
const leastRate = 32

// rate is what may be fetched in a second, in bytes: what clients leave of the
// budget, at least a 32nd of it and never nothing. busy is 0 to 1.
func rate(budget uint64, busy float64) float64 {
	busy = min(max(busy, 0), 1)
	return max(float64(budget)*max(1-busy, 1./leastRate), 1)
}

// debt is a leaky bucket that is paid for afterwards: the size of a reply is
// known when it has come. It holds no clock.
type debt struct {
	bytes float64
	at    time.Time
}

// burst is what may be fetched without a pause after a time of rest: in
// seconds of the rate.
const burst = 0.25

// pay takes bytes that were fetched by now, and returns how long to wait at
// this rate before the next are asked for.
func (d *debt) pay(now time.Time, bytes int, rate float64) time.Duration {
	if !d.at.IsZero() {
		d.bytes -= now.Sub(d.at).Seconds() * rate
	}
	d.at = now
	d.bytes = max(d.bytes, -burst*rate) + float64(bytes)
	if d.bytes <= 0 {
		return 0
	}
	return time.Duration(d.bytes / rate * float64(time.Second))
}

// throttle is one debt of the whole node.
type throttle struct {
	mu sync.Mutex
	debt
}

// paySlice is how long a waiting one goes by one look at the load.
const paySlice = 100 * time.Millisecond

// pay waits until what was fetched is paid for. The load is looked at again and
// again: a peak stretches the wait only while it lasts.
func (r *Repairer) pay(ctx context.Context, bytes int) error {
	for {
		now, rate := time.Now(), rate(r.cfg.RepairBytes, r.Busy())
		r.pace.mu.Lock()
		wait := r.pace.pay(now, bytes, rate)
		r.pace.mu.Unlock()
		if wait == 0 {
			return nil
		}
		bytes = 0
		if !sleep(ctx, min(wait, paySlice)) {
			return ctx.Err()
		}
	}
}

// rest is how long to leave the disk to clients after work that took so long:
// nothing when they do not need it, ten times as long when they need all.
func rest(took time.Duration, busy float64) time.Duration {
	busy = min(max(busy, 0), 10./11)
	return time.Duration(float64(took) * busy / (1 - busy))
}
