package collect

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/internal/pause"
)

// MinGrace bounds how young a delete may be when it is collected on demand: it
// must be in the past by the clocks of all owners.
const MinGrace = time.Second

// ErrYoung says that somebody asked to collect what is too young.
var ErrYoung = fmt.Errorf("deletes are collected when they are %v old at least", MinGrace)

// Demand is a round of every partition that somebody has asked for, as far as
// this node begins them.
type Demand struct {
	Floor        hlc.Stamp
	Begun, Ended time.Time // Ended is zero while it runs
	// Partitions that this node begins rounds of; those that are Done have the
	// floor, and the others' rounds came to nothing (Off).
	Partitions, Done, Off int
}

// Runs reports whether there is something left to do.
func (d *Demand) Runs() bool { return d != nil && d.Ended.IsZero() }

// Demand has this node begin the rounds of all partitions that are its to begin,
// once, whether they are due or not, and collect what is older than grace. One
// that runs is replaced. It does not wait.
func (c *Collector) Demand(grace time.Duration) error {
	if grace < MinGrace {
		return ErrYoung
	}
	at := c.deps.Now() - grace.Milliseconds()
	if at <= 0 {
		return errors.New("deletes cannot be older than time")
	}
	c.mu.Lock()
	c.demand = &Demand{Floor: hlc.FromMillis(at), Begun: time.Now()}
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default: // it wakes anyway
	}
	return nil
}

// Demanded is how far the last demand is, nil if there was none.
func (c *Collector) Demanded() *Demand {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.demand
}

// advance replaces a demand, unless it was replaced by another since.
func (c *Collector) advance(from *Demand, to Demand) *Demand {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.demand != from {
		return nil
	}
	c.demand = &to
	return &to
}

// serveDemand works on what somebody asked for, until there is nothing left.
func (c *Collector) serveDemand(ctx context.Context) {
	for d := c.Demanded(); d.Runs() && ctx.Err() == nil; d = c.Demanded() {
		var mine []hashring.Partition
		for _, p := range c.deps.Replica.Owned() {
			if c.mine(p) {
				mine = append(mine, p)
			}
		}
		next := *d
		next.Partitions = len(mine)
		d = c.advance(d, next)
		for i, p := range mine {
			if d == nil || ctx.Err() != nil {
				break
			}
			if c.deps.Replica.Floors(p).Completed >= d.Floor || c.collect(ctx, p, d.Floor) {
				next.Done++
			} else {
				next.Off++
			}
			d = c.advance(d, next)
			if i < len(mine)-1 {
				pause.For(ctx, c.cfg.Pause)
			}
		}
		if d != nil && ctx.Err() == nil {
			next.Ended = time.Now()
			c.advance(d, next)
		}
	}
}
