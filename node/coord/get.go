package coord

import (
	"strconv"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/node/topology"
)

// Get reads a key. Its result may be shared with other readers of the same key.
func (c *Coordinator) Get(g Get, done func(GetResult, error)) {
	c.stats.Gets.Add(1)
	c.get(&g, done, true)
}

// get refreshes the buckets at most once before it says that one is not there.
func (c *Coordinator) get(g *Get, done func(GetResult, error), refresh bool) {
	k, e := c.key(g.Bucket, g.Key, g.System)
	var w want
	var away topology.Region
	if e == nil {
		w, away, e = c.preparedGet(&k, g)
	}
	if e.unknown() && refresh && c.Refresh != nil {
		c.Refresh(g.Deadline, func(err error) {
			if err != nil {
				c.stats.Failures.Add(1)
				done(GetResult{}, unknownBucket(g.Bucket, err))
				return
			}
			c.get(g, done, false)
		})
		return
	}
	if e != nil {
		c.stats.Failures.Add(1)
		done(GetResult{}, e)
		return
	}
	if k.session != nil {
		done = c.afterGet(k, done)
	}
	if away != "" {
		c.readHome(k, w, away, g, done)
		return
	}
	r := reader{g.Deadline, done}
	if g.asksFresh() {
		c.freshly(k, w, g, done)
		return
	}
	if k.asks() {
		c.informed(k, w, r)
		return
	}
	c.plain(k.forgetful(), w, r)
}

// preparedGet checks a read and finds what it asks for, and of which region if
// another one decides.
func (c *Coordinator) preparedGet(k *key, g *Get) (w want, away topology.Region, e *Error) {
	w = chosen(k.bucket.Reads, want{level: g.Level, count: g.R, field: "r", regions: g.Regions})
	n, e := k.need(w)
	if e == nil {
		e = c.allowed(k, k.bucket.Reads, w)
	}
	g.Level, g.R, g.Regions = w.level, w.count, w.regions
	if e == nil {
		e = unservedGet(g)
	}
	if e == nil && g.Level.Consensus() && g.R != 0 {
		e = invalid("r", "0 at "+g.Level.String(), strconv.Itoa(g.R), "a majority decides")
	}
	if e == nil && w.regions != 0 {
		_, e = c.reach(k, w)
	}
	if e == nil {
		e = c.findHome(k, &w, &away)
	}
	if e == nil && g.home != 0 && (away != "" || w.home != g.home) {
		e = c.fenced(c.notHome(k, g.home), NotApplied)
	}
	if e == nil {
		e = c.knows(k, g.Session)
	}
	if e == nil {
		e = c.current(k, w, n)
	}
	return w, away, e
}

// plain reads for somebody who has seen nothing yet.
func (c *Coordinator) plain(k key, w want, r reader) {
	if n, e := k.need(w); e == nil && n == 1 && !serialOnly(w) && !w.far() && k.place(c.cfg.Self) >= 0 {
		// It costs less than to find out whether somebody else asks for it.
		c.read(k, w, r.deadline, func(rec crdt.Record, who Achieved, err *Error) {
			res, e := c.result(&k, rec, who, err)
			r.done(res, e)
		})
		return
	}
	c.joined(k, w, r)
}

// result turns what a read found into the answer for a client.
func (c *Coordinator) result(k *key, rec crdt.Record, who Achieved, err *Error) (GetResult, error) {
	if err != nil {
		c.stats.Failures.Add(1)
		return GetResult{}, err
	}
	return c.show(k, rec, who), nil
}

// show is the answer that shows a record.
func (c *Coordinator) show(k *key, rec crdt.Record, who Achieved) GetResult {
	res := GetResult{View: crdt.Read(rec, k.bucket.Kind, c.HLC.Now()), Achieved: who, rec: rec}
	if len(res.View.Live) > 1 && len(crdt.Agreements(res.View.Live)) > 1 {
		c.stats.Siblings.Add(1)
	}
	if len(rec.Versions) > 0 {
		res.Context, res.ContextOmitted = c.handOut(k, rec.Context())
	}
	if n := len(rec.Versions); n >= k.bucket.warnSiblings() && n > 1 {
		c.stats.ManySiblings.Add(1)
		res.Achieved.ManySiblings = true
	}
	return res
}
