package collect

import (
	"context"
	"time"

	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/wire"
)

// A session that asks for writes which nobody has waits for as long as nobody can say
// that they are lost, and a round is what finds that out. So who has waited in vain
// has one begun, by the node whose turn it is, and not the next day.

// soughtEvery is the least time between two such rounds of a partition.
const soughtEvery = 10 * time.Second

// Sought tells that somebody has waited in vain for writes of a partition. It does not
// block.
func (c *Collector) Sought(p hashring.Partition) {
	c.mu.Lock()
	now := time.Now()
	again := now.Sub(c.soughtAt[p]) < soughtEvery
	if !again {
		c.soughtAt[p] = now
		c.sought = append(c.sought, p)
	}
	c.mu.Unlock()
	if !again {
		select {
		case c.wake <- struct{}{}:
		default: // it wakes anyway
		}
	}
}

// serveSought begins the rounds that were asked for, or has another node begin them.
func (c *Collector) serveSought(ctx context.Context) {
	c.mu.Lock()
	all := c.sought
	c.sought = nil
	c.mu.Unlock()
	for _, p := range all {
		switch {
		case ctx.Err() != nil:
			return
		case !c.mine(p):
			c.passOn(ctx, p)
		case c.rounds.Load():
			at := c.deps.Now() - c.cfg.Grace.Milliseconds()
			if f := c.deps.Replica.Floors(p); at > f.Promised.Millis() {
				c.collect(ctx, p, hlc.FromMillis(at))
			}
		}
	}
}

// passOn tells the node whose turn it is. If that does not hear it, the next one who
// waits in vain says so again.
func (c *Collector) passOn(ctx context.Context, p hashring.Partition) {
	top := c.deps.Replica.Topology()
	others, _ := c.deps.Others()
	for _, o := range others {
		if o.RegionID < top.RegionID {
			top = o
		}
	}
	if int(p) >= top.Table.Partitions() {
		return
	}
	for _, s := range top.Row(p).Slots {
		if id := s.Serves(); id != c.cfg.Self && c.deps.Alive(id) {
			_, err := peer.Call(ctx, c.deps.Transport, id, peer.Request{
				Verb: peer.VerbCollect, Timeout: c.cfg.Step, Body: wire.AppendCollect(nil, &wire.Collect{Kind: wire.CollectSought, Partition: p}),
			})
			if err == nil {
				return
			}
		}
	}
}
