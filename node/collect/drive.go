package collect

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/wire"
)

// collect runs one round to its end, and notes what came of it.
func (c *Collector) collect(ctx context.Context, p hashring.Partition, floor hlc.Stamp) {
	c.stats.Begun.Add(1)
	r, why := c.round(ctx, p, floor)
	switch {
	case ctx.Err() != nil:
	case why == "":
		c.stats.Done.Add(1)
		c.stats.Listed.Add(r.Collected())
		c.calm(p)
	default:
		c.stats.Off.Add(1)
		c.stall(p, why)
	}
}

func (c *Collector) calm(p hashring.Partition) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.stalls, p)
}

func (c *Collector) stall(p hashring.Partition, why string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, known := c.stalls[p]
	if !known {
		s = Stall{Partition: p, Since: time.Now()}
	}
	if s.Why != why {
		c.deps.Log.Debug("tombstones of a partition are not collected yet", "partition", int(p), "reason", why)
	}
	s.Why = why
	c.stalls[p] = s
}

// round asks all owners pass after pass. A pass that somebody does not answer is
// repeated until patience ends; a refusal, and any change of who the owners are,
// ends the round.
func (c *Collector) round(ctx context.Context, p hashring.Partition, floor hlc.Stamp) (r *Round, why string) {
	owners, all := c.owners(p)
	r = NewRound(ID(c.deps.Rand.Uint64()), p, floor, slices.Sorted(maps.Keys(owners)))
	if !all {
		return r, "the owners in another region are not known"
	}
	if c.moving(p) {
		return r, "the partition is being moved"
	}
	end := time.Now().Add(c.cfg.Patience)
	for !r.Ended() && ctx.Err() == nil {
		pass := r.Pass()
		if now, all := c.owners(p); !all || !maps.Equal(now, owners) {
			r.Stop("the owners have changed")
		}
		if why = c.pass(ctx, r, owners); why == "" || r.Ended() || r.Pass() != pass {
			continue
		}
		if time.Now().After(end) {
			r.Stop(why)
			return r, fmt.Sprintf("%s: %s", pass, why)
		}
		c.sleep(ctx, c.cfg.Step)
	}
	if ctx.Err() != nil {
		return r, ctx.Err().Error()
	}
	return r, r.Off()
}

// moving reports whether a slot of p is in transition, in any region.
func (c *Collector) moving(p hashring.Partition) bool {
	others, _ := c.deps.Others()
	for _, t := range append([]*topology.Topology{c.deps.Replica.Topology()}, others...) {
		row := t.Row(p)
		if row.Extra != "" {
			return true
		}
		for _, s := range row.Slots {
			if s.Moving() {
				return true
			}
		}
	}
	return false
}

// pass asks those who are not through with the round's pass, at once. It returns
// why it is not over, "" if it is or the round has ended.
func (c *Collector) pass(ctx context.Context, r *Round, owners map[topology.NodeID]topology.Region) (why string) {
	to, ask := r.Asks()
	if ask.Pass == Settle {
		if id := c.waits(ctx, ask.Partition, ask.Floor); id != "" {
			return fmt.Sprintf("something waits at %s, or it does not answer", id)
		}
	}
	type said struct {
		answer Answer
		takers []topology.NodeID
		err    error
	}
	out := make([]said, len(to))
	var asked sync.WaitGroup
	for i, id := range to {
		asked.Go(func() {
			s := &out[i]
			s.answer, s.takers, s.err = c.ask(ctx, id, ask)
		})
	}
	asked.Wait()
	for i, s := range out {
		switch {
		case s.err != nil && (passing(s.err) || ask.Pass == Complete):
			why = fmt.Sprintf("%s: %v", to[i], s.err)
		case s.err != nil:
			r.Stop(fmt.Sprintf("%s: %v", to[i], s.err))
		case ask.Pass != Complete && !sameTakers(owners, owners[to[i]], s.takers):
			r.Stop(fmt.Sprintf("%s knows of other owners", to[i]))
		default:
			if r.Answered(to[i], s.answer); ask.Pass == Settle && !s.answer.Settled {
				why = fmt.Sprintf("%s does not have all that others have, or something waits there", to[i])
			}
		}
	}
	return why
}

func sameTakers(owners map[topology.NodeID]topology.Region, region topology.Region, takers []topology.NodeID) bool {
	n := 0
	for _, in := range owners {
		if in == region {
			n++
		}
	}
	for _, id := range takers {
		if owners[id] != region {
			return false
		}
	}
	return n == len(takers)
}

// timeout of one question, within which an owner may have to read a partition.
func (c *Collector) timeout() time.Duration { return c.cfg.Patience / 4 }

func (c *Collector) ask(ctx context.Context, id topology.NodeID, q Ask) (Answer, []topology.NodeID, error) {
	if id == c.cfg.Self {
		return c.answer(q)
	}
	b, err := peer.Call(ctx, c.deps.Transport, id, peer.Request{
		Verb: peer.VerbCollect, Timeout: c.timeout(),
		Body: wire.AppendCollect(nil, &wire.Collect{
			Kind: wire.CollectPass, Partition: q.Partition, Floor: q.Floor,
			Round: uint64(q.Round), Pass: uint8(q.Pass), From: q.From, Had: q.Had, Void: q.Void,
		}),
	})
	if err != nil {
		return Answer{}, nil, err
	}
	return decodeAnswer(b, q)
}

// waits returns a node, owner or not, at which something stamped at or below floor
// waits to be given to owners, or that does not answer; "" if there is none.
func (c *Collector) waits(ctx context.Context, p hashring.Partition, floor hlc.Stamp) topology.NodeID {
	body := wire.AppendCollect(nil, &wire.Collect{Kind: wire.CollectWaiting, Partition: p, Floor: floor})
	members := c.members()
	waiting := make([]bool, len(members))
	var asked sync.WaitGroup
	for i, id := range members {
		asked.Go(func() {
			if id == c.cfg.Self {
				waiting[i] = c.ledger.Waiting(p, floor)
				return
			}
			b, err := peer.Call(ctx, c.deps.Transport, id, peer.Request{Verb: peer.VerbCollect, Timeout: c.timeout(), Body: body})
			waiting[i] = err != nil || len(b) != 1 || b[0] != 0
		})
	}
	asked.Wait()
	if i := slices.Index(waiting, true); i >= 0 {
		return members[i]
	}
	return ""
}
