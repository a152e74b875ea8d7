package coord

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/wire"
)

// A reader may bound how old an answer is in what other regions wrote, or ask how
// old it is. Each owner that answers says up to when it had, of the key's
// partition, all that each other region had written (geo.Fresh), before it read:
// so it is the state that answers of which that is known, not the region. Of
// several answers, which are joined, the newest time of each region counts. An
// answer that is too old is not given.

// freshBeat is how long a reader who waits for a fresh answer waits between tries:
// regions tell of their clocks every 300 ms.
const freshBeat = 100 * time.Millisecond

func (g *Get) asksFresh() bool { return g.MaxStaleness > 0 || g.Freshness }

// freshly reads for somebody who wants to know how old the answer is.
func (c *Coordinator) freshly(k key, w want, g *Get, done func(GetResult, error)) {
	k.fresh = true
	c.gather(k, w, g.Deadline, func(rec crdt.Record, who Achieved, err *Error) {
		if err == nil && g.MaxStaleness > 0 {
			err = c.tooOld(who.Freshness, g.MaxStaleness)
		}
		if err != nil && err.Code == CodeStale {
			if g.WaitFresh && time.Until(g.Deadline) > freshBeat {
				time.AfterFunc(freshBeat, func() {
					k.resolve(c.Topology())
					c.freshly(k, w, g, done)
				})
				return
			}
			c.stats.TooOld.Add(1)
		}
		res, e := c.result(&k, rec, who, err)
		if !g.Freshness {
			res.Achieved.Freshness = nil
		}
		done(res, e)
	})
}

// tooOld refuses an answer that is older than the bound in what some regions
// wrote, and names the region that is the farthest behind.
func (c *Coordinator) tooOld(fresh []Freshness, bound time.Duration) *Error {
	now := c.HLC.Now()
	var old []topology.Region
	farthest := now + 1
	for _, f := range fresh {
		if c.uncounted(f.Region) {
			continue // what it wrote is missing until it returns
		}
		if f.CompleteAsOf < now-bound.Milliseconds() {
			old = append(old, f.Region)
			farthest = min(farthest, f.CompleteAsOf)
		}
	}
	if old == nil {
		return nil
	}
	names := make([]string, len(old))
	for i, g := range old {
		names[i] = string(g)
	}
	seen := "unknown"
	if farthest > 0 {
		seen = strconv.FormatInt(now-farthest, 10)
	}
	return &Error{
		Code: CodeStale, Detail: "the answer would be too old in what was written in " + strings.Join(names, ", "),
		Field: "max_staleness_ms", Limit: strconv.FormatInt(bound.Milliseconds(), 10), Seen: seen,
		MissingFrom: old, RetryAfterMs: 300,
	}
}

// newest takes what an answer says of other regions. Called with the read's lock
// held.
func (r *read) newest(told []wire.Fresh) {
	for _, f := range told {
		i := slices.IndexFunc(r.fresh, func(x wire.Fresh) bool { return x.Region == f.Region })
		if i < 0 {
			r.fresh = append(r.fresh, f)
		} else {
			r.fresh[i].AsOf = max(r.fresh[i].AsOf, f.AsOf)
		}
	}
}

// freshness of each other region that is known here: 0 where no answer told.
func (r *read) freshness() []Freshness {
	if !r.k.fresh || r.c.Regions == nil {
		return nil
	}
	var out []Freshness
	for _, t := range r.c.Regions() {
		f := Freshness{Region: t.Region}
		for _, x := range r.fresh {
			if x.Region == uint8(t.RegionID) {
				f.CompleteAsOf = int64(min(x.AsOf, 1<<62))
			}
		}
		out = append(out, f)
	}
	return out
}
