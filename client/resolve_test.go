package client_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/node/api/apitest"
	"github.com/atolldb/atoll/node/coord"
)

func always(r client.Resolution) client.Resolver {
	return func(context.Context, string, []client.Sibling) (client.Resolution, error) { return r, nil }
}

// events collects what OnConflict is told.
func events() (client.Option, chan client.ConflictEvent) {
	ch := make(chan client.ConflictEvent, 1000)
	return client.OnConflict(func(e client.ConflictEvent) { ch <- e }), ch
}

func live(r *apitest.Region, key string) []string {
	var out []string
	for _, v := range crdt.Read(r.Store.Record("", key), crdt.MV, 0).Live {
		out = append(out, string(v.Value))
	}
	return out
}

func TestResolutions(t *testing.T) {
	for _, c := range []struct {
		name    string
		r       client.Resolution
		value   string
		err     error
		verdict client.Verdict
		stored  []string
	}{
		{"keep", client.Keep(1), "b", nil, client.VerdictKept, []string{"b"}},
		{"merge", client.Merged([]byte("ab")), "ab", nil, client.VerdictMerged, []string{"ab"}},
		{"merge to nothing", client.Merged(nil), "", nil, client.VerdictMerged, []string{""}},
		{"delete", client.DeleteIt(), "", client.ErrNotFound, client.VerdictDeleted, nil},
		{"leave", client.Leave(), "", client.ErrSiblings, client.VerdictLeft, []string{"a", "b"}},
		{"zero", client.Resolution{}, "", client.ErrSiblings, client.VerdictLeft, []string{"a", "b"}},
		{"keep what is not there", client.Keep(2), "", client.ErrSiblings, client.VerdictLeft, []string{"a", "b"}},
	} {
		for _, mode := range []client.WriteBack{client.WriteBackSync, client.WriteBackAsync, client.WriteBackNever} {
			t.Run(fmt.Sprint(c.name, " ", mode), func(t *testing.T) {
				observe, ch := events()
				r, cl := start(t, 3, client.OnSiblings(always(c.r)), client.WithWriteBack(mode), observe)
				ctx := testContext(t)
				conflict(r, "k", "a", "b")
				before := r.Store.Record("", "k")

				obj, err := cl.Get(ctx, "k")
				if !errors.Is(err, c.err) || (err == nil) != (c.err == nil) || string(obj.Value()) != c.value {
					t.Fatalf("%q, %v", obj.Value(), err)
				}
				if got := values(obj.Siblings()); !slices.Equal(got, []string{"a", "b"}) {
					t.Errorf("siblings %q", got)
				}
				if obj.Exists() != (c.verdict != client.VerdictDeleted) {
					t.Errorf("exists: %v", obj.Exists())
				}
				e := <-ch
				if e.Verdict != c.verdict || e.Key != "k" || len(e.Siblings) != 2 {
					t.Errorf("%+v", e)
				}
				written := mode != client.WriteBackNever && c.verdict != client.VerdictLeft
				if e.Written != written || e.WriteErr != nil {
					t.Errorf("%+v", e)
				}
				want := c.stored
				if !written {
					want = []string{"a", "b"}
				}
				if got := live(r, "k"); !slices.Equal(got, want) {
					t.Errorf("stored %q, want %q", got, want)
				}
				if written {
					// Invariant S3: by the context of the read, not blindly.
					after := r.Store.Record("", "k")
					if len(after.Versions) != 1 || !after.Versions[0].Past.CoversAll(before.Context().Seen) {
						t.Errorf("%+v", after)
					}
				}
				// The version is good for a write that follows, in any mode.
				if c.verdict != client.VerdictLeft {
					if _, err := cl.Put(ctx, "k", []byte("next"), client.After(obj.Version())); err != nil {
						t.Fatal(err)
					}
					want := []string{"next"}
					if mode == client.WriteBackAsync && c.verdict != client.VerdictDeleted {
						want = []string{c.value, "next"} // the write-back was concurrent
					}
					if got := live(r, "k"); !slices.Equal(got, want) && len(got) != len(want) {
						t.Errorf("then %q, want %q", got, want)
					}
				}
			})
		}
	}
}

func TestResolverThatMisbehaves(t *testing.T) {
	observe, ch := events()
	r, c := start(t, 1, observe)
	ctx := testContext(t)
	conflict(r, "k", "a", "b")
	boom := errors.New("boom")
	gate := make(chan struct{})
	defer close(gate)
	for name, resolver := range map[string]client.Resolver{
		"error": func(context.Context, string, []client.Sibling) (client.Resolution, error) {
			return client.Keep(0), boom
		},
		"panic": func(context.Context, string, []client.Sibling) (client.Resolution, error) { panic("oops") },
		"never returns": func(context.Context, string, []client.Sibling) (client.Resolution, error) {
			<-gate
			return client.Keep(0), nil
		},
		"changes what it is given": func(_ context.Context, _ string, s []client.Sibling) (client.Resolution, error) {
			for i := range s {
				copy(s[i].Value, "X")
				s[i] = client.Sibling{}
			}
			return client.Leave(), nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			obj, err := c.Get(ctx, "k", client.WithResolver(resolver))
			if !errors.Is(err, client.ErrSiblings) || !slices.Equal(values(obj.Siblings()), []string{"a", "b"}) || obj.Value() != nil {
				t.Errorf("%v, %v", values(obj.Siblings()), err)
			}
			if e := <-ch; e.Verdict != client.VerdictLeft || (e.Err == nil) != (name == "changes what it is given") {
				t.Errorf("%+v", e)
			}
			if name == "error" && !errors.Is(err, boom) {
				t.Errorf("%v", err)
			}
			if got := live(r, "k"); !slices.Equal(got, []string{"a", "b"}) {
				t.Errorf("%q", got)
			}
		})
	}
}

func TestResolverSeesDistinctValuesInOrder(t *testing.T) {
	r, c := start(t, 1)
	ctx := testContext(t)
	conflict(r, "k", "a", "b", "a", "c", "b")
	var seen []string
	_, err := c.Get(ctx, "k", client.WithResolver(
		func(_ context.Context, key string, s []client.Sibling) (client.Resolution, error) {
			seen = append([]string{key}, values(s)...)
			return client.Leave(), nil
		}))
	if !errors.Is(err, client.ErrSiblings) || !slices.Equal(seen, []string{"k", "a", "b", "c"}) {
		t.Errorf("%q, %v", seen, err)
	}
	seen = nil
	conflict(r, "one", "a", "a")
	if _, err := c.Get(ctx, "one", client.WithResolver(
		func(context.Context, string, []client.Sibling) (client.Resolution, error) {
			seen = append(seen, "called")
			return client.Leave(), nil
		})); err != nil || seen != nil {
		t.Errorf("%v, %q", err, seen)
	}
	// Equals are one sibling, which names the others.
	obj, err := c.Get(ctx, "one")
	if err != nil || len(obj.Siblings()) != 1 || len(obj.Siblings()[0].Equals) != 1 || obj.Siblings()[0].ID == obj.Siblings()[0].Equals[0] {
		t.Errorf("%+v, %v", obj.Siblings(), err)
	}
	if _, err := c.Put(ctx, "one", []byte("b"), client.After(obj.Version())); err != nil || !slices.Equal(live(r, "one"), []string{"b"}) {
		t.Errorf("%q, %v", live(r, "one"), err)
	}
	// The call's resolver comes before the client's, nil included.
	c2 := connect(t, r, client.OnSiblings(client.LastWriterWins()), client.WithWriteBack(client.WriteBackNever))
	if _, err := c2.Get(ctx, "k"); err != nil {
		t.Error(err)
	}
	if _, err := c2.Get(ctx, "k", client.WithResolver(nil)); !errors.Is(err, client.ErrSiblings) {
		t.Error(err)
	}
}

// TestWriteBackLosesNothing: somebody writes between the read and the
// write-back; that stays.
func TestWriteBackLosesNothing(t *testing.T) {
	r, c := start(t, 1, client.WithWriteBack(client.WriteBackSync))
	conflict(r, "k", "a", "b")
	obj, err := c.Get(testContext(t), "k", client.WithResolver(
		func(context.Context, string, []client.Sibling) (client.Resolution, error) {
			r.Store.Blind("", "k", crdt.MakeActor(200, 3), "meanwhile")
			return client.Merged([]byte("ab")), nil
		}))
	if err != nil || string(obj.Value()) != "ab" {
		t.Fatal(err)
	}
	got := live(r, "k")
	slices.Sort(got)
	if !slices.Equal(got, []string{"ab", "meanwhile"}) {
		t.Errorf("%q", got)
	}
}

func TestWriteBackThatFails(t *testing.T) {
	observe, ch := events()
	r, c := start(t, 1, client.OnSiblings(client.LastWriterWins()), client.WithWriteBack(client.WriteBackSync), observe)
	conflict(r, "k", "a", "b")
	r.Nodes[0].SetFault(func(o apitest.Op) apitest.Fault {
		if o.Put != nil {
			return apitest.Fault{Err: &coord.Error{Code: coord.CodeDiskFull}}
		}
		return apitest.Fault{}
	})
	obj, err := c.Get(testContext(t), "k")
	if err != nil || string(obj.Value()) != "b" {
		t.Errorf("the read itself succeeded: %v", err)
	}
	if e := <-ch; e.Written || !errors.Is(e.WriteErr, client.ErrDiskFull) {
		t.Errorf("%+v", e)
	}
}

// TestWriteBacksAreBounded holds writes: no more than 64 are under way, the
// rest is skipped, and Close does not wait for them.
func TestWriteBacksAreBounded(t *testing.T) {
	observe, ch := events()
	r, c := start(t, 1, client.OnSiblings(client.LastWriterWins()), observe)
	ctx := testContext(t)
	gate := make(chan struct{})
	defer close(gate)
	r.Nodes[0].SetFault(func(o apitest.Op) apitest.Fault {
		if o.Put != nil {
			return apitest.Fault{Hold: gate}
		}
		return apitest.Fault{}
	})
	const n = 100
	for i := range n {
		key := fmt.Sprint("k", i)
		conflict(r, key, "a", "b")
		if _, err := c.Get(ctx, key); err != nil {
			t.Fatal(err)
		}
	}
	for range n - 64 { // reported at once: not written, no error
		if e := <-ch; e.Written || e.WriteErr != nil {
			t.Errorf("%+v", e)
		}
	}
	if got := r.Nodes[0].Puts(); got > 64 {
		t.Errorf("%d write-backs", got)
	}
	c.Close()
	for range 64 {
		if e := <-ch; e.Written || e.WriteErr == nil {
			t.Errorf("%+v", e)
		}
	}
}

func TestUpdate(t *testing.T) {
	r, c := start(t, 3, client.OnSiblings(client.SetUnionLines()))
	ctx := testContext(t)
	add := func(line string) func(client.Object) ([]byte, error) {
		return func(cur client.Object) ([]byte, error) {
			if !cur.Exists() {
				return []byte(line), nil
			}
			return append(append(cur.Value(), '\n'), line...), nil
		}
	}
	for _, line := range []string{"a", "b"} {
		if _, err := c.Update(ctx, "k", add(line)); err != nil {
			t.Fatal(err)
		}
	}
	if got := live(r, "k"); !slices.Equal(got, []string{"a\nb"}) {
		t.Fatalf("%q", got)
	}
	// Siblings are resolved, and one write replaces them all.
	conflict(r, "k", "x", "y")
	puts, _ := total(r)
	v, err := c.Update(ctx, "k", add("z"))
	if err != nil {
		t.Fatal(err)
	}
	if got := live(r, "k"); !slices.Equal(got, []string{"a\nb\nx\ny\nz"}) {
		t.Fatalf("%q", got)
	}
	if after, _ := total(r); after != puts+1 {
		t.Errorf("%d writes", after-puts)
	}
	if _, err := c.Put(ctx, "k", []byte("last"), client.After(v)); err != nil || len(live(r, "k")) != 1 {
		t.Errorf("the version of an update: %q, %v", live(r, "k"), err)
	}
	// After a delete the key starts anew, over its tombstone.
	if _, err := c.Delete(ctx, "k"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Update(ctx, "k", add("new")); err != nil {
		t.Fatal(err)
	}
	if rec := r.Store.Record("", "k"); len(rec.Versions) != 1 {
		t.Errorf("%+v", rec)
	}

	boom := errors.New("boom")
	puts, _ = total(r)
	if _, err := c.Update(ctx, "k", func(client.Object) ([]byte, error) { return nil, boom }); err != boom { // as it is
		t.Errorf("%v", err)
	}
	conflict(r, "k", "x")
	_, err = c.Update(ctx, "k", add("z"), client.WithResolver(nil))
	if after, _ := total(r); after != puts || !errors.Is(err, client.ErrSiblings) {
		t.Errorf("%d writes, %v", after-puts, err)
	}
}

func TestUpdateTriesAgainFromANewRead(t *testing.T) {
	r, c := start(t, 1)
	ctx := testContext(t)
	refusals := 4 // more than the attempts of one write
	r.Nodes[0].SetFault(func(o apitest.Op) apitest.Fault {
		if o.Put == nil || refusals == 0 {
			return apitest.Fault{}
		}
		if refusals--; refusals == 1 {
			r.Store.Blind("", "k", crdt.MakeActor(200, 2), "meanwhile")
		}
		return apitest.Fault{Err: &coord.Error{Code: coord.CodeUnavailable, Detail: "injected"}}
	})
	var seen []string
	_, err := c.Update(ctx, "k", func(cur client.Object) ([]byte, error) {
		seen = append(seen, string(cur.Value()))
		return append(cur.Value(), '+'), nil
	})
	if err != nil || !slices.Equal(seen, []string{"", "meanwhile"}) || !slices.Equal(live(r, "k"), []string{"meanwhile+"}) {
		t.Errorf("%q, %q, %v", seen, live(r, "k"), err)
	}
	// Not when it may have been applied.
	calls := 0
	fails(r.Nodes[0], coord.CodeUnavailable, coord.Unknown)
	r.Nodes[0].SetFault(func(o apitest.Op) apitest.Fault {
		if o.Put == nil {
			return apitest.Fault{}
		}
		return apitest.Fault{Err: &coord.Error{Code: coord.CodeUnavailable, Outcome: coord.Unknown}, Applied: true}
	})
	_, err = c.Update(ctx, "k", func(client.Object) ([]byte, error) { calls++; return []byte("once"), nil })
	if !errors.Is(err, client.ErrUnknownOutcome) || calls != 1 || !slices.Equal(live(r, "k"), []string{"once"}) {
		t.Errorf("%d calls, %q, %v", calls, live(r, "k"), err)
	}
}

// TestRacingUpdatesLoseNothing is what Update promises without conditional
// writes: what raced is merged by the next one.
func TestRacingUpdatesLoseNothing(t *testing.T) {
	r, _ := start(t, 3)
	ctx := testContext(t)
	const clients, each = 8, 20
	var wg sync.WaitGroup
	for w := range clients {
		c := connect(t, r, client.OnSiblings(client.SetUnionLines()))
		wg.Go(func() {
			for i := range each {
				if _, err := c.Update(ctx, "k", func(cur client.Object) ([]byte, error) {
					return append(append(cur.Value(), '\n'), fmt.Sprintf("%d-%d", w, i)...), nil
				}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	c := connect(t, r, client.OnSiblings(client.SetUnionLines()))
	if _, err := c.Update(ctx, "k", func(cur client.Object) ([]byte, error) { return cur.Value(), nil }); err != nil {
		t.Fatal(err)
	}
	obj, err := c.Get(ctx, "k")
	if err != nil {
		t.Fatal(err)
	}
	lines := 0
	for _, b := range obj.Value() {
		if b == '\n' {
			lines++
		}
	}
	if string(obj.Value()[0]) == "\n" {
		lines--
	}
	if lines+1 != clients*each {
		t.Errorf("%d of %d lines", lines+1, clients*each)
	}
}

type cart struct {
	Items map[string]int `json:"items"`
}

func TestTyped(t *testing.T) {
	r, c := start(t, 1, client.WithWriteBack(client.WriteBackNever))
	ctx := testContext(t)
	carts := client.NewTyped(c, client.JSON[cart]())
	merge := carts.Resolver(func(a, b cart) (cart, error) {
		for k, n := range b.Items {
			a.Items[k] = max(a.Items[k], n)
		}
		return a, nil
	})
	if _, err := carts.Get(ctx, "k"); !errors.Is(err, client.ErrNotFound) {
		t.Fatal(err)
	}
	v, err := carts.Put(ctx, "k", cart{map[string]int{"tea": 1}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := carts.Update(ctx, "k", func(cur cart, exists bool) (cart, error) {
		if !exists {
			t.Error("it exists")
		}
		cur.Items["milk"] = 2
		return cur, nil
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := carts.Put(ctx, "k", cart{map[string]int{"tea": 5}}, client.After(v)); err != nil {
		t.Fatal(err)
	}
	e, err := carts.Get(ctx, "k")
	if !errors.Is(err, client.ErrSiblings) || len(e.Siblings()) != 2 {
		t.Fatalf("%+v, %v", e, err)
	}
	if s, err := carts.Decode(e.Siblings()[1].Value); err != nil || s.Items["tea"] != 5 {
		t.Errorf("%v, %v", s, err)
	}
	e, err = carts.Get(ctx, "k", client.WithResolver(merge))
	if err != nil || e.V.Items["tea"] != 5 || e.V.Items["milk"] != 2 {
		t.Errorf("%+v, %v", e.V, err)
	}
	if _, err := carts.Delete(ctx, "k", client.After(e.Version())); err != nil {
		t.Fatal(err)
	}
	if _, err := carts.Update(ctx, "k", func(cur cart, exists bool) (cart, error) {
		if exists || cur.Items != nil {
			t.Error("it was deleted")
		}
		return cart{}, nil
	}); err != nil {
		t.Fatal(err)
	}
	// What does not decode is an error, and leaves siblings.
	conflict(r, "bad", "{", "}")
	if _, err := carts.Get(ctx, "bad", client.WithResolver(merge)); !errors.Is(err, client.ErrSiblings) {
		t.Error(err)
	}
	conflict(r, "bad1", "{")
	if _, err := carts.Get(ctx, "bad1"); err == nil || errors.Is(err, client.ErrNotFound) {
		t.Error(err)
	}
	if _, err := carts.Update(ctx, "bad1", func(cur cart, _ bool) (cart, error) { return cur, nil }); err == nil {
		t.Error("an update of what does not decode")
	}
	raw := client.NewTyped(c, client.Bytes())
	if _, err := raw.Put(ctx, "raw", []byte("x")); err != nil {
		t.Fatal(err)
	}
	if e, err := raw.Get(ctx, "raw"); err != nil || string(e.V) != "x" {
		t.Errorf("%v, %v", e, err)
	}
}
