package api_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"google.golang.org/grpc/status"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/node/api"
	"github.com/atolldb/atoll/node/api/apitest"
	"github.com/atolldb/atoll/node/coord"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

func get(id uint64, key string) *atollv1.StreamCall {
	return &atollv1.StreamCall{Id: id, Op: &atollv1.StreamCall_Get{Get: &atollv1.GetRequest{Key: []byte(key)}}}
}

func put(id uint64, key, value string) *atollv1.StreamCall {
	return &atollv1.StreamCall{Id: id, Op: &atollv1.StreamCall_Put{
		Put: &atollv1.PutRequest{Key: []byte(key), Value: []byte(value)},
	}}
}

func open(t *testing.T, kv atollv1.KVClient) atollv1.KV_StreamClient {
	t.Helper()
	s, err := kv.Stream(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Header(); err != nil { // comes at once
		t.Fatal(err)
	}
	return s
}

func send(t *testing.T, s atollv1.KV_StreamClient, calls ...*atollv1.StreamCall) {
	t.Helper()
	if err := s.Send(&atollv1.StreamRequest{Calls: calls}); err != nil {
		t.Fatal(err)
	}
}

// collect receives until n replies came, and returns them by id and how many
// messages it took.
func collect(t *testing.T, s atollv1.KV_StreamClient, n int) (map[uint64]*atollv1.StreamReply, int) {
	t.Helper()
	got := make(map[uint64]*atollv1.StreamReply)
	for messages := 1; ; messages++ {
		res, err := s.Recv()
		if err != nil {
			t.Fatalf("after %d of %d replies: %v", len(got), n, err)
		}
		for _, r := range res.Replies {
			if got[r.Id] != nil {
				t.Fatalf("call %d was answered twice", r.Id)
			}
			got[r.Id] = r
		}
		if len(got) >= n {
			return got, messages
		}
	}
}

// slow holds reads of "slow" until the returned function is called.
func slow(n *apitest.Node) func() {
	gate := make(chan struct{})
	n.SetFault(func(o apitest.Op) apitest.Fault {
		if o.Get != nil && string(o.Get.Key) == "slow" {
			return apitest.Fault{Hold: gate}
		}
		return apitest.Fault{}
	})
	return func() { close(gate) }
}

func TestStreamAnswersOutOfOrder(t *testing.T) {
	_, n, kv := one(t)
	release := slow(n)
	s := open(t, kv)
	send(t, s, get(1, "slow"), put(2, "k", "v"))
	send(t, s, get(3, "k"))
	got, _ := collect(t, s, 2)
	if got[2].GetPut() == nil || got[1] != nil {
		t.Fatalf("%v", got)
	}
	if v := got[3].GetGet().GetSiblings(); len(v) != 1 || string(v[0].Value) != "v" {
		t.Fatalf("%v", got[3])
	}
	release()
	got, _ = collect(t, s, 1)
	if got[1].GetGet() == nil {
		t.Fatalf("%v", got)
	}
	send(t, s, &atollv1.StreamCall{Id: 4, Op: &atollv1.StreamCall_Delete{Delete: &atollv1.DeleteRequest{Key: []byte("k")}}})
	if got, _ = collect(t, s, 1); got[4].GetDelete().GetVersion() == nil {
		t.Fatalf("%v", got)
	}
	send(t, s, &atollv1.StreamCall{Id: 5})
	if got, _ = collect(t, s, 1); got[5].GetError().GetMetadata()["field"] != "op" {
		t.Fatalf("a call without an operation: %v", got)
	}
}

func TestStreamPacksRepliesTogether(t *testing.T) {
	_, _, kv := one(t)
	s := open(t, kv)
	const n = 1000
	var calls []*atollv1.StreamCall
	for i := range n {
		calls = append(calls, put(uint64(i), fmt.Sprint(i), "v"))
	}
	send(t, s, calls...)
	if _, messages := collect(t, s, n); messages > n/4 {
		t.Errorf("%d replies came in %d messages", n, messages)
	}
}

func TestStreamEndsWhenAllIsAnswered(t *testing.T) {
	_, n, kv := one(t)
	release := slow(n)
	s := open(t, kv)
	send(t, s, get(1, "slow"), get(2, "k"))
	if err := s.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if got, _ := collect(t, s, 1); got[2] == nil {
		t.Fatalf("%v", got)
	}
	release()
	if got, _ := collect(t, s, 1); got[1].GetGet() == nil {
		t.Fatalf("%v", got)
	}
	if _, err := s.Recv(); !errors.Is(err, io.EOF) {
		t.Fatalf("then %v", err)
	}
}

func TestStreamRefusesWhatIsOverItsBound(t *testing.T) {
	_, n, kv := one(t)
	release := slow(n)
	s := open(t, kv)
	const over = 10
	var calls []*atollv1.StreamCall
	for i := range api.MaxStreamInFlight + over {
		calls = append(calls, get(uint64(i), "slow"))
	}
	send(t, s, calls...)
	got, _ := collect(t, s, over)
	for id, r := range got {
		e := r.GetError()
		if id < api.MaxStreamInFlight || e.GetReason() != atollv1.Reason_REASON_OVERLOADED || e.RetryAfterMs == 0 {
			t.Errorf("call %d: %v", id, r)
		}
	}
	release()
	got, _ = collect(t, s, api.MaxStreamInFlight)
	for id, r := range got {
		if r.GetGet() == nil {
			t.Errorf("call %d: %v", id, r)
		}
	}
}

// TestStreamStopsReadingAClientThatDoesNotTakeReplies sends far more than the
// node may hold while reading nothing.
func TestStreamStopsReadingAClientThatDoesNotTakeReplies(t *testing.T) {
	_, n, kv := one(t)
	release := slow(n)
	s := open(t, kv)
	const total = 20 * api.MaxStreamInFlight
	sent := make(chan error, 1)
	go func() {
		var calls []*atollv1.StreamCall
		for i := range total {
			calls = append(calls, get(uint64(i), "slow"))
			if len(calls) == 1000 || i == total-1 {
				if err := s.Send(&atollv1.StreamRequest{Calls: calls}); err != nil {
					sent <- err
					return
				}
				calls = nil
			}
		}
		sent <- nil
	}()
	refused := 0
	for range 100 { // of the messages with refusals, while all else is held
		res, err := s.Recv()
		if err != nil {
			t.Fatal(err)
		}
		refused += len(res.Replies)
		if refused >= total-api.MaxStreamInFlight {
			break
		}
	}
	if n.Gets() > api.MaxStreamInFlight {
		t.Errorf("the coordinator has %d calls of one stream", n.Gets())
	}
	release()
	collect(t, s, total-refused)
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
}

func TestStreamLargeReplyNeedsUnary(t *testing.T) {
	r, _, kv := one(t)
	r.Store.Blind("", "k", crdt.MakeActor(1, 1), string(make([]byte, 3<<20)))
	s := open(t, kv)
	send(t, s, get(1, "k"))
	got, _ := collect(t, s, 1)
	if e := got[1].GetError(); e == nil || e.Metadata["field"] != "reply" {
		t.Fatal("it came by the stream")
	}
	res, err := kv.Get(testContext(t), &atollv1.GetRequest{Key: []byte("k")})
	if err != nil || len(res.Siblings) != 1 || len(res.Siblings[0].Value) != 3<<20 {
		t.Fatalf("%d siblings, %v", len(res.GetSiblings()), err)
	}
}

// Large siblings are left out of any answer, and marked.
func TestLargeSiblingsAreOmitted(t *testing.T) {
	r, _, kv := one(t)
	for i := range 3 {
		r.Store.Blind("", "k", crdt.MakeActor(uint32(i+1), 1), string(bytes.Repeat([]byte{byte(i)}, 1<<20)))
	}
	r.Store.Blind("", "k", crdt.MakeActor(9, 1), "")
	s := open(t, kv)
	send(t, s, get(1, "k"))
	streamed, _ := collect(t, s, 1)
	unary, err := kv.Get(testContext(t), &atollv1.GetRequest{Key: []byte("k")})
	if err != nil {
		t.Fatal(err)
	}
	batch, err := kv.BatchGet(testContext(t), &atollv1.BatchGetRequest{Items: []*atollv1.GetRequest{{Key: []byte("k")}}})
	if err != nil {
		t.Fatal(err)
	}
	for how, res := range map[string]*atollv1.GetResponse{"stream": streamed[1].GetGet(), "unary": unary, "batch": batch.Results[0].GetOk()} {
		if len(res.GetSiblings()) != 4 {
			t.Fatalf("%s: %d siblings", how, len(res.GetSiblings()))
		}
		for i, s := range res.Siblings {
			omitted := i == 1 || i == 2 // the first fills the answer, and the last takes no room
			if s.ValueOmitted != omitted || omitted && (s.ValueSize != 1<<20 || len(s.Value) != 0) || i == 0 && len(s.Value) != 1<<20 {
				t.Errorf("%s: sibling %d: omitted %v, size %d, %d bytes", how, i, s.ValueOmitted, s.ValueSize, len(s.Value))
			}
		}
	}
}

// TestDrainAnswersWhatRuns is invariant A2.
func TestDrainAnswersWhatRuns(t *testing.T) {
	_, n, kv := one(t)
	release := slow(n)
	s := open(t, kv)
	send(t, s, get(1, "slow"), get(2, "k"))
	collect(t, s, 1)

	drained := make(chan error, 1)
	go func() { drained <- n.KV.Drain(testContext(t)) }()
	// New work is refused as soon as Drain has begun; it answers meanwhile.
	for id := uint64(10); ; id++ {
		send(t, s, get(id, "k"))
		got, _ := collect(t, s, 1)
		if e := got[id].GetError(); e != nil {
			if e.Reason != atollv1.Reason_REASON_STOPPING || e.Outcome != "not_applied" {
				t.Fatalf("%v", e)
			}
			break
		}
	}
	if _, err := kv.Get(testContext(t), &atollv1.GetRequest{Key: []byte("k")}); statusError(t, err).Code != coord.CodeStopping {
		t.Fatalf("unary: %v", err)
	}
	select {
	case err := <-drained:
		t.Fatalf("drained while a call runs: %v", err)
	default:
	}
	release()
	got, _ := collect(t, s, 1)
	if got[1].GetGet() == nil {
		t.Fatalf("%v", got)
	}
	_, err := s.Recv()
	if e := statusError(t, err); e.Code != coord.CodeStopping || e.Outcome != coord.NotApplied {
		t.Fatalf("the stream's end: %+v", e)
	}
	if err := <-drained; err != nil {
		t.Fatal(err)
	}
	again, err := kv.Stream(testContext(t))
	if err == nil {
		_, err = again.Recv()
	}
	if statusError(t, err).Code != coord.CodeStopping {
		t.Fatalf("a new stream: %v", err)
	}
}

func TestDrainGivesUp(t *testing.T) {
	_, n, kv := one(t)
	release := slow(n)
	defer release()
	s := open(t, kv)
	send(t, s, get(1, "slow"), get(2, "k"))
	collect(t, s, 1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := n.KV.Drain(ctx); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

// TestRepliesAfterTheClientLeft: the stream ends at once, and what the
// coordinator answers later goes nowhere.
func TestRepliesAfterTheClientLeft(t *testing.T) {
	_, n, kv := one(t)
	release := slow(n)
	ctx, cancel := context.WithCancel(t.Context())
	s, err := kv.Stream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	send(t, s, get(1, "slow"), get(2, "k"))
	collect(t, s, 1)
	cancel()
	if _, err := s.Recv(); status.Code(err).String() != "Canceled" {
		t.Fatal(err)
	}
	// Drain waits for the stream's goroutines; a call still runs.
	if err := n.KV.Drain(testContext(t)); err != nil {
		t.Fatal(err)
	}
	release()
}
