package node

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Before homes leave a region that lives, its owners settle what they hold of
// proposals and do not know to be decided: all nodes of the region are asked, each
// settles its own, and tells how many are left.

const (
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
