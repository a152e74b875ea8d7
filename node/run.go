package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// loop is one long-lived goroutine of a node.
type loop struct {
	name string
	run  func(context.Context) error
}

// phases are the node's loops in the order in which they stop: a phase is
// stopped, and waited for, before the next one is. Whatever feeds others stops
// before them; the replica, which writes the clean-stop marker, is last.
//
//	liveness (and that of other regions' nodes), skew, repair, hints, catalog,
//	settler, keeper, gossip, regions, steer, cuts, news,
//	copier, steward, sweeper, collector, abroad (the drains)
//	                           ask and apply, nothing depends on them
//	pump, announcer            the pump ships what is left, within its grace
//	replica                    the committer, and the clean-stop marker
//
// The gRPC servers, the peer links and the NATS connections belong to package
// process, which stops taking clients' requests before it stops Run.
func (n *Node) phases() [][]loop {
	first := []loop{{"liveness", n.alive.Run}, {"skew", skewMonitor{n}.Run}, {"repair", n.repair.Run}, {"hints", n.hints.Run}, {"catalog", n.buckets.Run}, {"settler", settler{n}.Run}}
	first = append(first, loop{"copier", n.copier.Run}, loop{"sweeper", n.sweeper.Run}, loop{"collector", n.dead.Run})
	if n.keeper != nil {
		first = append(first, loop{"keeper", n.keeper.Run}, loop{"steward", n.steward.Run}, loop{"news", n.news.Run})
	}
	if n.world != nil {
		first = append(first, loop{"liveness afar", n.afar.Run}, loop{"gossip", gossip{n, n.gossips}.Run}, loop{"regions", n.world.Run}, loop{"cuts", cuts{n, map[string]uint64{}, map[string]uint64{}, map[uint8]bool{}}.Run})
	}
	if n.steer != nil {
		first = append(first, loop{"steer", n.steer.Run})
	}
	if n.abroad != nil {
		first = append(first, loop{"abroad", n.abroad.Run})
	}
	out := [][]loop{first}
	if n.pump != nil {
		out = append(out, []loop{{"pump", n.pump.Run}, {"announcer", n.herald.Run}})
	}
	return append(out, []loop{{"replica", n.replica.Run}})
}

// Run works until ctx ends, or until a loop fails: then everything is stopped
// in order, and the error returned. After an error that wraps
// storage.ErrFailed the process must end.
func (n *Node) Run(ctx context.Context) error {
	phases := n.phases()
	failed := make(chan error, 1)
	stops := make([]context.CancelFunc, len(phases))
	waits := make([]sync.WaitGroup, len(phases))
	for i, loops := range phases {
		phase, cancel := context.WithCancel(context.WithoutCancel(ctx))
		stops[i] = cancel
		for _, l := range loops {
			waits[i].Go(func() {
				if err := l.run(phase); err != nil && !errors.Is(err, context.Canceled) {
					select {
					case failed <- fmt.Errorf("%s: %w", l.name, err):
					default:
					}
				}
			})
		}
	}
	var first error
	select {
	case <-ctx.Done():
	case first = <-failed:
	}
	for i := range phases {
		stops[i]()
		waits[i].Wait()
	}
	if first == nil {
		select {
		case first = <-failed:
		default:
		}
	}
	return first
}
