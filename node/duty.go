package node

import (
	"context"
	"slices"
	"time"

	"github.com/atolldb/atoll/geo"
	"github.com/atolldb/atoll/node/topology"
)

const (
	// drainers are so many nodes of a region that pull the logs of the others:
	// two, so that one may be down.
	drainers = 2
	dutyBeat = time.Second
)

// onDuty says whether this node pulls the other regions' logs: the first
// members by id that it believes alive do. Nodes that disagree about who is
// alive make one puller more or, for some beats, one less: pullers share one
// place in the log, and what nobody pulls waits.
func (n *Node) onDuty() bool {
	var able []topology.NodeID
	for _, id := range n.Topology().Present() {
		if id == n.cfg.ID || n.alive.Alive(id) {
			able = append(able, id)
		}
	}
	return slices.Contains(able[:min(drainers, len(able))], n.cfg.ID)
}

// duty runs a drain while the node is on duty.
type duty struct {
	n     *Node
	drain *geo.Drain
}

// Run works until ctx ends.
func (d duty) Run(ctx context.Context) error {
	beat := time.NewTicker(dutyBeat)
	defer beat.Stop()
	for {
		if d.n.onDuty() {
			if err := d.stint(ctx, beat.C); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-beat.C:
		}
	}
}

// stint drains until the node is off duty, or ctx ends.
func (d duty) stint(ctx context.Context, beat <-chan time.Time) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- d.drain.Run(ctx) }()
	for {
		select {
		case err := <-ended:
			return err
		case <-beat:
			if !d.n.onDuty() {
				stop()
				return <-ended
			}
		}
	}
}
