package client_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/node/api/apitest"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/topology"
)

// Where the time ends while one node more is asked, the error is what those before it
// have said: what was waited for, rather than that time was over.
func TestTimeEndsWhileAnotherIsAsked(t *testing.T) {
	r, cl := start(t, 3)
	hold := make(chan struct{})
	defer close(hold)
	var asked atomic.Int64
	for _, n := range r.Nodes {
		n.SetFault(func(apitest.Op) apitest.Fault {
			if asked.Add(1) == 1 {
				return apitest.Fault{Err: &coord.Error{Code: coord.CodeSessionBehind, Missing: 1, MissingFrom: []topology.Region{"us"}}}
			}
			return apitest.Fault{Hold: hold}
		})
	}
	for what, do := range map[string]func(context.Context) error{
		"get":    func(ctx context.Context) error { return second(cl.Get(ctx, "k")) },
		"put":    func(ctx context.Context) error { return second(cl.Put(ctx, "k", []byte("v"))) },
		"delete": func(ctx context.Context) error { return second(cl.Delete(ctx, "k")) },
	} {
		asked.Store(0)
		ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
		err := do(ctx)
		cancel()
		var e *client.Error
		if asked.Load() < 2 {
			t.Fatalf("%s: %d nodes were asked, %v", what, asked.Load(), err)
		}
		if !errors.As(err, &e) {
			t.Fatalf("%s: %v", what, err)
		}
		if what == "get" {
			if !errors.Is(err, client.ErrSessionBehind) || e.Missing != 1 || len(e.MissingFrom) != 1 || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("get: %v, %+v", err, e)
			}
		} else if e.Outcome != client.UnknownOutcome { // what was sent may yet be applied
			t.Errorf("%s: %v, %+v", what, err, e)
		}
	}
}
