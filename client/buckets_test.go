package client_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/node/api/apitest"
)

func ExampleBuckets() {
	target, _, end := exampleCluster()
	defer end()
	ctx := context.Background()
	c := must(client.Open(ctx, target))
	defer c.Close()

	made := must(c.Buckets().Create(ctx, client.BucketInfo{Name: "carts", RequireContext: true, TTL: 24 * time.Hour}))
	made.MaxSiblings = 16
	made = must(c.Buckets().Update(ctx, made))
	made.Revision-- // as one who has not looked for a while
	_, err := c.Buckets().Update(ctx, made)
	fmt.Println(made.Revision, errors.Is(err, client.ErrRevision))
	for _, b := range must(c.Buckets().List(ctx)) {
		fmt.Println(b.Name, b.Kind, b.Revision)
	}
	// Output:
	// 1 true
	// carts mv 2
	// default mv 0
	// lww lww 0
}

func TestBucketsService(t *testing.T) {
	r := apitest.NewRegion(t, 3)
	c, err := client.Open(t.Context(), addrs(r))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	b := c.Buckets()
	want := client.BucketInfo{
		Name: "all", Kind: client.LWW, Sloppy: true, RequireContext: true, WarnSiblings: 3, MaxSiblings: 7, MaxValue: 8 << 20,
		TTL: 1500 * time.Millisecond, Home: "eu", Regions: []string{"eu", "us"},
		Reads:  client.LevelPolicy{Default: client.LocalTwo, Min: client.LocalOne, Max: client.All, Override: client.Serial},
		Writes: client.LevelPolicy{Default: client.EachQuorum, Min: client.Quorum},
	}
	made, err := b.Create(t.Context(), want)
	if err != nil || made.Changed.IsZero() || made.Revision != 1 {
		t.Fatal(made, err)
	}
	want.Revision, want.Changed = 1, made.Changed
	if d := cmp.Diff(want, made); d != "" {
		t.Error(d)
	}
	if got, err := b.Get(t.Context(), "all"); err != nil || !cmp.Equal(got, want) {
		t.Error(got, err)
	}
	for name, is := range map[string]struct {
		err  error
		want error
	}{
		"again":       {failing(b.Create(t.Context(), want)), client.ErrBucketExists},
		"no name":     {failing(b.Create(t.Context(), client.BucketInfo{})), client.ErrInvalid},
		"level":       {failing(b.Create(t.Context(), client.BucketInfo{Name: "a", Reads: client.LevelPolicy{Min: 99}})), client.ErrInvalid},
		"kind":        {failing(b.Create(t.Context(), client.BucketInfo{Name: "a", Kind: 9})), client.ErrInvalid},
		"ttl":         {failing(b.Create(t.Context(), client.BucketInfo{Name: "a", TTL: time.Microsecond})), client.ErrInvalid},
		"negative":    {failing(b.Create(t.Context(), client.BucketInfo{Name: "a", MaxValue: -1})), client.ErrInvalid},
		"too large":   {failing(b.Create(t.Context(), client.BucketInfo{Name: "a", MaxValue: 9 << 20})), client.ErrInvalid},
		"get none":    {failing(b.Get(t.Context(), "none")), client.ErrNoBucket},
		"update none": {failing(b.Update(t.Context(), client.BucketInfo{Name: "none"})), client.ErrNoBucket},
		"old":         {b.Delete(t.Context(), "all", 7), client.ErrRevision},
		"default":     {b.Delete(t.Context(), "default", 0), client.ErrInvalid},
	} {
		if !errors.Is(is.err, is.want) {
			t.Errorf("%s: %v", name, is.err)
		}
	}
	if err := b.Delete(t.Context(), "all", 1); err != nil {
		t.Error(err)
	}
	if _, err := c.In("all").Put(t.Context(), "k", nil); !errors.Is(err, client.ErrNoBucket) {
		t.Error(err)
	}
}

func failing[T any](_ T, err error) error { return err }
