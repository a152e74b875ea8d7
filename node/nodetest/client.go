package nodetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/internal/pause"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/quorum"
)

// client runs operations one after the other against any node of one region.
// It remembers contexts, so that it also writes with stale ones.
type client struct {
	w      *World
	name   string
	region int
	rng    *rand.Rand
	keys   []string
	levels []quorum.Level // of writes
	// held is the last context by key and what it covers.
	held map[string]token
}

type token struct {
	bytes []byte
	seen  map[crdt.Dot]bool
}

func (w *World) client(i, region int, keys []string) *client {
	return &client{w: w, name: fmt.Sprint("c", i), region: region, keys: keys, levels: writeLevels, held: map[string]token{},
		rng: rand.New(rand.NewPCG(w.seed, uint64(100+i)))}
}

// run works until ctx ends.
func (c *client) run(ctx context.Context) {
	think := 200 * time.Millisecond
	if f := c.w.shape.Focus; f != nil {
		think = f.think
	}
	for ctx.Err() == nil {
		c.step(ctx)
		pause.For(ctx, time.Millisecond+time.Duration(c.rng.Int64N(int64(think))))
	}
}

var writeLevels = []quorum.Level{quorum.LocalOne, quorum.LocalQuorum, quorum.LocalQuorum, quorum.LocalQuorum, quorum.LocalAll, quorum.Default}
var readLevels = []quorum.Level{quorum.LocalOne, quorum.LocalQuorum, quorum.LocalQuorum, quorum.LocalAll}

func (c *client) step(ctx context.Context) {
	node := c.coordinator()
	if node == nil {
		return
	}
	key := c.keys[c.rng.IntN(len(c.keys))]
	switch n := c.rng.IntN(100); {
	case n < 35:
		c.get(node, key)
	case n < 60:
		c.put(ctx, node, key, token{}, false) // blind
	case n < 70:
		c.put(ctx, node, key, c.held[key], false) // perhaps stale
	case n < 90 && !(c.w.shape.Collect && n >= 72): // there, more is deleted
		if t, ok := c.get(node, key); ok {
			c.put(ctx, node, key, t, false)
		}
	default:
		if t, ok := c.get(node, key); ok {
			c.put(ctx, node, key, t, true)
		}
	}
}

// reached counts the regions that a write's answer tells of.
func reached(a *coord.Achieved) (n int) {
	for _, r := range a.Regions {
		if r.State == coord.RegionReached {
			n++
		}
	}
	return n
}

// coordinator returns a running node of the region, or nil.
func (c *client) coordinator() *coord.Coordinator { return c.coordinatorIn(c.region) }

func (c *client) coordinatorIn(region int) *coord.Coordinator {
	var up []*run
	for _, m := range c.w.all() {
		if r := m.running.Load(); m.region == region && r != nil {
			up = append(up, r)
		}
	}
	if len(up) == 0 {
		return nil
	}
	return up[c.rng.IntN(len(up))].node.Coordinator()
}

func (c *client) get(node *coord.Coordinator, key string) (token, bool) {
	type outcome struct {
		res coord.GetResult
		err error
	}
	done := make(chan outcome, 1)
	g := coord.Get{Key: []byte(key), Level: readLevels[c.rng.IntN(len(readLevels))], Deadline: time.Now().Add(2 * time.Second)}
	owed, began := c.w.hist.owed(c.region, key), time.Since(c.w.start)
	node.Get(g, func(r coord.GetResult, err error) { done <- outcome{r, err} })
	select {
	case o := <-done:
		if o.err != nil {
			return token{}, false
		}
		t := token{bytes: o.res.Context, seen: c.w.hist.saw(key, o.res.View.Live)}
		if g.Level != quorum.LocalOne && !c.w.lied(key) {
			ctx, err := crdt.DecodeContext(crdt.Keys{secret}, fullKey(key), o.res.Context)
			if err != nil {
				c.w.t.Errorf("context for %s: %v", key, err)
			}
			a := &o.res.Achieved
			c.w.hist.meets(key, owed, ctx.Seen, fmt.Sprintf("%s at %v (asked at %v of %s, level %v, answered by %v)", c.name, time.Since(c.w.start), began, a.Coordinator, a.Level, a.Replicas))
		}
		c.held[key] = t
		return t, true
	case <-time.After(30 * time.Second):
		c.w.t.Errorf("get of %s by %s never answered", key, c.name)
		return token{}, false
	}
}

func (c *client) put(ctx context.Context, node *coord.Coordinator, key string, t token, deletes bool) {
	if deletes && len(t.bytes) == 0 {
		return // without a context a delete reads by itself, and we would not know what
	}
	level := c.levels[c.rng.IntN(len(c.levels))]
	p := coord.Put{Key: []byte(key), Context: t.bytes, Level: level, Delete: deletes, Sloppy: c.rng.IntN(8) == 0, Deadline: time.Now().Add(2 * time.Second)}
	wr := c.w.hist.begin(key, deletes, maps.Clone(t.seen), fmt.Sprintf("%s at %v", c.name, time.Since(c.w.start)))
	p.Value = []byte(wr.value)
	o, answered := c.attempts(ctx, node, p, wr)
	if !answered {
		c.w.hist.end(wr, unknown, crdt.Dot{})
		return
	}
	var e *coord.Error
	switch {
	case o.err == nil:
		// A hint is on the disk of one stand-in, and no quorum of owners has it.
		wr.single = level == quorum.LocalOne || len(o.res.Achieved.Hinted) > 0
		wr.wide = level == quorum.EachQuorum && reached(&o.res.Achieved) > 1
		c.w.hist.end(wr, acked, o.res.Version)
		if !wr.single {
			c.w.hist.atQuorum(o.region, key, o.res.Version)
		}
		seen := maps.Clone(wr.seen)
		if seen == nil {
			seen = map[crdt.Dot]bool{}
		}
		seen[o.res.Version] = true
		c.held[key] = token{bytes: o.res.Context, seen: seen}
	case errors.As(o.err, &e) && e.Outcome == coord.NotApplied:
		c.w.hist.end(wr, refused, crdt.Dot{})
	default:
		c.w.hist.end(wr, unknown, crdt.Dot{})
	}
}
