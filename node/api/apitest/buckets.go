package apitest

import (
	"context"
	"errors"
	"strconv"
	"sync"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/node/bucket"
	"github.com/atolldb/atoll/node/coord"
)

// Buckets of a region in memory; all nodes know them at once.
type Buckets struct {
	clock *hlc.Clock
	mu    sync.Mutex
	view  bucket.View
}

func newBuckets(clock *hlc.Clock) *Buckets {
	return &Buckets{clock: clock, view: bucket.View{Floor: bucket.Table{{Name: LWWBucket, Kind: crdt.LWW}}}}
}

func (b *Buckets) find(name string) (bucket.Definition, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.view.Find(name)
}

// List implements api.Buckets.
func (b *Buckets) List(context.Context) (bucket.Table, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.view.All(), nil
}

// Get implements api.Buckets.
func (b *Buckets) Get(_ context.Context, name string) (bucket.Definition, error) {
	d, ok := b.find(name)
	if !ok {
		return d, refused(bucket.ErrNotFound, name)
	}
	return d, nil
}

// Create implements api.Buckets.
func (b *Buckets) Create(_ context.Context, d bucket.Definition) (bucket.Definition, error) {
	return b.change(d.Name, func(v bucket.View) (bucket.View, bucket.Definition, error) { return v.Create(d, b.clock.Next(0)) })
}

// Update implements api.Buckets.
func (b *Buckets) Update(_ context.Context, d bucket.Definition) (bucket.Definition, error) {
	return b.change(d.Name, func(v bucket.View) (bucket.View, bucket.Definition, error) { return v.Update(d, b.clock.Next(0)) })
}

// Delete implements api.Buckets.
func (b *Buckets) Delete(_ context.Context, name string, revision uint64) error {
	_, err := b.change(name, func(v bucket.View) (bucket.View, bucket.Definition, error) {
		return v.Delete(name, revision, b.clock.Next(0))
	})
	return err
}

func (b *Buckets) change(name string, f func(bucket.View) (bucket.View, bucket.Definition, error)) (bucket.Definition, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	next, d, err := f(b.view)
	if err != nil {
		return d, refused(err, name)
	}
	b.view = next
	return d, nil
}

func refused(err error, name string) error {
	e := &coord.Error{Code: coord.CodeInvalid, Detail: err.Error(), Field: "name", Seen: strconv.Quote(name)}
	var p *bucket.Problem
	switch {
	case errors.As(err, &p):
		e.Detail, e.Field, e.Limit, e.Seen = p.Detail, p.Field, p.Limit, p.Seen
	case errors.Is(err, bucket.ErrExists):
		e.Code = coord.CodeBucketExists
	case errors.Is(err, bucket.ErrNotFound):
		e.Code = coord.CodeNoBucket
	case errors.Is(err, bucket.ErrRevision):
		e.Code, e.Field, e.Seen = coord.CodeRevision, "revision", ""
	}
	return e
}
