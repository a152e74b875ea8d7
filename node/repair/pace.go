package repair

import (
	"context"
	"time"
)

// leastRate is the share of the budget, as a divisor, that writes which wait to
// be committed leave to repair: without it a node under load for days would
// never be whole again. urgentRate is that of a node that does not answer for all of
// its partitions, without which clients have fewer owners.
const leastRate, urgentRate = 32, 16

// rate is what may be fetched in a second, in bytes: what clients' writes leave
// of the budget, at least a 32nd of it, a 16th where it is urgent, and never nothing.
// busy is 0 to 1.
func rate(budget uint64, busy float64, urgent bool) uint64 {
	least := 1. / leastRate
	if urgent {
		least = 1. / urgentRate
	}
	busy = min(max(busy, 0), 1)
	return uint64(max(float64(budget)*max(1-busy, least), 1))
}

// pay waits until what was fetched is paid for. The load is looked at again and
// again: a peak stretches the wait only while it lasts.
func (r *Repairer) pay(ctx context.Context, bytes int) error {
	return r.pace.Pay(ctx, bytes, func() uint64 { return rate(r.cfg.RepairBytes, r.Busy(), r.Replica.BehindCount() > 0) })
}

// rest is how long to leave the disk to clients after work that took so long:
// nothing when they do not need it, ten times as long when they need all.
func rest(took time.Duration, busy float64) time.Duration {
	busy = min(max(busy, 0), 10./11)
	return time.Duration(float64(took) * busy / (1 - busy))
}
