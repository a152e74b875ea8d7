package catalog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/node/bucket"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/quorum"
)

// maxTries is how often a change is made anew because the record was changed
// between its read and its write.
const maxTries = 8

var errSlow = errors.New("the buckets could not be read in time")

// List returns all buckets that are there, as a read finds them.
func (c *Catalog) List(ctx context.Context) (bucket.Table, error) {
	v, _, err := c.load(ctx)
	if err != nil {
		return nil, failure(err)
	}
	return v.All(), nil
}

// Get returns one bucket, as a read finds it.
func (c *Catalog) Get(ctx context.Context, name string) (bucket.Definition, error) {
	v, _, err := c.load(ctx)
	if err != nil {
		return bucket.Definition{}, failure(err)
	}
	d, ok := v.Find(name)
	if !ok {
		return d, refusal(bucket.ErrNotFound, bucket.Definition{Name: name}, d)
	}
	return d, nil
}

// Create makes a bucket.
func (c *Catalog) Create(ctx context.Context, d bucket.Definition) (bucket.Definition, error) {
	return c.change(ctx, d, func(v bucket.View, d bucket.Definition, at hlc.Stamp) (bucket.View, bucket.Definition, error) {
		return v.Create(d, at)
	})
}

// Update changes a bucket that has the revision that d names.
func (c *Catalog) Update(ctx context.Context, d bucket.Definition) (bucket.Definition, error) {
	return c.change(ctx, d, func(v bucket.View, d bucket.Definition, at hlc.Stamp) (bucket.View, bucket.Definition, error) {
		return v.Update(d, at)
	})
}

// Delete takes a bucket away that has this revision.
func (c *Catalog) Delete(ctx context.Context, name string, revision uint64) error {
	gone := bucket.Definition{Name: name, Revision: revision}
	_, err := c.change(ctx, gone, func(v bucket.View, d bucket.Definition, at hlc.Stamp) (bucket.View, bucket.Definition, error) {
		return v.Delete(d.Name, d.Revision, at)
	})
	return err
}

type step func(bucket.View, bucket.Definition, hlc.Stamp) (bucket.View, bucket.Definition, error)

// change makes a change and returns the definition that it leaves.
func (c *Catalog) change(ctx context.Context, asked bucket.Definition, f step) (bucket.Definition, error) {
	if bad := c.regions(&asked); bad != nil {
		return asked, refusal(bad, asked, asked)
	}
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return asked, failure(ctx.Err())
	}
	for range maxTries {
		v, token, err := c.load(ctx)
		if err != nil {
			return asked, failure(err)
		}
		next, d, err := f(v, asked, c.deps.HLC.Next(0))
		if err != nil {
			return asked, refusal(err, asked, d)
		}
		err = c.write(ctx, next.Stored, token)
		var e *coord.Error
		if errors.As(err, &e) && e.Code == coord.CodeConditionFailed {
			continue
		}
		if err != nil {
			return asked, err
		}
		return c.confirm(ctx, next.Stored, d)
	}
	return asked, &coord.Error{Code: coord.CodeOverloaded, Detail: "too many changes of buckets at a time", RetryAfterMs: 100}
}

// write replaces what the context has seen.
func (c *Catalog) write(ctx context.Context, t bucket.Table, token []byte) error {
	p := coord.Put{
		Bucket: coord.SystemBucket, Key: []byte(tableKey), Value: bucket.AppendTable(nil, t), Context: token,
		Level: quorum.LocalSerial, System: true, Deadline: deadline(ctx), Condition: crdt.Condition{Kind: crdt.IfContext},
	}
	ch := make(chan error, 1)
	c.deps.Put(p, func(_ coord.PutResult, err error) { ch <- err })
	select {
	case err := <-ch:
		return err
	case <-ctx.Done():
		return &coord.Error{Code: coord.CodeDeadline, Outcome: coord.Unknown, Detail: ctx.Err().Error()}
	}
}

// confirm adopts what was written, and looks whether another change of the same
// bucket was made at the same time and is the one that holds. If it cannot look,
// the change is made all the same.
func (c *Catalog) confirm(ctx context.Context, written bucket.Table, d bucket.Definition) (bucket.Definition, error) {
	c.adopt(written)
	v, _, err := c.load(ctx)
	if err != nil {
		return d, nil //nolint:nilerr // it is written
	}
	holds, _ := v.Stored.Find(d.Name)
	if holds.Revision == d.Revision && holds.Stamp != d.Stamp {
		return holds, refusal(bucket.ErrRevision, bucket.Definition{Name: d.Name, Revision: d.Revision - 1}, holds)
	}
	return d, nil
}

// regions checks those of a definition against those that there are, and takes
// all of them as none.
func (c *Catalog) regions(d *bucket.Definition) *bucket.Problem {
	all := c.deps.Regions()
	slices.Sort(d.Regions)
	for _, r := range append(slices.Clone(d.Regions), d.Home) {
		if r != "" && !slices.Contains(all, r) {
			field := "regions"
			if r == d.Home && !slices.Contains(d.Regions, r) {
				field = "home_region"
			}
			return &bucket.Problem{Field: field, Limit: strings.Join(all, ", "), Seen: strconv.Quote(r), Detail: "there is no such region"}
		}
	}
	switch {
	case len(d.Regions) == 0:
	case slices.Equal(d.Regions, all):
		d.Regions = nil
	}
	return nil
}

// failure is what a client hears of a read that failed. Nothing was written.
func failure(err error) error {
	var e *coord.Error
	if errors.As(err, &e) {
		out := *e
		out.Detail, out.Outcome = err.Error(), coord.NotApplied
		return &out
	}
	code := coord.CodeUnavailable
	if errors.Is(err, context.DeadlineExceeded) {
		code = coord.CodeDeadline
	}
	return &coord.Error{Code: code, Detail: "read the buckets: " + err.Error()}
}

// refusal is what a client hears of a change that cannot be made.
func refusal(err error, asked, have bucket.Definition) error {
	name := strconv.Quote(asked.Name)
	if len(asked.Name) > bucket.MaxName {
		name = strconv.Quote(asked.Name[:bucket.MaxName]) + "..."
	}
	var p *bucket.Problem
	switch {
	case errors.As(err, &p):
		return &coord.Error{Code: coord.CodeInvalid, Detail: p.Detail, Field: p.Field, Limit: p.Limit, Seen: p.Seen}
	case errors.Is(err, bucket.ErrExists):
		return &coord.Error{Code: coord.CodeBucketExists, Detail: err.Error(), Field: "name", Limit: "a bucket that does not exist", Seen: name}
	case errors.Is(err, bucket.ErrNotFound):
		return &coord.Error{Code: coord.CodeNoBucket, Detail: err.Error(), Field: "name", Limit: "a bucket that exists", Seen: name}
	case errors.Is(err, bucket.ErrRevision):
		return &coord.Error{
			Code: coord.CodeRevision, Detail: err.Error(), Field: "revision",
			Limit: fmt.Sprint(have.Revision), Seen: fmt.Sprint(asked.Revision),
		}
	}
	return failure(err)
}
