package coord

import "github.com/atolldb/atoll/crdt"

// Get reads a key.
func (c *Coordinator) Get(g Get, done func(GetResult, error)) {
	c.stats.Gets.Add(1)
	k, e := c.key(g.Bucket, g.Key)
	if e != nil {
		done(GetResult{}, e)
		return
	}
	c.read(k, want{g.Level, g.R, "r"}, g.Deadline, func(rec crdt.Record, who Achieved, err *Error) {
		if err != nil {
			c.stats.Failures.Add(1)
			done(GetResult{}, err)
			return
		}
		res := GetResult{View: crdt.Read(rec, k.bucket.Kind, c.HLC.Now()), Achieved: who}
		if len(res.View.Live) > 1 {
			c.stats.Siblings.Add(1)
		}
		if len(rec.Versions) > 0 {
			res.Context = c.token(&k, rec.Context())
		}
		done(res, nil)
	})
}
