//go:build chaos && linux

package chaos

import (
	"testing"
	"time"

	"github.com/atolldb/atoll/e2e/chaos/traffic"
)

// catchUpTime is how long a node that was killed may take, after it serves
// again, until its clocks are those of the others.
const catchUpTime = 10 * time.Second

// TestReturningNodeCatchesUp: a node is killed, the others write for a minute
// (-chaos.away), and it returns. Clocks tell when it has everything; the
// clients rest meanwhile, so that there is a moment at which all are equal. It is held
// to a time, so nothing runs beside it.
func TestReturningNodeCatchesUp(t *testing.T) {
	r := newRig(t, "returning-node", []string{"eu"}, 3)
	r.work()
	n := r.pick("eu")
	r.fault("kill -9")
	r.kill(n)
	acked := r.history.Counts().Acked
	killed := time.Now()
	// Records of their own beside those that are written again and again.
	b := traffic.Load(r.ctx, r.history, r.clients["eu"], 1000, 20_000, 300)
	r.pause(max(*awayFlag-time.Since(killed), 0))
	missed := r.history.Counts().Acked - acked
	r.rest()
	began := time.Now()
	r.start(n)
	r.back(n)
	serving := time.Since(began)
	if err := r.settle(catchUpTime); err != nil {
		r.unmet("catch-up", "not caught up %v after it served: %v", catchUpTime, err)
	} else {
		r.met("catch-up")
	}
	took := time.Since(began)
	own, _, err := r.Status(r.ctx, n)
	r.must(err)
	r.note("%s was away for %v and %d acknowledged writes; it served %v after its start and had all, by clocks, after %v; %d records came by repair",
		n.ID, *awayFlag, missed, serving.Round(10*time.Millisecond), took.Round(10*time.Millisecond), own.GetRepairedKeys())
	if own.GetRepairedKeys() < uint64(b.Len()) {
		r.unmet("catch-up-repaired", "%s says that repair brought %d records of %d", n.ID, own.GetRepairedKeys(), b.Len())
	}
	r.resume()
	r.finish()
}
