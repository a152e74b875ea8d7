package client_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/node/api/apitest"
	"github.com/atolldb/atoll/node/coord"
)

// A retry says where it was tried.
func TestRetriesSayWhereTheyWereTried(t *testing.T) {
	for _, c := range []struct {
		name string
		opts []client.WriteOption
		want []string // attempt by attempt
	}{
		{"a new write", nil, []string{"[]", "[eu]", "[eu]"}},
		{"tried anywhere", []client.WriteOption{client.Again(client.NewRequestID())}, []string{"[]", "[]", "[]"}},
		{"tried there", []client.WriteOption{client.Again(client.NewRequestID()).TriedIn("us")}, []string{"[us]", "[us eu]", "[us eu]"}},
		{"tried here", []client.WriteOption{client.Again(client.NewRequestID()).TriedIn("eu")}, []string{"[eu]", "[eu]", "[eu]"}},
	} {
		r, cl := start(t, 3)
		var mu sync.Mutex
		var got []string
		for _, n := range r.Nodes {
			n.SetFault(func(op apitest.Op) apitest.Fault {
				mu.Lock()
				defer mu.Unlock()
				got = append(got, fmt.Sprint(op.Put.TriedIn))
				return apitest.Fault{Err: &coord.Error{Code: coord.CodeUnavailable, Outcome: coord.Unknown}}
			})
		}
		for what, write := range map[string]func() error{
			"put":    func() error { return second(cl.Put(testContext(t), "k", []byte("v"), c.opts...)) },
			"delete": func() error { return second(cl.Delete(testContext(t), "k", c.opts...)) },
		} {
			got = nil
			if err := write(); !errors.Is(err, client.ErrUnknownOutcome) || !slices.Equal(got, c.want) {
				t.Errorf("%s, %s: %q, %v", c.name, what, got, err)
			}
		}
	}
}

// step is what becomes of one attempt.
type step struct {
	outcome coord.Outcome
	twice   bool // the node says that it may be there twice
	silent  bool // no answer, in place of all that
	fine    bool
}

// What earlier attempts have left open is told with the last answer, whether that
// is good or bad.
func TestDoubtIsCarried(t *testing.T) {
	var (
		unknown = step{outcome: coord.Unknown}
		twice   = step{outcome: coord.Unknown, twice: true}
		refused = step{outcome: coord.NotApplied}
		silent  = step{silent: true}
		fine    = step{fine: true}
	)
	for _, c := range []struct {
		name  string
		steps []step
		again bool // the first attempt is said to be a retry
		// acknowledged, or unknown; and whether it may be there twice.
		ok, maybe bool
	}{
		{"the first answer is lost", []step{unknown, fine}, false, true, false},
		{"a retry may have been a second event, and the next one finds it", []step{unknown, twice, fine}, false, true, true},
		{"a retry that was sure, but for what became of it", []step{unknown, unknown, fine}, false, true, false},
		{"a retry of which nothing is heard", []step{unknown, silent, fine}, false, true, true},
		{"doubt, and no more is known", []step{unknown, twice, unknown}, false, false, true},
		{"no doubt, and no more is known", []step{unknown, unknown, unknown}, false, false, false},
		{"a refusal after an unknown outcome", []step{unknown, refused, refused}, false, false, false},
		{"refused, of a write that was tried before", []step{refused, refused, refused}, true, false, false},
		{"a retry from the start, of which nothing is heard", []step{silent, fine}, true, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, size := range []int{10, 100 << 10} {
				r, _ := start(t, 4)
				hold := make(chan struct{})
				defer close(hold)
				var mu sync.Mutex
				tries := map[coord.RequestID]int{}
				for _, n := range r.Nodes {
					n.SetFault(func(op apitest.Op) apitest.Fault {
						mu.Lock()
						defer mu.Unlock()
						i := tries[op.Put.RequestID]
						tries[op.Put.RequestID]++
						if want := i > 0 && c.steps[0] != refused || c.again; op.Put.Retry != want {
							t.Errorf("attempt %d is a retry: %v", i, op.Put.Retry)
						}
						s := c.steps[min(i, len(c.steps)-1)]
						switch {
						case s.fine:
							return apitest.Fault{}
						case s.silent:
							return apitest.Fault{Hold: hold, Err: &coord.Error{Code: coord.CodeUnavailable, Outcome: coord.Unknown}}
						}
						return apitest.Fault{Err: &coord.Error{Code: coord.CodeUnavailable, Outcome: s.outcome, MaybeDuplicate: s.twice}}
					})
				}
				cl := connect(t, r)
				within := func() context.Context { // long enough for two attempts that are not answered
					ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
					t.Cleanup(cancel)
					return ctx
				}
				check := func(what string, info client.Info, err error) {
					t.Helper()
					var e *client.Error
					switch {
					case (err == nil) != c.ok:
						t.Errorf("%s of %d bytes: %v", what, size, err)
					case err == nil && info.MaybeDuplicate != c.maybe:
						t.Errorf("%s of %d bytes: may be there twice: %v", what, size, info.MaybeDuplicate)
					case err != nil && (!errors.As(err, &e) || e.Outcome != client.UnknownOutcome || e.MaybeDuplicate != c.maybe || e.RequestID.IsZero()):
						t.Errorf("%s of %d bytes: %+v", what, size, e)
					}
				}
				opts := func(info *client.Info) []client.WriteOption {
					out := []client.WriteOption{client.Explain(info)}
					if c.again {
						out = append(out, client.Again(client.NewRequestID()))
					}
					return out
				}
				var info client.Info
				_, err := cl.Put(within(), fmt.Sprint("k", size), make([]byte, size), opts(&info)...)
				check("put", info, err)
				info = client.Info{}
				_, err = cl.Delete(within(), fmt.Sprint("d", size), opts(&info)...)
				check("delete", info, err)
			}
		})
	}
}
