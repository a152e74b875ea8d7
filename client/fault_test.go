package client_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/node/api/apitest"
	"github.com/atolldb/atoll/node/coord"
)

// everySentinel but ErrTooLarge, which depends on more than the reason.
var everySentinel = []error{
	client.ErrNotFound, client.ErrSiblings, client.ErrUnavailable, client.ErrUnknownOutcome, client.ErrThrottled,
	client.ErrDeadline, client.ErrInvalid, client.ErrBadVersion, client.ErrNoBucket, client.ErrTooManySiblings,
	client.ErrDiskFull, client.ErrCorrupt, client.ErrInternal, client.ErrRefused, client.ErrClosed,
	context.DeadlineExceeded, context.Canceled,
}

// TestErrors makes every code of a node, by stream, by unary call and in
// batches, and asks for all sentinels.
func TestErrors(t *testing.T) {
	r, c := start(t, 1)
	ctx := testContext(t)
	want := map[coord.Code][]error{
		coord.CodeInvalid:         {client.ErrInvalid},
		coord.CodeUnavailable:     {client.ErrUnavailable},
		coord.CodeOverloaded:      {client.ErrThrottled},
		coord.CodeDiskFull:        {client.ErrDiskFull},
		coord.CodeTooManySiblings: {client.ErrTooManySiblings},
		coord.CodeCorrupt:         {client.ErrCorrupt},
		coord.CodeClockSkew:       {client.ErrUnavailable},
		coord.CodeBadContext:      {client.ErrBadVersion, client.ErrInvalid},
		coord.CodeNoBucket:        {client.ErrNoBucket},
		coord.CodeInternal:        {client.ErrInternal},
		coord.CodeStopping:        {client.ErrUnavailable},
		coord.CodeDeadline:        {client.ErrDeadline, context.DeadlineExceeded},
	}
	for code, sentinels := range want {
		for _, outcome := range []coord.Outcome{coord.NotApplied, coord.Unknown} {
			t.Run(fmt.Sprintf("code %d %v", code, outcome), func(t *testing.T) {
				r.Nodes[0].SetFault(func(apitest.Op) apitest.Fault {
					return apitest.Fault{Err: &coord.Error{
						Code: code, Outcome: outcome, Detail: "why", Field: "f", Limit: "5 bytes", Seen: "6 bytes",
						Needed: 2, Acks: 1, RetryAfterMs: 1,
					}}
				})
				check := func(op string, err error) {
					t.Helper()
					var e *client.Error
					if !errors.As(err, &e) {
						t.Fatalf("%s: %v", op, err)
					}
					all, out := sentinels, client.NotApplied
					if outcome == coord.Unknown && op != "get" {
						all, out = []error{client.ErrUnknownOutcome}, client.UnknownOutcome
					}
					for _, s := range everySentinel {
						if errors.Is(err, s) != slices.Contains(all, s) {
							t.Errorf("%s: Is(%v) is %v for %v", op, s, errors.Is(err, s), err)
						}
					}
					if got := errors.Is(err, client.ErrTooLarge); got != (code == coord.CodeInvalid && out == client.NotApplied) {
						t.Errorf("%s: Is(ErrTooLarge) is %v for %v", op, got, err)
					}
					if e.Op != op || e.Outcome != out || e.Needed != 2 || e.Acks != 1 || e.Field != "f" ||
						e.Limit != "5 bytes" || e.Seen != "6 bytes" || e.RetryAfter == 0 || e.Level != client.LocalAll ||
						e.Region != "eu" || e.Node != r.Nodes[0].Addr || e.KeyHash == 0 || e.Attempts == 0 {
						t.Errorf("%s: %+v", op, e)
					}
					if status.Code(err) == codes.Unknown != (out == client.UnknownOutcome && code != coord.CodeDeadline) {
						t.Errorf("%s: status %v", op, status.Code(err))
					}
					if !strings.Contains(err.Error(), "why") || strings.Contains(err.Error(), "the-key") {
						t.Errorf("%s: %v", op, err)
					}
				}
				check("put", second(c.Put(ctx, "the-key", []byte("small"), client.LocalAll)))
				check("put", second(c.Put(ctx, "the-key", make([]byte, 100<<10), client.LocalAll)))
				check("delete", second(c.Delete(ctx, "the-key", client.LocalAll)))
				for _, res := range c.PutMany(ctx, []client.Item{{Key: "the-key"}, {Key: "k2", Value: make([]byte, 100<<10)}}, client.LocalAll) {
					check("put", res.Err)
				}
				if outcome == coord.NotApplied {
					check("get", second(c.Get(ctx, "the-key", client.LocalAll)))
					check("get", c.GetMany(ctx, []string{"the-key"}, client.LocalAll)[0].Err)
				}
			})
		}
	}
}

// fails makes node n answer every operation with code and outcome.
func fails(n *apitest.Node, code coord.Code, outcome coord.Outcome) {
	n.SetFault(func(apitest.Op) apitest.Fault {
		return apitest.Fault{Err: &coord.Error{Code: code, Outcome: outcome, Detail: "injected"}}
	})
}

func total(r *apitest.Region) (puts, gets int64) {
	for _, n := range r.Nodes {
		puts += n.Puts()
		gets += n.Gets()
	}
	return puts, gets
}

func TestRetriesGoToAnotherNode(t *testing.T) {
	for _, code := range []coord.Code{coord.CodeUnavailable, coord.CodeStopping, coord.CodeClockSkew, coord.CodeOverloaded} {
		t.Run(fmt.Sprint("code ", code), func(t *testing.T) {
			r, c := start(t, 4)
			ctx := testContext(t)
			owners := r.Owners("k")
			fails(owners[0], code, coord.NotApplied)
			fails(owners[1], code, coord.NotApplied)
			var info client.Info
			if _, err := c.Put(ctx, "k", []byte("v"), client.Explain(&info)); err != nil {
				t.Fatal(err)
			}
			if info.Attempts != 3 || info.Coordinator != string(owners[2].ID) {
				t.Errorf("%+v", info)
			}
			if owners[0].Puts() != 1 || owners[1].Puts() != 1 || owners[2].Puts() != 1 {
				t.Error("the owners were not asked in their order, once each")
			}
			for range 10 {
				if _, err := c.Get(ctx, "k", client.Explain(&info)); err != nil || info.Coordinator != string(owners[2].ID) {
					t.Fatalf("%+v, %v", info, err)
				}
			}
			if res := c.PutMany(ctx, []client.Item{{Key: "k", Value: []byte("w")}}); res[0].Err != nil {
				t.Error(res[0].Err)
			}
		})
	}
}

func TestAttemptsAreBounded(t *testing.T) {
	r, c := start(t, 5)
	ctx := testContext(t)
	for _, n := range r.Nodes {
		fails(n, coord.CodeUnavailable, coord.NotApplied)
	}
	var info client.Info
	_, err := c.Put(ctx, "k", nil, client.Explain(&info))
	puts, _ := total(r)
	if !errors.Is(err, client.ErrUnavailable) || puts != 3 || info.Attempts != 3 {
		t.Errorf("%v, %d writes, %+v", err, puts, info)
	}
	_, err = c.Get(ctx, "k")
	if _, gets := total(r); !errors.Is(err, client.ErrUnavailable) || gets != 3 {
		t.Errorf("%v, %d reads", err, gets)
	}
}

// TestRetryBudget: when all fails, the load does not grow threefold.
func TestRetryBudget(t *testing.T) {
	r, c := start(t, 3)
	ctx := testContext(t)
	for _, n := range r.Nodes {
		fails(n, coord.CodeUnavailable, coord.NotApplied)
	}
	const calls = 500
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			for j := range calls / 50 {
				c.Get(ctx, fmt.Sprint(i, j)) // fails
			}
		})
	}
	wg.Wait()
	_, gets := total(r)
	if gets < calls || gets > calls+100 {
		t.Errorf("%d calls made %d attempts", calls, gets)
	}
}

// A write of which the outcome is not known is sent again, three times in all, also
// one that is decided by consensus; the error names the request.
func TestUnknownOutcome(t *testing.T) {
	r, c := start(t, 3)
	ctx := testContext(t)
	for _, n := range r.Nodes {
		fails(n, coord.CodeUnavailable, coord.Unknown)
	}
	for _, size := range []int{1, 100 << 10} {
		before, _ := total(r)
		var info client.Info
		_, err := c.Put(ctx, "k", make([]byte, size), client.Explain(&info))
		after, _ := total(r)
		if !errors.Is(err, client.ErrUnknownOutcome) || errors.Is(err, client.ErrUnavailable) || after-before != 3 {
			t.Errorf("%v after %d writes", err, after-before)
		}
		if id, ok := client.UnknownRequest(err); !ok || id != info.RequestID {
			t.Errorf("request %v, %v is %v", id, ok, info.RequestID)
		}
		_, err = c.Put(ctx, "k", make([]byte, size), client.LocalSerial)
		if again, _ := total(r); !errors.Is(err, client.ErrUnknownOutcome) || again-after != 3 {
			t.Errorf("%v after %d serial writes", err, again-after)
		}
	}
}

// A write whose first answer is lost is answered by its second attempt, and
// happens once, whether or not the first one had an effect.
func TestWriteIsOneEvent(t *testing.T) {
	for _, applied := range []bool{false, true} {
		r, c := start(t, 3)
		ctx := testContext(t)
		var once sync.Map
		for _, n := range r.Nodes {
			n.SetFault(func(op apitest.Op) apitest.Fault {
				if op.Put == nil {
					return apitest.Fault{}
				}
				if op.Put.RequestID.IsZero() {
					t.Error("a write without a request id")
				}
				if _, met := once.LoadOrStore(op.Put.RequestID, true); met != op.Put.Retry {
					t.Errorf("retry %v of a request that was met: %v", op.Put.Retry, met)
				} else if met {
					return apitest.Fault{}
				}
				return apitest.Fault{Err: &coord.Error{Code: coord.CodeUnavailable, Outcome: coord.Unknown}, Applied: applied}
			})
		}
		for _, size := range []int{1, 100 << 10} {
			var info client.Info
			key := fmt.Sprint("k", size)
			if _, err := c.Put(ctx, key, make([]byte, size), client.Explain(&info)); err != nil || info.Attempts != 2 || info.Replayed != applied {
				t.Errorf("put: %+v, %v", info, err)
			}
			if n := len(r.Store.Record("", key).Versions); n != 1 {
				t.Errorf("%d versions", n)
			}
			if res, err := c.Outcome(ctx, key, info.RequestID); err != nil || res.Outcome != client.Applied {
				t.Errorf("outcome: %+v, %v", res, err)
			}
			if _, err := c.Delete(ctx, key, client.Explain(&info)); err != nil || info.Attempts != 2 || info.Replayed != applied {
				t.Errorf("delete: %+v, %v", info, err)
			}
		}
		items := []client.Item{{Key: "a"}, {Key: "b"}}
		for i, res := range c.PutMany(ctx, items) {
			if res.Err != nil || len(r.Store.Record("", items[i].Key).Versions) != 1 {
				t.Errorf("%s: %v, %d versions", items[i].Key, res.Err, len(r.Store.Record("", items[i].Key).Versions))
			}
		}
	}
}

// A later attempt that was not applied says nothing of an earlier one, unless
// the owners were asked.
func TestOutcomeOfSeveralAttempts(t *testing.T) {
	for code, want := range map[coord.Code]error{
		coord.CodeOverloaded: client.ErrUnknownOutcome, coord.CodeInvalid: client.ErrUnknownOutcome,
		coord.CodeDiskFull: client.ErrUnknownOutcome, coord.CodeStopping: client.ErrUnknownOutcome,
		coord.CodeTooManySiblings: client.ErrTooManySiblings, coord.CodeConditionFailed: client.ErrConditionFailed,
	} {
		r, c := start(t, 3)
		for _, n := range r.Nodes {
			n.SetFault(func(op apitest.Op) apitest.Fault {
				if op.Put.Retry {
					return apitest.Fault{Err: &coord.Error{Code: code}}
				}
				return apitest.Fault{Err: &coord.Error{Code: coord.CodeUnavailable, Outcome: coord.Unknown}}
			})
		}
		if _, err := c.Put(testContext(t), "k", nil); !errors.Is(err, want) {
			t.Errorf("code %d: %v", code, err)
		}
	}
}

// What was asked for is ended: NotApplied stays true.
func TestOutcomeEndsTheRequest(t *testing.T) {
	r, c := start(t, 3)
	ctx := testContext(t)
	id := client.NewRequestID()
	if res, err := c.Outcome(ctx, "k", id); err != nil || res.Outcome != client.NotApplied {
		t.Errorf("%+v, %v", res, err)
	}
	if _, err := c.Put(ctx, "k", nil, client.Request(id)); !errors.Is(err, client.ErrInvalid) {
		t.Errorf("%v", err)
	}
	if _, err := c.Put(ctx, "k", nil, client.Again(id)); !errors.Is(err, client.ErrUnknownOutcome) {
		t.Errorf("%v", err)
	}
	if _, err := c.Outcome(ctx, "k", client.RequestID{}); !errors.Is(err, client.ErrInvalid) {
		t.Errorf("no id: %v", err)
	}
	if n := len(r.Store.Record("", "k").Versions); n != 0 {
		t.Errorf("%d versions", n)
	}
}

// held makes node n hold its operations; asked tells of each.
func held(n *apitest.Node) (asked chan struct{}, release func()) {
	gate := make(chan struct{})
	asked = make(chan struct{}, 100)
	n.SetFault(func(apitest.Op) apitest.Fault {
		asked <- struct{}{}
		return apitest.Fault{Hold: gate}
	})
	return asked, sync.OnceFunc(func() { close(gate) })
}

func TestCrashOfANode(t *testing.T) {
	r, c := start(t, 3)
	ctx := testContext(t)
	if _, err := c.Put(ctx, "k", []byte("v")); err != nil {
		t.Fatal(err)
	}
	primary := r.Owners("k")[0]
	asked, release := held(primary)
	defer release()
	type result struct {
		what string
		err  error
	}
	ch := make(chan result, 10)
	// Read until the primary holds one: it is as idle as the others.
	for caught := false; !caught; {
		go func() {
			_, err := c.Get(ctx, "k", client.WithResolver(client.LastWriterWins()))
			ch <- result{"read", err}
		}()
		select {
		case <-asked:
			caught = true
		case res := <-ch:
			if res.what != "read" || res.err != nil {
				t.Fatal(res)
			}
		}
	}
	for _, size := range []int{1, 100 << 10} {
		go func() {
			_, err := c.Put(ctx, "k", make([]byte, size))
			ch <- result{"write", err}
		}()
		<-asked
	}
	primary.Kill()
	for range 3 {
		switch res := <-ch; res.what {
		case "write": // it was sent again, to another one
			if res.err != nil {
				t.Errorf("a write that the node had when it crashed: %v", res.err)
			}
		case "read":
			if res.err != nil {
				t.Errorf("a read that the node had when it crashed: %v", res.err)
			}
		}
	}
	// Later writes go to the next owner, by refused connections or by what the
	// link knows.
	for i := range 20 {
		var info client.Info
		if _, err := c.Put(ctx, "k", []byte("w"), client.Explain(&info), client.Overwrite()); err != nil {
			t.Fatal(i, err)
		}
		if info.Coordinator != string(r.Owners("k")[1].ID) {
			t.Fatalf("%+v", info)
		}
	}
}

func TestReconnect(t *testing.T) {
	r, c := start(t, 1)
	ctx := testContext(t)
	if _, err := c.Put(ctx, "k", []byte("v")); err != nil {
		t.Fatal(err)
	}
	r.Nodes[0].Kill()
	_, err := c.Put(ctx, "k", nil)
	for err == nil || errors.Is(err, client.ErrUnknownOutcome) { // until the link knows
		_, err = c.Put(ctx, "k", nil)
	}
	if !errors.Is(err, client.ErrUnavailable) {
		t.Fatal(err)
	}
	r.Nodes[0].Restart(t)
	for {
		_, err := c.Get(ctx, "k", client.WithResolver(client.LastWriterWins()))
		if err == nil {
			return
		}
		if !errors.Is(err, client.ErrUnavailable) {
			t.Fatal(err)
		}
	}
}

// TestDrainIsInvisible stops a node in the orderly way under load: every
// operation succeeds, and every write was applied exactly once.
func TestDrainIsInvisible(t *testing.T) {
	r, c := start(t, 3)
	ctx := testContext(t)
	var wg sync.WaitGroup
	var count atomic.Int64
	stop := make(chan struct{})
	for w := range 16 {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				key := fmt.Sprintf("%d-%d", w, i)
				if _, err := c.Put(ctx, key, []byte("v")); err != nil {
					t.Errorf("put: %v", err)
					return
				}
				if _, err := c.Get(ctx, key); err != nil { // ErrSiblings: applied twice
					t.Errorf("get: %v", err)
					return
				}
				count.Add(1)
			}
		})
	}
	waitFor := func(n int64) {
		for target := count.Load() + n; count.Load() < target && !t.Failed(); {
			c.Get(ctx, "pace") // keeps the loop from spinning
		}
	}
	waitFor(200)
	if err := r.Nodes[0].KV.Drain(ctx); err != nil {
		t.Fatal(err)
	}
	waitFor(200)
	r.Nodes[0].Kill()
	waitFor(200)
	close(stop)
	wg.Wait()
}

func TestTopologyIsFollowed(t *testing.T) {
	r := apitest.NewRegion(t, 3)
	c := connect(t, r)
	ctx := testContext(t)
	key := "k"
	var info client.Info
	if _, err := c.Put(ctx, key, nil, client.Explain(&info)); err != nil {
		t.Fatal(err)
	}
	first := r.Owners(key)[0]
	// The members change places, so other partitions are theirs; a broken
	// connection makes the client ask.
	slices.Reverse(r.Nodes)
	r.Publish(2)
	if r.Owners(key)[0] == first {
		t.Fatal("the test wants another primary")
	}
	var any string
	for i := 0; any == "" || any == key; i++ {
		if k := fmt.Sprint(i); r.Owners(k)[0] != r.Owners(key)[0] {
			any = k
		}
	}
	r.Owners(any)[0].Kill()
	for info.Coordinator != string(r.Owners(key)[0].ID) {
		c.Put(ctx, any, nil)                                                                       // breaks the link
		if _, err := c.Put(ctx, key, nil, client.Explain(&info)); err != nil && ctx.Err() != nil { // one condition
			t.Fatal(err)
		}
	}
}

func TestCancel(t *testing.T) {
	r, c := start(t, 1)
	asked, release := held(r.Nodes[0])
	defer release()
	for _, size := range []int{1, 100 << 10} {
		ctx, cancel := context.WithCancel(t.Context())
		ch := make(chan error, 1)
		go func() {
			_, err := c.Put(ctx, "k", make([]byte, size))
			ch <- err
		}()
		<-asked
		cancel()
		if err := <-ch; !errors.Is(err, client.ErrUnknownOutcome) {
			t.Errorf("a write that was sent: %v", err)
		}
		ctx, cancel = context.WithCancel(t.Context())
		cancel()
		_, err := c.Put(ctx, "k", make([]byte, size))
		if !errors.Is(err, context.Canceled) || errors.Is(err, client.ErrUnknownOutcome) {
			t.Errorf("a write that was not: %v", err)
		}
	}
}
