package api_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/node/api"
	"github.com/atolldb/atoll/node/api/apitest"
	"github.com/atolldb/atoll/node/coord"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

func dial(t *testing.T, n *apitest.Node) *grpc.ClientConn {
	t.Helper()
	cc, err := grpc.NewClient(n.Addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(api.MaxSend)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cc.Close() })
	return cc
}

func one(t *testing.T) (*apitest.Region, *apitest.Node, atollv1.KVClient) {
	t.Helper()
	r := apitest.NewRegion(t, 1)
	return r, r.Nodes[0], atollv1.NewKVClient(dial(t, r.Nodes[0]))
}

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestReadShowsSiblingsAndTheirRegions(t *testing.T) {
	r, _, kv := one(t)
	ctx := testContext(t)
	r.Store.Blind("", "k", crdt.MakeActor(1, 1), "from eu")
	r.Store.Blind("", "k", crdt.MakeActor(1, 2), "from elsewhere")

	got, err := kv.Get(ctx, &atollv1.GetRequest{Key: []byte("k")})
	if err != nil {
		t.Fatal(err)
	}
	var seen []string
	for _, s := range got.Siblings {
		seen = append(seen, s.Region+": "+string(s.Value))
	}
	if d := cmp.Diff([]string{"eu: from eu", "region-2: from elsewhere"}, seen); d != "" {
		t.Fatal(d)
	}
	a := got.Achieved
	if a.Region != "eu" || a.Coordinator != "n1" || a.Needed != 1 || a.Level != atollv1.Level_LEVEL_LOCAL_QUORUM {
		t.Errorf("achieved %v", a)
	}

	put, err := kv.Put(ctx, &atollv1.PutRequest{Key: []byte("k"), Value: []byte("both"), Context: got.Context})
	if err != nil {
		t.Fatal(err)
	}
	got, err = kv.Get(ctx, &atollv1.GetRequest{Key: []byte("k")})
	if err != nil || len(got.Siblings) != 1 || got.Siblings[0].Stamp != put.Stamp {
		t.Fatalf("after a write with the context: %v, %v", got, err)
	}
	if _, err := kv.Delete(ctx, &atollv1.DeleteRequest{Key: []byte("k"), Context: got.Context}); err != nil {
		t.Fatal(err)
	}
	got, err = kv.Get(ctx, &atollv1.GetRequest{Key: []byte("k")})
	if err != nil || len(got.Siblings) != 0 || len(got.Context) == 0 {
		t.Fatalf("after the delete: %v, %v", got, err)
	}
}

// Siblings with the same value are one, which names the others; what is written after
// it replaces them all, and a condition on one alone does not hold.
func TestEqualSiblingsAreOne(t *testing.T) {
	r, _, kv := one(t)
	ctx := testContext(t)
	first := r.Store.Blind("", "k", crdt.MakeActor(1, 1), "same")
	r.Store.Blind("", "k", crdt.MakeActor(1, 2), "other")
	last := r.Store.Blind("", "k", crdt.MakeActor(2, 2), "same")
	get := func() *atollv1.GetResponse {
		t.Helper()
		got, err := kv.Get(ctx, &atollv1.GetRequest{Key: []byte("k")})
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	got := get()
	if len(got.Siblings) != 2 || string(got.Siblings[0].Value) != "same" || string(got.Siblings[1].Value) != "other" || len(got.Siblings[1].Equals) != 0 {
		t.Fatalf("%v", got.Siblings)
	}
	dot := func(v *atollv1.Version) crdt.Dot { return crdt.Dot{Actor: crdt.Actor(v.Actor), N: v.N} }
	if s := got.Siblings[0]; dot(s.Version) != last || len(s.Equals) != 1 || dot(s.Equals[0]) != first {
		t.Fatalf("%v", s)
	}
	for _, d := range []crdt.Dot{first, last} {
		v, err := kv.GetVersion(ctx, &atollv1.GetVersionRequest{Key: []byte("k"), Version: &atollv1.Version{Actor: uint32(d.Actor), N: d.N}})
		if err != nil || string(v.Sibling.Value) != "same" {
			t.Errorf("%v by itself: %v, %v", d, v, err)
		}
	}
	put := func(value string, context []byte, c *atollv1.Condition) error {
		_, err := kv.Put(ctx, &atollv1.PutRequest{Key: []byte("k"), Value: []byte(value), Context: context, Condition: c})
		return err
	}
	if err := put("same", got.Context, nil); err != nil {
		t.Fatal(err)
	}
	r.Store.Blind("", "k", crdt.MakeActor(1, 2), "same")
	got = get()
	if len(got.Siblings) != 1 || len(got.Siblings[0].Equals) != 1 {
		t.Fatalf("%v", got.Siblings)
	}
	if err := put("x", nil, &atollv1.Condition{Condition: &atollv1.Condition_IfVersion{IfVersion: got.Siblings[0].Version}}); !strings.Contains(fmt.Sprint(err), "condition does not hold") {
		t.Errorf("a condition on one of two equals: %v", err)
	}
	if err := put("x", got.Context, nil); err != nil {
		t.Fatal(err)
	}
	if got = get(); len(got.Siblings) != 1 || string(got.Siblings[0].Value) != "x" || len(got.Siblings[0].Equals) != 0 {
		t.Errorf("%v", got.Siblings)
	}
}

func TestFieldsReachTheCoordinator(t *testing.T) {
	_, n, kv := one(t)
	ctx := testContext(t)
	var op apitest.Op
	n.SetFault(func(o apitest.Op) apitest.Fault { op = o; return apitest.Fault{} })

	put := &atollv1.PutRequest{
		Bucket: "lww", Key: []byte("k"), Value: []byte("v"), Level: atollv1.Level_LEVEL_LOCAL_ONE,
		W: 1, TtlMs: 90_000, Overwrite: true, Sloppy: true,
	}
	if _, err := kv.Put(ctx, put); err != nil {
		t.Fatal(err)
	}
	p := op.Put
	if p.Bucket != "lww" || string(p.Key) != "k" || string(p.Value) != "v" || p.Level != 1 || p.W != 1 ||
		p.TTL != 90*time.Second || !p.Overwrite || !p.Sloppy || p.Delete {
		t.Errorf("put %+v", p)
	}
	if _, err := kv.Delete(ctx, &atollv1.DeleteRequest{Key: []byte("d"), W: 1, Sloppy: true}); err != nil {
		t.Fatal(err)
	}
	if p := op.Put; !p.Delete || string(p.Key) != "d" || p.W != 1 || !p.Sloppy {
		t.Errorf("delete %+v", p)
	}
	if _, err := kv.Get(ctx, &atollv1.GetRequest{Key: []byte("g"), R: 1, Level: 5}); err != nil {
		t.Fatal(err)
	}
	if g := op.Get; string(g.Key) != "g" || g.R != 1 || g.Level != 5 {
		t.Errorf("get %+v", g)
	}
}

func TestDeadlines(t *testing.T) {
	_, n, kv := one(t)
	var at time.Time
	n.SetFault(func(o apitest.Op) apitest.Fault { at = o.Get.Deadline; return apitest.Fault{} })
	for _, c := range []struct {
		name string
		ask  time.Duration // 0: none
		want time.Duration
	}{
		{"none", 0, 2 * time.Second},
		{"given", 10 * time.Second, 10 * time.Second},
		{"too long", time.Hour, time.Minute},
	} {
		ctx := t.Context()
		cancel := func() {}
		if c.ask > 0 {
			ctx, cancel = context.WithTimeout(ctx, c.ask)
		}
		before := time.Now()
		if _, err := kv.Get(ctx, &atollv1.GetRequest{Key: []byte("k")}); err != nil {
			t.Fatal(err)
		}
		after := time.Now()
		cancel()
		// A deadline travels as a duration, rounded up to a short decimal.
		if at.Before(before.Add(c.want-time.Second)) || at.After(after.Add(c.want+time.Second)) {
			t.Errorf("%s: unary deadline in %v, want %v", c.name, at.Sub(before), c.want)
		}
		before = time.Now()
		res := overStream(t, kv, &atollv1.StreamCall{
			TimeoutMs: uint32(c.ask.Milliseconds()),
			Op:        &atollv1.StreamCall_Get{Get: &atollv1.GetRequest{Key: []byte("k")}},
		})
		if res.GetError() != nil {
			t.Fatal(res)
		}
		if at.Before(before.Add(c.want)) || at.After(time.Now().Add(c.want)) {
			t.Errorf("%s: stream deadline in %v, want %v", c.name, at.Sub(before), c.want)
		}
	}
}

// A call that ends before the coordinator's answer says all that is not known: of a
// retry also whether it was a second event.
func TestOverdueWritesSayWhatIsNotKnown(t *testing.T) {
	_, n, _ := one(t)
	gate := make(chan struct{})
	defer close(gate)
	// Each call has a context of its own, which ends when the coordinator has the call:
	// what never got there was not carried out, and says so.
	var end context.CancelFunc
	begin := func() (ctx context.Context) {
		ctx, end = context.WithCancel(t.Context())
		return ctx
	}
	n.SetFault(func(apitest.Op) apitest.Fault {
		end()
		return apitest.Fault{Hold: gate}
	})
	id := bytes.Repeat([]byte{7}, 16)
	for _, retry := range []bool{false, true} {
		_, put := n.KV.Put(begin(), &atollv1.PutRequest{Key: []byte("k"), Value: []byte("v"), RequestId: id, Retry: retry})
		_, del := n.KV.Delete(begin(), &atollv1.DeleteRequest{Key: []byte("k"), RequestId: id, Retry: retry})
		for what, err := range map[string]error{"put": put, "delete": del} {
			if e := statusError(t, err); e.Outcome != coord.Unknown || e.MaybeDuplicate != retry {
				t.Errorf("%s, a retry %v: outcome %v, may be there twice: %v", what, retry, e.Outcome, e.MaybeDuplicate)
			}
		}
	}
}

// overStream makes one call on a stream of its own.
func overStream(t *testing.T, kv atollv1.KVClient, call *atollv1.StreamCall) *atollv1.StreamReply {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	s, err := kv.Stream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Send(&atollv1.StreamRequest{Calls: []*atollv1.StreamCall{call}}); err != nil {
		t.Fatal(err)
	}
	res, err := s.Recv()
	if err != nil {
		t.Fatal(err)
	}
	if len(res.Replies) != 1 || res.Replies[0].Id != call.Id {
		t.Fatalf("asked one call, got %v", res)
	}
	return res.Replies[0]
}

func statusError(t *testing.T, err error) *coord.Error {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	e, ok := api.FromStatus(status.Convert(err))
	if !ok {
		t.Fatalf("not an error of atoll: %v", err)
	}
	return e
}

// TestErrorsLookAlikeEverywhere makes each error as a unary reply, as an item
// of a batch and as a reply on a stream.
func TestErrorsLookAlikeEverywhere(t *testing.T) {
	_, n, kv := one(t)
	ctx := testContext(t)
	cases := []struct {
		name  string
		get   *atollv1.GetRequest
		put   *atollv1.PutRequest
		fault error
		want  coord.Error
	}{
		{
			name: "level", get: &atollv1.GetRequest{Key: []byte("k"), Level: 11},
			put:  &atollv1.PutRequest{Key: []byte("k"), Level: 11},
			want: coord.Error{Code: coord.CodeInvalid, Field: "level", Limit: "0..10", Seen: "11"},
		},
		{
			name: "negative level", get: &atollv1.GetRequest{Key: []byte("k"), Level: -1},
			want: coord.Error{Code: coord.CodeInvalid, Field: "level", Limit: "0..10", Seen: "-1"},
		},
		{
			name: "level above a byte", get: &atollv1.GetRequest{Key: []byte("k"), Level: 257},
			want: coord.Error{Code: coord.CodeInvalid, Field: "level", Limit: "0..10", Seen: "257"},
		},
		{
			name: "r", get: &atollv1.GetRequest{Key: []byte("k"), R: math.MaxUint32},
			want: coord.Error{Code: coord.CodeInvalid, Field: "r", Limit: "0..64", Seen: "4294967295"},
		},
		{
			name: "w", put: &atollv1.PutRequest{Key: []byte("k"), W: 65},
			want: coord.Error{Code: coord.CodeInvalid, Field: "w", Limit: "0..64", Seen: "65"},
		},
		{
			name: "regions", get: &atollv1.GetRequest{Key: []byte("k"), Regions: 65},
			put:  &atollv1.PutRequest{Key: []byte("k"), Regions: 65},
			want: coord.Error{Code: coord.CodeInvalid, Field: "regions", Limit: "0..64", Seen: "65"},
		},
		{
			name: "negative staleness", get: &atollv1.GetRequest{Key: []byte("k"), MaxStalenessMs: -1},
			want: coord.Error{Code: coord.CodeInvalid, Field: "max_staleness_ms", Limit: "0..3153600000000", Seen: "-1"},
		},
		{
			name: "short request id", put: &atollv1.PutRequest{Key: []byte("k"), RequestId: []byte("short")},
			want: coord.Error{Code: coord.CodeInvalid, Field: "request_id", Limit: "16 bytes that are not all zero", Seen: "5 bytes"},
		},
		{
			name: "zero request id", put: &atollv1.PutRequest{Key: []byte("k"), RequestId: make([]byte, 16)},
			want: coord.Error{Code: coord.CodeInvalid, Field: "request_id", Limit: "16 bytes that are not all zero", Seen: "16 bytes"},
		},
		{
			name: "retry of nothing", put: &atollv1.PutRequest{Key: []byte("k"), Retry: true},
			want: coord.Error{Code: coord.CodeInvalid, Field: "request_id", Limit: "16 bytes", Seen: "0 bytes"},
		},
		{
			name: "condition on no version", put: &atollv1.PutRequest{Key: []byte("k"), Condition: &atollv1.Condition{
				Condition: &atollv1.Condition_IfVersion{IfVersion: &atollv1.Version{}},
			}},
			want: coord.Error{Code: coord.CodeInvalid, Field: "condition.if_version", Limit: "a version", Seen: "0@0.0"},
		},
		{
			name: "negative ttl", put: &atollv1.PutRequest{Key: []byte("k"), TtlMs: -5},
			want: coord.Error{Code: coord.CodeInvalid, Field: "ttl_ms", Limit: "0..3153600000000", Seen: "-5"},
		},
		{
			name: "endless ttl", put: &atollv1.PutRequest{Key: []byte("k"), TtlMs: math.MaxInt64},
			want: coord.Error{Code: coord.CodeInvalid, Field: "ttl_ms", Limit: "0..3153600000000", Seen: "9223372036854775807"},
		},
		{
			name: "key", get: &atollv1.GetRequest{}, put: &atollv1.PutRequest{},
			want: coord.Error{Code: coord.CodeInvalid, Field: "key", Limit: "1024 bytes", Seen: "0 bytes"},
		},
		{
			name: "value", put: &atollv1.PutRequest{Key: []byte("k"), Value: make([]byte, 1<<20+1)},
			want: coord.Error{Code: coord.CodeInvalid, Field: "value", Limit: "1048576 bytes", Seen: "1048577 bytes"},
		},
		{
			name: "bucket", get: &atollv1.GetRequest{Bucket: "none", Key: []byte("k")},
			put:  &atollv1.PutRequest{Bucket: "none", Key: []byte("k")},
			want: coord.Error{Code: coord.CodeNoBucket},
		},
		{
			name: "context", put: &atollv1.PutRequest{Key: []byte("k"), Context: []byte("made up")},
			want: coord.Error{Code: coord.CodeBadContext},
		},
		{
			name: "foreign error on a write", put: &atollv1.PutRequest{Key: []byte("k")},
			fault: errors.New("boom"),
			want:  coord.Error{Code: coord.CodeInternal, Outcome: coord.Unknown},
		},
	}
	for _, c := range []coord.Code{
		coord.CodeUnavailable, coord.CodeOverloaded, coord.CodeDiskFull, coord.CodeTooManySiblings, coord.CodeCorrupt,
		coord.CodeClockSkew, coord.CodeInternal, coord.CodeStopping, coord.CodeDeadline,
	} {
		for _, o := range []coord.Outcome{coord.NotApplied, coord.Unknown} {
			e := coord.Error{Code: c, Outcome: o, Needed: 2, Acks: 1, RetryAfterMs: 70}
			cc := cases[0]
			cc.name, cc.fault, cc.want = fmt.Sprintf("code %d %v", c, o), &e, e
			cc.put, cc.get = &atollv1.PutRequest{Key: []byte("k")}, nil
			if o == coord.NotApplied {
				cc.get = &atollv1.GetRequest{Key: []byte("k")}
			}
			cases = append(cases, cc)
		}
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			n.SetFault(func(apitest.Op) apitest.Fault { return apitest.Fault{Err: c.fault} })
			check := func(where string, got *coord.Error) {
				t.Helper()
				if got.Detail == "" && c.want.Code != coord.CodeUnavailable && c.fault == nil {
					t.Errorf("%s: no text", where)
				}
				got.Detail = ""
				if d := cmp.Diff(&c.want, got, cmpopts.IgnoreUnexported(coord.Error{})); d != "" {
					t.Errorf("%s: %s", where, d)
				}
			}
			if c.get != nil {
				_, err := kv.Get(ctx, c.get)
				check("Get", statusError(t, err))
				b, err := kv.BatchGet(ctx, &atollv1.BatchGetRequest{Items: []*atollv1.GetRequest{c.get}})
				if err != nil {
					t.Fatal(err)
				}
				check("BatchGet", api.FromProto(b.Results[0].GetError()))
				res := overStream(t, kv, &atollv1.StreamCall{Id: 7, Op: &atollv1.StreamCall_Get{Get: c.get}})
				check("Stream", api.FromProto(res.GetError()))
			}
			if c.put != nil {
				_, err := kv.Put(ctx, c.put)
				check("Put", statusError(t, err))
				b, err := kv.BatchPut(ctx, &atollv1.BatchPutRequest{Items: []*atollv1.PutRequest{c.put}})
				if err != nil {
					t.Fatal(err)
				}
				check("BatchPut", api.FromProto(b.Results[0].GetError()))
				res := overStream(t, kv, &atollv1.StreamCall{Id: 7, Op: &atollv1.StreamCall_Put{Put: c.put}})
				check("Stream", api.FromProto(res.GetError()))
			}
			if c.put != nil && c.put.TtlMs == 0 && len(c.put.Value) == 0 {
				del := &atollv1.DeleteRequest{
					Bucket: c.put.Bucket, Key: c.put.Key, Context: c.put.Context, Level: c.put.Level, W: c.put.W,
					Regions: c.put.Regions, RequestId: c.put.RequestId, Retry: c.put.Retry, Session: c.put.Session, Condition: c.put.Condition,
				}
				_, err := kv.Delete(ctx, del)
				check("Delete", statusError(t, err))
				res := overStream(t, kv, &atollv1.StreamCall{Id: 7, Op: &atollv1.StreamCall_Delete{Delete: del}})
				check("Stream", api.FromProto(res.GetError()))
			}
		})
	}
}

func TestBatchesAnswerEachItemInOrder(t *testing.T) {
	_, n, kv := one(t)
	ctx := testContext(t)
	var puts []*atollv1.PutRequest
	var gets []*atollv1.GetRequest
	for i := range api.MaxBatchItems {
		key := []byte(fmt.Sprintf("k%d", i))
		puts = append(puts, &atollv1.PutRequest{Key: key, Value: []byte(fmt.Sprint(i))})
		gets = append(gets, &atollv1.GetRequest{Key: key})
	}
	bad := &coord.Error{Code: coord.CodeUnavailable, Detail: "why"}
	n.SetFault(func(o apitest.Op) apitest.Fault {
		if o.Put != nil && string(o.Put.Key) == "k500" {
			return apitest.Fault{Err: bad}
		}
		return apitest.Fault{}
	})
	put, err := kv.BatchPut(ctx, &atollv1.BatchPutRequest{Items: puts})
	if err != nil {
		t.Fatal(err)
	}
	got, err := kv.BatchGet(ctx, &atollv1.BatchGetRequest{Items: gets})
	if err != nil {
		t.Fatal(err)
	}
	for i := range puts {
		if i == 500 {
			if put.Results[i].GetError().GetReason() != atollv1.Reason_REASON_UNAVAILABLE {
				t.Errorf("item 500: %v", put.Results[i])
			}
			if len(got.Results[i].GetOk().Siblings) != 0 {
				t.Errorf("item 500 was stored")
			}
			continue
		}
		s := got.Results[i].GetOk().GetSiblings()
		if len(s) != 1 || string(s[0].Value) != fmt.Sprint(i) {
			t.Fatalf("item %d: %v", i, got.Results[i])
		}
		if v := put.Results[i].GetOk().Version; v.N != s[0].Version.N || v.Actor != s[0].Version.Actor {
			t.Fatalf("item %d: version %v, then %v", i, v, s[0].Version)
		}
	}

	_, err = kv.BatchGet(ctx, &atollv1.BatchGetRequest{Items: append(gets, gets[0])})
	if e := statusError(t, err); e.Field != "items" || e.Limit != "1000 items" || e.Seen != "1001 items" {
		t.Errorf("%+v", e)
	}
	_, err = kv.BatchPut(ctx, &atollv1.BatchPutRequest{Items: append(puts, puts[0])})
	if e := statusError(t, err); e.Field != "items" || e.Seen != "1001 items" {
		t.Errorf("%+v", e)
	}
}

func TestBatchBytes(t *testing.T) {
	_, n, kv := one(t)
	ctx := testContext(t)
	value := bytes.Repeat([]byte("x"), 1<<20)
	var items []*atollv1.PutRequest
	var gets []*atollv1.GetRequest
	for i := range 5 {
		key := []byte{byte('a' + i)}
		items = append(items, &atollv1.PutRequest{Key: key, Value: value})
		gets = append(gets, &atollv1.GetRequest{Key: key})
	}
	before := n.Puts()
	_, err := kv.BatchPut(ctx, &atollv1.BatchPutRequest{Items: items})
	if e := statusError(t, err); e.Field != "items" || e.Limit != "4194304 bytes" || !strings.HasSuffix(e.Seen, " bytes") {
		t.Errorf("%+v", e)
	}
	if n.Puts() != before {
		t.Error("a batch that is too large was begun")
	}
	for _, p := range items {
		if _, err := kv.Put(ctx, p); err != nil {
			t.Fatal(err)
		}
	}
	got, err := kv.BatchGet(ctx, &atollv1.BatchGetRequest{Items: gets})
	if err != nil {
		t.Fatal(err)
	}
	fit := 0
	for _, r := range got.Results {
		if r.GetOk() != nil {
			fit++
			continue
		}
		if e := api.FromProto(r.GetError()); e.Code != coord.CodeInvalid || e.Field != "reply" {
			t.Errorf("%+v", e)
		}
	}
	if fit != 3 { // framing counts
		t.Errorf("%d of 5 results of 1 MiB fit in 4 MiB", fit)
	}
}

func TestHealthAndReflection(t *testing.T) {
	r := apitest.NewRegion(t, 1)
	cc := dial(t, r.Nodes[0])
	ctx := testContext(t)
	h, err := healthpb.NewHealthClient(cc).Check(ctx, &healthpb.HealthCheckRequest{})
	if err != nil || h.Status != healthpb.HealthCheckResponse_SERVING {
		t.Fatalf("%v, %v", h, err)
	}
	s, err := reflectionpb.NewServerReflectionClient(cc).ServerReflectionInfo(ctx)
	if err != nil {
		t.Fatal(err)
	}
	list := &reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}}
	if err := s.Send(list); err != nil {
		t.Fatal(err)
	}
	res, err := s.Recv()
	if err != nil {
		t.Fatal(err)
	}
	names := make(map[string]bool)
	for _, svc := range res.GetListServicesResponse().Service {
		names[svc.Name] = true
	}
	if !names["atoll.v1.KV"] || !names["atoll.admin.v1.Cluster"] {
		t.Errorf("services %v", names)
	}
}

func TestPanicIsAnInternalError(t *testing.T) {
	_, n, kv := one(t)
	ctx := testContext(t)
	n.SetFault(func(o apitest.Op) apitest.Fault {
		if o.Put != nil {
			panic("a bug")
		}
		return apitest.Fault{}
	})
	_, err := kv.Put(ctx, &atollv1.PutRequest{Key: []byte("k")})
	if e := statusError(t, err); e.Code != coord.CodeInternal || e.Outcome != coord.Unknown {
		t.Errorf("unary: %+v", e)
	}
	s, err := kv.Stream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	call := &atollv1.StreamCall{Id: 1, Op: &atollv1.StreamCall_Put{Put: &atollv1.PutRequest{Key: []byte("k")}}}
	if err := s.Send(&atollv1.StreamRequest{Calls: []*atollv1.StreamCall{call}}); err != nil {
		t.Fatal(err)
	}
	// It costs the call, not the stream.
	got, _ := collect(t, s, 1)
	if e := api.FromProto(got[1].GetError()); e.Code != coord.CodeInternal || e.Outcome != coord.Unknown {
		t.Errorf("stream: %+v", e)
	}
	send(t, s, get(2, "k"))
	if got, _ = collect(t, s, 1); got[2].GetGet() == nil {
		t.Errorf("the stream did not survive: %v", got)
	}
	if _, err := kv.Get(ctx, &atollv1.GetRequest{Key: []byte("k")}); err != nil {
		t.Errorf("the node did not survive: %v", err)
	}
}
