package api

import (
	"context"
	"fmt"
	"math"
	"strconv"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/node/bucket"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/quorum"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// Buckets are the definitions of a deployment. Their errors are coord's.
type Buckets interface {
	List(ctx context.Context) (bucket.Table, error)
	Get(ctx context.Context, name string) (bucket.Definition, error)
	Create(ctx context.Context, d bucket.Definition) (bucket.Definition, error)
	// Update and Delete change a bucket that has the revision given.
	Update(ctx context.Context, d bucket.Definition) (bucket.Definition, error)
	Delete(ctx context.Context, name string, revision uint64) error
}

// BucketsService serves atoll.v1.Buckets.
type BucketsService struct {
	atollv1.UnimplementedBucketsServer
	buckets Buckets
}

// NewBucketsService serves b.
func NewBucketsService(b Buckets) *BucketsService { return &BucketsService{buckets: b} }

// within bounds a call by the deadline that operations have.
func within(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithDeadline(ctx, deadline(ctx))
}

// bucketError is err as a status. A change whose error says nothing of its
// outcome may have been made.
func bucketError(err error, change bool) error { return ToStatus(classify(err, change)).Err() }

// ListBuckets returns all buckets that are there.
func (s *BucketsService) ListBuckets(ctx context.Context, _ *atollv1.ListBucketsRequest) (*atollv1.ListBucketsResponse, error) {
	ctx, cancel := within(ctx)
	defer cancel()
	all, err := s.buckets.List(ctx)
	if err != nil {
		return nil, bucketError(err, false)
	}
	out := &atollv1.ListBucketsResponse{}
	for _, d := range all {
		out.Buckets = append(out.Buckets, BucketToProto(d))
	}
	return out, nil
}

// GetBucket returns one bucket.
func (s *BucketsService) GetBucket(ctx context.Context, q *atollv1.GetBucketRequest) (*atollv1.GetBucketResponse, error) {
	ctx, cancel := within(ctx)
	defer cancel()
	d, err := s.buckets.Get(ctx, q.Name)
	if err != nil {
		return nil, bucketError(err, false)
	}
	return &atollv1.GetBucketResponse{Bucket: BucketToProto(d)}, nil
}

// CreateBucket makes a bucket.
func (s *BucketsService) CreateBucket(ctx context.Context, q *atollv1.CreateBucketRequest) (*atollv1.CreateBucketResponse, error) {
	d, err := s.change(ctx, q.Bucket, s.buckets.Create)
	if err != nil {
		return nil, err
	}
	return &atollv1.CreateBucketResponse{Bucket: d}, nil
}

// UpdateBucket changes a bucket that has the revision given.
func (s *BucketsService) UpdateBucket(ctx context.Context, q *atollv1.UpdateBucketRequest) (*atollv1.UpdateBucketResponse, error) {
	d, err := s.change(ctx, q.Bucket, s.buckets.Update)
	if err != nil {
		return nil, err
	}
	return &atollv1.UpdateBucketResponse{Bucket: d}, nil
}

func (s *BucketsService) change(
	ctx context.Context, asked *atollv1.Bucket, do func(context.Context, bucket.Definition) (bucket.Definition, error),
) (*atollv1.Bucket, error) {
	ctx, cancel := within(ctx)
	defer cancel()
	d, bad := BucketFromProto(asked)
	if bad != nil {
		return nil, ToStatus(bad).Err()
	}
	d, err := do(ctx, d)
	if err != nil {
		return nil, bucketError(err, true)
	}
	return BucketToProto(d), nil
}

// DeleteBucket takes a bucket away that has the revision given.
func (s *BucketsService) DeleteBucket(ctx context.Context, q *atollv1.DeleteBucketRequest) (*atollv1.DeleteBucketResponse, error) {
	ctx, cancel := within(ctx)
	defer cancel()
	if err := s.buckets.Delete(ctx, q.Name, q.Revision); err != nil {
		return nil, bucketError(err, true)
	}
	return &atollv1.DeleteBucketResponse{}, nil
}

// BucketToProto is d on the wire.
func BucketToProto(d bucket.Definition) *atollv1.Bucket {
	out := &atollv1.Bucket{
		Name: d.Name, Kind: atollv1.BucketKind_BUCKET_KIND_MV, Revision: d.Revision, Stamp: uint64(d.Stamp),
		Reads: policyToProto(d.Reads), Writes: policyToProto(d.Writes), Sloppy: d.Sloppy, RequireContext: d.RequireContext,
		WarnSiblings: d.WarnSiblings, MaxSiblings: d.MaxSiblings, MaxValue: uint64(d.MaxValue), TtlMs: int64(d.TTL),
		Regions: d.Regions, HomeRegion: d.Home,
	}
	if d.Kind == crdt.LWW {
		out.Kind = atollv1.BucketKind_BUCKET_KIND_LWW
	}
	return out
}

func policyToProto(p quorum.Policy) *atollv1.LevelPolicy {
	return &atollv1.LevelPolicy{
		Default: atollv1.Level(p.Default), Min: atollv1.Level(p.Min), Max: atollv1.Level(p.Max), Override: atollv1.Level(p.Override),
	}
}

// BucketFromProto is the inverse of BucketToProto. It refuses what a Definition
// cannot say; what that may say, package bucket knows.
func BucketFromProto(b *atollv1.Bucket) (bucket.Definition, *coord.Error) {
	bad := func(field, limit string, seen any, detail string) (bucket.Definition, *coord.Error) {
		return bucket.Definition{}, &coord.Error{Code: coord.CodeInvalid, Detail: detail, Field: field, Limit: limit, Seen: fmt.Sprint(seen)}
	}
	if b == nil {
		return bad("bucket", "a definition", "none", "no bucket is given")
	}
	d := bucket.Definition{
		Name: b.Name, Revision: b.Revision, Sloppy: b.Sloppy, RequireContext: b.RequireContext,
		WarnSiblings: b.WarnSiblings, MaxSiblings: b.MaxSiblings, Regions: b.Regions, Home: b.HomeRegion,
	}
	switch b.Kind {
	case atollv1.BucketKind_BUCKET_KIND_UNSPECIFIED, atollv1.BucketKind_BUCKET_KIND_MV:
	case atollv1.BucketKind_BUCKET_KIND_LWW:
		d.Kind = crdt.LWW
	default:
		return bad("kind", "mv or lww", int(b.Kind), "no such kind")
	}
	if b.MaxValue > math.MaxUint32 {
		return bad("max_value", fmt.Sprintf("0..%d", bucket.MostValue), b.MaxValue, "max_value is out of range")
	}
	if b.TtlMs < 0 {
		return bad("ttl_ms", ">= 0", b.TtlMs, "ttl_ms is out of range")
	}
	d.MaxValue, d.TTL = uint32(b.MaxValue), uint64(b.TtlMs)
	var err *coord.Error
	if d.Reads, err = policyFromProto("reads", b.Reads); err != nil {
		return bucket.Definition{}, err
	}
	if d.Writes, err = policyFromProto("writes", b.Writes); err != nil {
		return bucket.Definition{}, err
	}
	return d, nil
}

func policyFromProto(field string, p *atollv1.LevelPolicy) (out quorum.Policy, bad *coord.Error) {
	for _, l := range []struct {
		name string
		from atollv1.Level
		to   *quorum.Level
	}{
		{"default", p.GetDefault(), &out.Default}, {"min", p.GetMin(), &out.Min},
		{"max", p.GetMax(), &out.Max}, {"override", p.GetOverride(), &out.Override},
	} {
		level, err := parseLevel(l.from)
		if err != nil {
			err.Field, err.Seen = field+"."+l.name, strconv.Itoa(int(l.from))
			return out, err
		}
		*l.to = level
	}
	return out, nil
}
