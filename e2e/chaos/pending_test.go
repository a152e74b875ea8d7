//go:build chaos && linux

package chaos

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/atolldb/atoll/e2e/chaos/machine"
	"github.com/atolldb/atoll/e2e/chaos/traffic"
	adminv1 "github.com/atolldb/atoll/proto/atoll/admin/v1"
)

// pendingTime bounds how long after the last write, or the return of a node, a region
// may take to tell exactly what the other one lacks.
const pendingTime = 15 * time.Second

// TestPendingIsExact: two regions of processes are cut off from each other, and a node of
// one is killed meanwhile. What each says that the other lacks is, to the write, what its
// clients were told is written since the cut. A node that has returned has not heard the
// other region yet: of the partitions that it looks after it says that it does not know.
// When the cut has healed nothing is missing, as both see it.
func TestPendingIsExact(t *testing.T) {
	parallel(t)
	const name = "pending-is-exact"
	if why := shared.missing[machine.Cutting]; why != nil {
		shared.report.add(&result{Scenario: name, NotRun: string(machine.Cutting) + ": " + why.Error()})
		t.Skipf("NOT RUN: %s: %v", machine.Cutting, why)
	}
	r := newRig(t, name, []string{"eu", "us"}, 3)
	r.work()
	r.rest()
	r.must(r.settle(healTime))
	r.pendingIs(map[string]int{}) // it is known there, too

	r.apart()
	written := map[string]int{}
	write := func(region string, as uint16, n int) {
		b := traffic.Load(r.ctx, r.history, r.clients[region], as, n, 300)
		if b.Len() != n {
			t.Fatalf("%d of %d writes in %s were acknowledged: %v", b.Len(), n, region, b.Tally.Reasons())
		}
		written[region] += n
	}
	write("eu", 1000, 700)
	write("us", 1001, 130)
	r.pendingIs(written)
	n := r.pick("eu")
	r.fault("kill -9")
	r.kill(n)
	write("us", 1002, 70)
	r.pendingIs(written)
	r.start(n)
	r.back(n)
	write("eu", 1003, 300)
	r.pendingAtMost(written)
	r.note("each said of the other that it lacks what was acknowledged during the cut: %v", written)

	r.must(r.net.Heal())
	r.pendingIs(map[string]int{})
	r.resume()
	r.finish()
}

// pendingIs waits until each region says that the other one lacks so many of its writes.
func (r *rig) pendingIs(want map[string]int) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.ctx, pendingTime)
	defer cancel()
	for _, region := range r.Regions() {
		if err := r.eventually(ctx, func() error {
			l, err := r.out(ctx, region)
			if err == nil && (l.Pending != uint64(want[region]) || l.Unheld != l.Pending || l.UnknownPartitions+l.UnsurePartitions > 0) {
				err = fmt.Errorf("%v, and %d writes were acknowledged", l, want[region])
			}
			return err
		}); err != nil {
			r.t.Fatalf("%s: %v", region, err)
		}
	}
}

// pendingAtMost is pendingIs where some partitions may be told as not known.
func (r *rig) pendingAtMost(want map[string]int) {
	r.t.Helper()
	for _, region := range r.Regions() {
		l, err := r.out(r.ctx, region)
		r.must(err)
		if n := uint64(want[region]); l.Pending > n || l.Pending < n && l.UnknownPartitions == 0 {
			r.t.Errorf("%s: %v, and %d writes were acknowledged", region, l, n)
		}
	}
}

// out is the link from a region as that sees it itself.
func (r *rig) out(ctx context.Context, region string) (*adminv1.RegionLink, error) {
	links, err := r.Lag(ctx, r.pick(region))
	if err != nil {
		return nil, err
	}
	for _, l := range links {
		if l.Origin == region && l.SeenBy == region {
			return l, nil
		}
	}
	return nil, fmt.Errorf("no link from %s that it sees itself", region)
}
