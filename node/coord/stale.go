package coord

import (
	"errors"
	"time"

	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/replica"
	"github.com/atolldb/atoll/node/topology"
)

// An operation goes by the topology that it loaded when it began, and so does
// everybody it asks: a node that knows of a change of the partition which the
// sender does not know refuses, and so does one that is asked for more than its
// role in the partition allows. Then one of the two is behind. The coordinator
// learns what the other one knows; if that was newer, a read starts anew, a
// forwarded write is routed anew, and a record that was minted goes out again,
// to all who take it by now, and is counted from the start: acknowledgements by
// different topologies are never added up. If it was not newer, the other one
// is behind, and learns from us by itself: it is asked again after a while.

const (
	// maxTurns is how often an operation starts anew because of a topology. A
	// move changes a partition three times.
	maxTurns = 6
	// maxWaits is how often it waits for a peer that is behind, first for
	// firstWait and then twice as long each time.
	maxWaits  = 5
	firstWait = 10 * time.Millisecond
)

// stale reports whether err says that two nodes go by different topologies.
// The request had no effect.
func stale(err error) bool {
	if errors.Is(err, replica.ErrNotOwner) || errors.Is(err, replica.ErrStale) {
		return true
	}
	code := refusal(err)
	return code == peer.CodeStaleEpoch || code == peer.CodeNotOwner
}

// unaware reports whether a slot's server may have refused because it does not
// know that it took the slot over: it calls that being behind.
func unaware(s topology.Slot, err error) bool {
	return s.Moving() && (errors.Is(err, replica.ErrBehind) || refusal(err) == peer.CodeBehind)
}

func refusal(err error) peer.Code {
	if no := (*peer.Refusal)(nil); errors.As(err, &no) {
		return no.Code
	}
	return 0
}

// learn finds out what from knows, who refused something that was sent by
// topology used, and then says whether there is a newer one to go by. then runs
// at once if there is, else on another goroutine, or at once if nobody can be
// asked.
func (c *Coordinator) learn(from topology.NodeID, used topology.Epoch, then func(newer bool)) {
	c.stats.Stale.Add(1)
	if c.Topology().Epoch > used || from == c.cfg.Self || c.Learn == nil {
		then(c.Topology().Epoch > used)
		return
	}
	c.Learn(from, func() { then(c.Topology().Epoch > used) })
}

// pause is how long an operation waits before its n-th further try, and whether
// it may.
func pause(n int, deadline time.Time) (time.Duration, bool) {
	d := firstWait << n
	return d, n < maxWaits && d < time.Until(deadline)
}
