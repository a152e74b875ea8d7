package collect

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/internal/pause"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/wire"
)

// collect runs rounds of p until its floor is up at floor, or one of them has
// come to nothing; it reports whether it is. It is one round, unless more is dead
// than a round lists.
func (c *Collector) collect(ctx context.Context, p hashring.Partition, floor hlc.Stamp) bool {
	for next := floor; ctx.Err() == nil; {
		c.stats.Begun.Add(1)
		r, why := c.round(ctx, p, next)
		switch {
		case ctx.Err() != nil:
			return false
		case !why.None():
			c.stats.Off[why.Reason].Add(1)
			if less := c.less(p, next); why.Reason == TooMany && 0 < less && less < next {
				next = less
				continue
			}
			c.stall(p, why)
			return false
		}
		c.stats.Done.Add(1)
		c.stats.Listed.Add(r.Collected())
		c.lastDone.Store(time.Now().UnixMilli())
		if next == floor {
			c.calm(p)
			return true
		}
		next = floor
	}
	return false
}

// less is a floor below which this node has half as much dead as a round lists,
// 0 if there is none.
func (c *Collector) less(p hashring.Partition, floor hlc.Stamp) hlc.Stamp {
	stamps, err := c.ledger.DeadStamps(p, floor)
	if err != nil || len(stamps) <= c.duty.max/2 {
		return 0
	}
	slices.Sort(stamps)
	return stamps[c.duty.max/2]
}

func (c *Collector) calm(p hashring.Partition) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.stalls, p)
}

func (c *Collector) stall(p hashring.Partition, why Cause) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, known := c.stalls[p]
	if !known {
		s = Stall{Partition: p, Since: time.Now()}
	}
	if s.Why != why {
		c.deps.Log.Debug("tombstones of a partition are not collected yet", "partition", int(p), "reason", why.String())
	}
	s.Why = why
	c.stalls[p] = s
}

// round asks all owners pass after pass. A pass that somebody does not answer is
// repeated until patience ends; a refusal, a node that stays away, and any change
// of who the owners are, ends the round.
func (c *Collector) round(ctx context.Context, p hashring.Partition, floor hlc.Stamp) (r *Round, why Cause) {
	owners, all := c.owners(p)
	r = NewRound(ID(c.deps.Rand.Uint64()), p, floor, slices.Sorted(maps.Keys(owners)))
	r.Placed(func(id topology.NodeID, bucket string) bool {
		has, known := c.deps.Replica.Placed(owners[id], bucket)
		return has && known
	})
	switch {
	case !all:
		return r, Cause{Unknown, "", "the owners in another region are not known"}
	case c.moving(p):
		return r, Cause{Moving, "", "the partition is being moved"}
	}
	if id := c.missing(ctx); id != "" {
		return r, Cause{Silent, id, "it does not answer"}
	}
	end := time.Now().Add(c.cfg.Patience)
	var away time.Time // since when a node does not answer
	defer c.current.Store(nil)
	for !r.Ended() && ctx.Err() == nil {
		pass := r.Pass()
		c.current.Store(&Current{Partition: p, Pass: pass, Waits: why})
		if now, all := c.owners(p); !all || !maps.Equal(now, owners) {
			r.Stop(Cause{Moving, "", "the owners have changed"})
		}
		if why = c.pass(ctx, r, owners); why.None() || r.Ended() || r.Pass() != pass {
			away = time.Time{}
			continue
		}
		now := time.Now()
		switch {
		case why.Reason != Silent:
			away = time.Time{}
		case away.IsZero():
			away = now
		}
		gone := !away.IsZero() && now.Sub(away) >= c.cfg.Away && pass != Complete
		if gone {
			c.silent[why.Node] = true
		}
		if gone || now.After(end) {
			r.Stop(why)
			why.Detail = pass.String() + ": " + why.Detail
			return r, why
		}
		pause.For(ctx, c.cfg.Step)
	}
	return r, r.Off()
}

// missing is a node that is known not to answer, "" for none: a round would wait
// for it, and so would those of all other partitions, one after the other.
func (c *Collector) missing(ctx context.Context) topology.NodeID {
	members := c.members()
	for _, m := range members {
		if m != c.cfg.Self && !c.deps.Alive(m) {
			return m
		}
	}
	for _, id := range slices.Sorted(maps.Keys(c.silent)) {
		if slices.Contains(members, id) {
			if _, err := peer.Call(ctx, c.deps.Transport, id, peer.Request{Verb: peer.VerbPing, Timeout: c.cfg.Step}); err != nil {
				return id
			}
		}
		delete(c.silent, id)
	}
	return ""
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
// why it is not over, None if it is or the round has ended.
func (c *Collector) pass(ctx context.Context, r *Round, owners map[topology.NodeID]topology.Region) (why Cause) {
	to, ask := r.Asks()
	if ask.Pass == Settle {
		if why := c.waits(ctx, ask.Partition, ask.Floor); !why.None() {
			return why
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
			if cause := causeOf(to[i], s.err); why.Reason != Silent {
				why = cause
			}
		case s.err != nil:
			r.Stop(causeOf(to[i], s.err))
		case ask.Pass != Complete && !sameTakers(owners, owners[to[i]], s.takers):
			r.Stop(Cause{Moving, to[i], "it knows of other owners"})
		default:
			if r.Answered(to[i], s.answer); ask.Pass == Settle && !s.answer.Settled && why.None() {
				why = Cause{Lacking, to[i], "it does not have all that others have, or something waits there"}
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
			Round: uint64(q.Round), Pass: uint8(q.Pass), From: q.From, Had: q.Had, Void: q.Void, Closed: q.Closed,
		}),
	})
	if err != nil {
		return Answer{}, nil, err
	}
	return decodeAnswer(b, q)
}

// waits asks all nodes, owners or not, whether something stamped at or below floor
// waits there to be given to owners. It returns None if all say no.
func (c *Collector) waits(ctx context.Context, p hashring.Partition, floor hlc.Stamp) Cause {
	body := wire.AppendCollect(nil, &wire.Collect{Kind: wire.CollectWaiting, Partition: p, Floor: floor})
	members := c.members()
	causes := make([]Cause, len(members))
	var asked sync.WaitGroup
	for i, id := range members {
		asked.Go(func() {
			waits := false
			if id == c.cfg.Self {
				waits = c.ledger.Waiting(p, floor)
			} else {
				b, err := peer.Call(ctx, c.deps.Transport, id, peer.Request{Verb: peer.VerbCollect, Timeout: c.timeout(), Body: body})
				if err != nil {
					causes[i] = causeOf(id, err)
					return
				}
				waits = len(b) != 1 || b[0] != 0
			}
			if waits {
				causes[i] = Cause{Waiting, id, "hints, or what was given away, wait there"}
			}
		})
	}
	asked.Wait()
	for _, c := range causes {
		if !c.None() {
			return c
		}
	}
	return Cause{}
}
