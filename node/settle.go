package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/atolldb/atoll/geo/regionmap"
	"github.com/atolldb/atoll/internal/planted"
)

// What an owner has accepted of a proposal, and does not know to be decided, the next
// operation on the key finishes, or passes over. None may come; and what was decided is
// in no outbox, so no other region ever hears of it, as long as only its proposer, which
// died, knew. So owners look themselves for what has been undecided for long.
//
// Before homes leave a region that lives, its owners settle what they hold of
// proposals and do not know to be decided: all nodes of the region are asked, each
// settles its own, and tells how many are left.

const (
	// settleBeat is how often a node looks for what is undecided; settleAfter is how old
	// that is at least, longer than a proposer waits for an answer. Who is not the first
	// live server of the key, which proposes for all, leaves it to that one until
	// settleLate.
	settleBeat  = time.Second
	settleAfter = 2 * time.Second
	settleLate  = 6 * time.Second
	// settleFor bounds what a node takes for one question; less than operateTimeout.
	settleFor = 3 * time.Second
	// settleKeys is how many keys a node settles at a time.
	settleKeys = 256
)

// settleHere settles what is undecided at this node, and returns how much is left.
func (n *Node) settleHere() (int, error) {
	keys, err := n.replica.SerialUndecided(settleKeys)
	if err != nil || len(keys) == 0 {
		return len(keys), err
	}
	deadline := time.Now().Add(settleFor)
	done := make(chan struct{}, len(keys))
	for _, key := range keys {
		n.coord.Settle(key, deadline, func() { done <- struct{}{} })
	}
	for range keys {
		<-done
	}
	keys, err = n.replica.SerialUndecided(settleKeys)
	return len(keys), err
}

// settler settles what has been undecided here for long.
type settler struct{ n *Node }

// Run looks until ctx ends.
func (s settler) Run(ctx context.Context) error {
	beat := time.NewTicker(settleBeat)
	defer beat.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-beat.C:
			s.look(ctx)
		}
	}
}

// look settles some of what is undecided, and waits for the end of it. A region that
// is fenced takes nothing new: its turn comes when it counts again. Who does not know
// what time it is cannot tell what is old.
func (s settler) look(ctx context.Context) {
	n := s.n
	if m := n.RegionMap().Map; m != nil && m.State(string(n.Topology().Region)) == regionmap.Fenced || n.replica.Skewed() || planted.Bug(planted.LeaveUndecided) || planted.Bug(planted.NoSettling) {
		return
	}
	now := n.deps.HLC.Now()
	stalled := n.replica.SerialStalled(now-settleAfter.Milliseconds(), now-settleLate.Milliseconds(), settleKeys)
	done := make(chan struct{}, len(stalled))
	began, deadline := 0, time.Now().Add(settleFor)
	for _, u := range stalled {
		if !u.Old && !n.coord.Leads(u.Key) {
			continue
		}
		began++
		n.coord.Stats().Settled.Add(1)
		n.coord.Settle(u.Key, deadline, func() { done <- struct{}{} })
	}
	for range began {
		select {
		case <-ctx.Done():
			return
		case <-done:
		}
	}
}

// settleIn has all nodes of a region do so.
func (n *Node) settleIn(ctx context.Context, region string) (left int, err error) {
	ids := n.nodesOf(region)
	if len(ids) == 0 {
		return 0, fmt.Errorf("the nodes of %s are not known", region)
	}
	answers, errs := n.orderThese(ctx, ids, order{Settle: true})
	for i, a := range answers {
		switch {
		case errs[i] != nil:
			err = errors.Join(err, fmt.Errorf("%s: %w", ids[i], errs[i]))
		case a.Undecided == nil:
			err = errors.Join(err, fmt.Errorf("%s does not know how to settle: it runs an older version", ids[i]))
		default:
			left += *a.Undecided
		}
	}
	return left, err
}
