package client

import (
	"context"
	"fmt"
	"time"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// Buckets are the buckets of the deployment that a Client speaks to.
type Buckets struct{ c *Client }

// Buckets lists and changes buckets. What is changed here is known to all nodes of
// the region within about a second, and in other regions when the stream has
// brought it there.
func (c *Client) Buckets() Buckets { return Buckets{c} }

// BucketKind says what becomes of concurrent writes.
type BucketKind uint8

// The kinds. A bucket's kind never changes.
const (
	// MV keeps concurrent writes beside each other, as siblings.
	MV BucketKind = iota
	// LWW shows the one with the highest stamp of the hybrid logical clocks.
	LWW
)

func (k BucketKind) String() string {
	if k == LWW {
		return "lww"
	}
	return "mv"
}

// LevelPolicy is what a bucket has to say about levels; a zero Level says nothing.
type LevelPolicy struct {
	// Default is the level of calls that ask for none.
	Default Level
	// Min and Max bound what may be asked for; ErrLevelNotAllowed otherwise.
	Min, Max Level
	// Override replaces whatever is asked for. It is the operator's.
	Override Level
}

// BucketInfo is what a bucket is like. A zero field is its default.
type BucketInfo struct {
	// Name: 1..63 of a-z, 0-9, -, _ and ., the first no dot.
	Name string
	Kind BucketKind
	// Reads and Writes say at which levels they run.
	Reads, Writes LevelPolicy
	// Sloppy makes all writes sloppy; see the option Sloppy.
	Sloppy bool
	// RequireContext refuses a Put without After where a live value is:
	// ErrContextRequired.
	RequireContext bool
	// WarnSiblings: with so many versions or more, Info.ManySiblings is set; 0 is
	// 64. MaxSiblings: a write that would leave more is ErrTooManySiblings; 2..256,
	// 0 is 256.
	WarnSiblings, MaxSiblings int
	// MaxValue in bytes, up to 8 MiB; 0 is 1 MiB.
	MaxValue int
	// TTL of puts that ask for none, in whole milliseconds; 0 is for ever.
	TTL time.Duration
	// Regions that have the bucket; none is all. Others get none of its records, and
	// refuse its clients. A change may add regions, and takes none away.
	Regions []string
	// Home is the region that decides operations at Serial.
	Home string

	// Revision counts changes. An Update is based on one. 0 is that of a bucket
	// that the nodes' configuration names, or of "default", until it is changed.
	Revision uint64
	// Changed is when that was, the zero time for never. It is not read.
	Changed time.Time
}

// List returns all buckets that are there, in order of name.
func (b Buckets) List(ctx context.Context) ([]BucketInfo, error) {
	res := &atollv1.ListBucketsResponse{}
	o := callOp("list buckets", "", false, atollv1.Buckets_ListBuckets_FullMethodName, &atollv1.ListBucketsRequest{}, res)
	if err := b.c.ask(ctx, o); err != nil {
		return nil, err
	}
	out := make([]BucketInfo, len(res.Buckets))
	for i, one := range res.Buckets {
		out[i] = bucketInfo(one)
	}
	return out, nil
}

// Get returns one bucket; ErrNoBucket if it is not there.
func (b Buckets) Get(ctx context.Context, name string) (BucketInfo, error) {
	res := &atollv1.GetBucketResponse{}
	o := callOp("get bucket", name, false, atollv1.Buckets_GetBucket_FullMethodName, &atollv1.GetBucketRequest{Name: name}, res)
	if err := b.c.ask(ctx, o); err != nil {
		return BucketInfo{}, err
	}
	return bucketInfo(res.Bucket), nil
}

// Create makes a bucket; ErrBucketExists if there is one. Where one of that name
// was deleted the new one has to be of its kind, and has its keys. Revision and
// Changed are not read.
func (b Buckets) Create(ctx context.Context, info BucketInfo) (BucketInfo, error) {
	asked, bad := bucketProto(info)
	res := &atollv1.CreateBucketResponse{}
	o := callOp("create bucket", info.Name, true, atollv1.Buckets_CreateBucket_FullMethodName, &atollv1.CreateBucketRequest{Bucket: asked}, res)
	if bad != nil {
		return BucketInfo{}, b.c.complete(bad, o, nil)
	}
	if err := b.c.ask(ctx, o); err != nil {
		return BucketInfo{}, err
	}
	return bucketInfo(res.Bucket), nil
}

// Update replaces all of a bucket but its kind, if it still has info.Revision;
// else it is ErrRevision.
func (b Buckets) Update(ctx context.Context, info BucketInfo) (BucketInfo, error) {
	asked, bad := bucketProto(info)
	res := &atollv1.UpdateBucketResponse{}
	o := callOp("update bucket", info.Name, true, atollv1.Buckets_UpdateBucket_FullMethodName, &atollv1.UpdateBucketRequest{Bucket: asked}, res)
	if bad != nil {
		return BucketInfo{}, b.c.complete(bad, o, nil)
	}
	if err := b.c.ask(ctx, o); err != nil {
		return BucketInfo{}, err
	}
	return bucketInfo(res.Bucket), nil
}

// Delete takes a bucket away, if it still has that revision. Its keys stay where
// they are; nobody can reach them until a bucket of that name is there again.
func (b Buckets) Delete(ctx context.Context, name string, revision uint64) error {
	req := &atollv1.DeleteBucketRequest{Name: name, Revision: revision}
	return b.c.ask(ctx, callOp("delete bucket", name, true, atollv1.Buckets_DeleteBucket_FullMethodName, req, &atollv1.DeleteBucketResponse{}))
}

func bucketInfo(b *atollv1.Bucket) BucketInfo {
	info := BucketInfo{
		Name: b.GetName(), Reads: levelPolicy(b.GetReads()), Writes: levelPolicy(b.GetWrites()),
		Sloppy: b.GetSloppy(), RequireContext: b.GetRequireContext(),
		WarnSiblings: int(b.GetWarnSiblings()), MaxSiblings: int(b.GetMaxSiblings()), MaxValue: int(b.GetMaxValue()),
		TTL: time.Duration(b.GetTtlMs()) * time.Millisecond, Regions: b.GetRegions(), Home: b.GetHomeRegion(),
		Revision: b.GetRevision(),
	}
	if b.GetKind() == atollv1.BucketKind_BUCKET_KIND_LWW {
		info.Kind = LWW
	}
	if s := b.GetStamp(); s != 0 {
		info.Changed = time.UnixMilli(int64(s >> 16))
	}
	return info
}

// bucketProto refuses what the wire cannot say.
func bucketProto(i BucketInfo) (*atollv1.Bucket, *Error) {
	for _, n := range []struct {
		field      string
		seen, most int
	}{{"warn_siblings", i.WarnSiblings, mostSiblings}, {"max_siblings", i.MaxSiblings, mostSiblings}, {"max_value", i.MaxValue, maxValue}} {
		if n.seen < 0 || n.seen > n.most {
			return nil, invalid(n.field, fmt.Sprintf("0..%d", n.most), fmt.Sprint(n.seen), n.field+" is out of range")
		}
	}
	switch {
	case i.TTL < 0 || i.TTL%time.Millisecond != 0:
		return nil, invalid("ttl", "whole milliseconds, >= 0", i.TTL.String(), "time to live is out of range")
	case i.Kind > LWW:
		return nil, invalid("kind", "mv or lww", fmt.Sprint(uint8(i.Kind)), "no such kind")
	}
	b := &atollv1.Bucket{
		Name: i.Name, Kind: atollv1.BucketKind_BUCKET_KIND_MV, Revision: i.Revision, Reads: i.Reads.proto(), Writes: i.Writes.proto(),
		Sloppy: i.Sloppy, RequireContext: i.RequireContext, WarnSiblings: uint32(i.WarnSiblings), MaxSiblings: uint32(i.MaxSiblings),
		MaxValue: uint64(i.MaxValue), TtlMs: i.TTL.Milliseconds(), Regions: i.Regions, HomeRegion: i.Home,
	}
	if i.Kind == LWW {
		b.Kind = atollv1.BucketKind_BUCKET_KIND_LWW
	}
	return b, nil
}

func levelPolicy(p *atollv1.LevelPolicy) LevelPolicy {
	return LevelPolicy{Level(p.GetDefault()), Level(p.GetMin()), Level(p.GetMax()), Level(p.GetOverride())}
}

func (p LevelPolicy) proto() *atollv1.LevelPolicy {
	return &atollv1.LevelPolicy{
		Default: atollv1.Level(p.Default), Min: atollv1.Level(p.Min), Max: atollv1.Level(p.Max), Override: atollv1.Level(p.Override),
	}
}
