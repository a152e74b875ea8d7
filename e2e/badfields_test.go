//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/session"
	"github.com/atolldb/atoll/node/fleet"
	"github.com/atolldb/atoll/node/process"
	"github.com/atolldb/atoll/node/topology"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// fields is a real node and the bad input that is tried on it.
type fields struct {
	t   *testing.T
	ctx context.Context
	kv  atollv1.KVClient
}

// TestBadFields: contexts, tokens, ids, conditions and bounds that are forged, cut
// off, too large, of another key or bucket, or out of range, over gRPC to a real
// node: each is refused with its field, and nothing has changed.
func TestBadFields(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	f := startFleet(t, ctx, fleet.Config{
		Regions: []topology.Region{"eu"}, Nodes: 1, Partitions: 16,
		Buckets: map[string]process.Bucket{"other": {Kind: "mv"}},
	})
	cc, err := grpc.NewClient("passthrough:///"+f.Endpoints("eu")[0], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cc.Close() })
	b := &fields{t, ctx, atollv1.NewKVClient(cc)}
	b.contexts()
	b.tokens()
	b.others()
}

// put writes to a bucket, with a session.
func (b *fields) put(bucket, key string) *atollv1.PutResponse {
	b.t.Helper()
	res, err := b.kv.Put(b.ctx, &atollv1.PutRequest{Bucket: bucket, Key: []byte(key), Value: []byte("kept"), Session: session.Begin()})
	if err != nil {
		b.t.Fatal(err)
	}
	return res
}

// state is all that a key shows.
func (b *fields) state(bucket, key string) string {
	b.t.Helper()
	res, err := b.kv.Get(b.ctx, &atollv1.GetRequest{Bucket: bucket, Key: []byte(key)})
	if err != nil {
		b.t.Fatal(err)
	}
	return fmt.Sprint(res.Siblings, res.DeletedConcurrently)
}

// infoOf is what an error says for programs.
func infoOf(err error) (codes.Code, *errdetails.ErrorInfo) {
	st := status.Convert(err)
	var info *errdetails.ErrorInfo
	for _, d := range st.Details() {
		if i, ok := d.(*errdetails.ErrorInfo); ok {
			info = i
		}
	}
	return st.Code(), info
}

// unsure checks the error of a retry that is bad input: that says nothing of earlier
// attempts.
func (b *fields) unsure(what, field string, err error) {
	b.t.Helper()
	_, info := infoOf(err)
	if info == nil || info.Reason != "UNKNOWN_OUTCOME" || info.Metadata["cause"] != "INVALID" || info.Metadata["field"] != field ||
		info.Metadata["limit"] == "" || info.Metadata["seen"] == "" || info.Metadata["outcome"] != "unknown" {
		b.t.Errorf("%s: %v, %+v", what, err, info)
	}
}

// refused checks an error: bad input, and of which field.
func (b *fields) refused(what, reason, field string, err error) {
	b.t.Helper()
	code, info := infoOf(err)
	if code != codes.InvalidArgument || info == nil || info.Reason != reason || info.Metadata["field"] != field ||
		info.Metadata["limit"] == "" || info.Metadata["seen"] == "" || info.Metadata["outcome"] != "not_applied" {
		b.t.Errorf("%s: %v, %+v", what, err, info)
	}
}

// spoiled are variants of bytes that a node has signed.
func spoiled(good []byte) map[string][]byte {
	out := map[string][]byte{"garbage": []byte("garbage"), "cut off": good[:len(good)-1], "longer": append(bytes.Clone(good), 0)}
	for i := range good {
		forged := bytes.Clone(good)
		forged[i] ^= 1 << (i % 8)
		out[fmt.Sprintf("forged at byte %d", i)] = forged
	}
	return out
}

func (b *fields) contexts() {
	good := b.put("", "k").Context
	b.put("", "k2")
	b.put("other", "k")
	keys := [][2]string{{"", "k"}, {"", "k2"}, {"other", "k"}}
	var before []string
	for _, k := range keys {
		before = append(before, b.state(k[0], k[1]))
	}
	try := func(what, bucket, key string, c []byte) {
		b.t.Helper()
		_, err := b.kv.Put(b.ctx, &atollv1.PutRequest{Bucket: bucket, Key: []byte(key), Value: []byte("x"), Context: c})
		b.refused("put with a context "+what, "BAD_CONTEXT", "context", err)
		_, err = b.kv.Delete(b.ctx, &atollv1.DeleteRequest{Bucket: bucket, Key: []byte(key), Context: c})
		b.refused("delete with a context "+what, "BAD_CONTEXT", "context", err)
	}
	for what, c := range spoiled(good) {
		try(what, "", "k", c)
	}
	try("of another key", "", "k2", good)
	try("of another bucket", "other", "k", good)
	try("that is too large", "", "k", bytes.Repeat(good, crdt.MaxContext/len(good)+1))
	batch, err := b.kv.BatchPut(b.ctx, &atollv1.BatchPutRequest{Items: []*atollv1.PutRequest{{Key: []byte("k2"), Value: []byte("x"), Context: good}}})
	if err != nil || batch.Results[0].GetError().GetReason() != atollv1.Reason_REASON_BAD_CONTEXT {
		b.t.Errorf("in a batch: %v, %v", batch, err)
	}
	for i, k := range keys {
		if now := b.state(k[0], k[1]); now != before[i] {
			b.t.Errorf("%v was %s and is %s", k, before[i], now)
		}
	}
	// The good one is good, where it belongs.
	if _, err := b.kv.Put(b.ctx, &atollv1.PutRequest{Key: []byte("k"), Value: []byte("new"), Context: good}); err != nil {
		b.t.Error(err)
	}
}

func (b *fields) tokens() {
	res := b.put("", "s")
	good, before := res.Session, b.state("", "s")
	foreign := &session.Part{Place: session.PlaceOf(0, 4)}
	foreign.Saw(crdt.Dot{Actor: 65, N: 1}, 1)
	sealed, _ := foreign.Seal(crdt.Keys{crdt.Secret("that of another deployment")})
	bad := spoiled(good)
	bad["of another deployment"] = session.Compose([]session.Piece{sealed})
	bad["that is a context"] = res.Context
	bad["that is too large"] = append(bytes.Clone(good), bytes.Repeat(good[1:], session.MaxSent/(len(good)-1)+1)...)
	for what, token := range bad {
		_, err := b.kv.Get(b.ctx, &atollv1.GetRequest{Key: []byte("s"), Session: token})
		b.refused("get with a token "+what, "BAD_SESSION", "session", err)
		_, err = b.kv.Put(b.ctx, &atollv1.PutRequest{Key: []byte("s"), Value: []byte("x"), Session: token})
		b.refused("put with a token "+what, "BAD_SESSION", "session", err)
		_, err = b.kv.Delete(b.ctx, &atollv1.DeleteRequest{Key: []byte("s"), Session: token})
		b.refused("delete with a token "+what, "BAD_SESSION", "session", err)
		_, err = b.kv.AwaitReplication(b.ctx, &atollv1.AwaitReplicationRequest{Session: token})
		b.refused("await with a token "+what, "BAD_SESSION", "session", err)
	}
	if now := b.state("", "s"); now != before {
		b.t.Errorf("it was %s and is %s", before, now)
	}
	// Tokens are of no bucket: one is good in each.
	if _, err := b.kv.Get(b.ctx, &atollv1.GetRequest{Bucket: "other", Key: []byte("s"), Session: good}); err != nil {
		b.t.Error(err)
	}
}

func (b *fields) others() {
	b.put("", "o")
	before, k := b.state("", "o"), []byte("o")
	put := func(change func(*atollv1.PutRequest)) error {
		r := &atollv1.PutRequest{Key: k, Value: []byte("x")}
		change(r)
		_, err := b.kv.Put(b.ctx, r)
		return err
	}
	get := func(change func(*atollv1.GetRequest)) error {
		r := &atollv1.GetRequest{Key: k}
		change(r)
		_, err := b.kv.Get(b.ctx, r)
		return err
	}
	del := func(change func(*atollv1.DeleteRequest)) error {
		r := &atollv1.DeleteRequest{Key: k}
		change(r)
		_, err := b.kv.Delete(b.ctx, r)
		return err
	}
	ids := map[string][]byte{"short": make([]byte, 15), "long": make([]byte, 17)}
	for what, id := range ids {
		b.refused("a request id that is "+what, "INVALID", "request_id", put(func(r *atollv1.PutRequest) { r.RequestId = id }))
		_, err := b.kv.Delete(b.ctx, &atollv1.DeleteRequest{Key: k, RequestId: id})
		b.refused("a delete's request id that is "+what, "INVALID", "request_id", err)
		_, err = b.kv.GetOutcome(b.ctx, &atollv1.GetOutcomeRequest{Key: k, RequestId: id})
		b.refused("the outcome of a request id that is "+what, "INVALID", "request_id", err)
	}
	_, err := b.kv.GetOutcome(b.ctx, &atollv1.GetOutcomeRequest{Key: k})
	b.refused("the outcome of nothing", "INVALID", "request_id", err)
	b.refused("a retry of nothing", "INVALID", "request_id", put(func(r *atollv1.PutRequest) { r.Retry = true }))
	for _, level := range []atollv1.Level{-1, 11, 1 << 20} {
		b.refused("a put's level", "INVALID", "level", put(func(r *atollv1.PutRequest) { r.Level = level }))
		b.refused("a get's level", "INVALID", "level", get(func(r *atollv1.GetRequest) { r.Level = level }))
		b.refused("a delete's level", "INVALID", "level", del(func(r *atollv1.DeleteRequest) { r.Level = level }))
	}
	for _, n := range []uint32{2, 1<<32 - 1} {
		b.refused("w", "INVALID", "w", put(func(r *atollv1.PutRequest) { r.W = n }))
		b.refused("r", "INVALID", "r", get(func(r *atollv1.GetRequest) { r.R = n }))
		b.refused("a put's regions", "INVALID", "regions", put(func(r *atollv1.PutRequest) { r.Regions = n }))
		b.refused("a get's regions", "INVALID", "regions", get(func(r *atollv1.GetRequest) { r.Regions = n }))
		b.refused("a delete's w", "INVALID", "w", del(func(r *atollv1.DeleteRequest) { r.W = n }))
		b.refused("a delete's regions", "INVALID", "regions", del(func(r *atollv1.DeleteRequest) { r.Regions = n }))
		_, err := b.kv.AwaitReplication(b.ctx, &atollv1.AwaitReplicationRequest{Session: session.Begin(), Regions: n})
		b.refused("regions of await", "INVALID", "regions", err)
	}
	id := crdt.MakeRequestID(time.Now().UnixMilli(), [10]byte{1})
	b.refused("a put that was tried nowhere", "INVALID", "tried_in", put(func(r *atollv1.PutRequest) { r.RequestId, r.TriedIn = id[:], []string{"eu"} }))
	b.refused("a delete that was tried nowhere", "INVALID", "tried_in", del(func(r *atollv1.DeleteRequest) { r.RequestId, r.TriedIn = id[:], []string{"eu"} }))
	many := slices.Repeat([]string{"eu"}, 17)
	b.unsure("a put that was tried in too many regions", "tried_in", put(func(r *atollv1.PutRequest) { r.RequestId, r.Retry, r.TriedIn = id[:], true, many }))
	b.unsure("a delete that was tried in too many regions", "tried_in", del(func(r *atollv1.DeleteRequest) { r.RequestId, r.Retry, r.TriedIn = id[:], true, many }))
	b.refused("a delete's retry of nothing", "INVALID", "request_id", del(func(r *atollv1.DeleteRequest) { r.Retry = true }))
	b.refused("waiting for nothing", "INVALID", "wait_fresh", get(func(r *atollv1.GetRequest) { r.WaitFresh = true }))
	b.refused("staleness by consensus", "INVALID", "max_staleness_ms", get(func(r *atollv1.GetRequest) { r.MaxStalenessMs, r.Level = 1000, atollv1.Level_LEVEL_LOCAL_SERIAL }))
	b.refused("a bound of staleness", "INVALID", "max_staleness_ms", get(func(r *atollv1.GetRequest) { r.MaxStalenessMs = -1 }))
	b.refused("a time to live", "INVALID", "ttl_ms", put(func(r *atollv1.PutRequest) { r.TtlMs = 1<<63 - 1 }))
	for _, d := range []*atollv1.Version{{}, {Actor: 65}, {N: 1}} {
		b.refused("a condition's version", "INVALID", "condition.if_version", put(func(r *atollv1.PutRequest) {
			r.Condition = &atollv1.Condition{Condition: &atollv1.Condition_IfVersion{IfVersion: d}}
		}))
		b.refused("a delete's condition's version", "INVALID", "condition.if_version", del(func(r *atollv1.DeleteRequest) {
			r.Condition = &atollv1.Condition{Condition: &atollv1.Condition_IfVersion{IfVersion: d}}
		}))
		_, err := b.kv.GetVersion(b.ctx, &atollv1.GetVersionRequest{Key: k, Version: d})
		b.refused("a version that is none", "INVALID", "version", err)
	}
	_, err = b.kv.AwaitReplication(b.ctx, &atollv1.AwaitReplicationRequest{Session: session.Begin(), Level: atollv1.Level_LEVEL_LOCAL_ONE})
	b.refused("a level of await", "INVALID", "level", err)
	if now := b.state("", "o"); now != before {
		b.t.Errorf("it was %s and is %s", before, now)
	}
	if all := []string{b.state("", "s"), b.state("", "o")}; slices.Contains(all, "[] false") {
		b.t.Errorf("something is gone: %q", all)
	}
}
