package client_test

import (
	"context"
	"errors"
	"strconv"
	"testing"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/node/api/apitest"
)

func TestConditions(t *testing.T) {
	r := apitest.NewRegion(t, 3)
	c, err := client.Open(t.Context(), addrs(r))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx := t.Context()
	// fails expects that a write did not happen, and what is there to be.
	fails := func(err error, values ...string) client.Object {
		t.Helper()
		var e *client.Error
		if !errors.Is(err, client.ErrConditionFailed) || !errors.As(err, &e) || e.Outcome != client.NotApplied {
			t.Fatalf("%v, not a condition that failed", err)
		}
		obj, ok := e.Current()
		if !ok || obj.Exists() != (len(values) > 0) || len(obj.Siblings()) != len(values) {
			t.Fatalf("there is %+v (%v), not %q", obj, ok, values)
		}
		for i, s := range obj.Siblings() {
			if string(s.Value) != values[i] {
				t.Errorf("%q at %d, not %q", s.Value, i, values[i])
			}
		}
		if len(values) == 1 && string(obj.Value()) != values[0] || len(values) > 1 && obj.Value() != nil {
			t.Errorf("value %q", obj.Value())
		}
		return obj
	}

	_, err = c.Put(ctx, "k", []byte("0"), client.IfPresent())
	fails(err)
	first, err := c.Put(ctx, "k", []byte("1"), client.IfAbsent())
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Put(ctx, "k", []byte("2"), client.IfAbsent(), client.LocalSerial)
	there := fails(err, "1")
	if _, err = c.Put(ctx, "k", []byte("2"), client.IfUnchanged(there.Version())); err != nil {
		t.Fatal(err)
	}
	_, err = c.Put(ctx, "k", []byte("3"), client.IfUnchanged(first))
	there = fails(err, "2")
	_, err = c.Delete(ctx, "k", client.IfUnchanged(first))
	fails(err, "2")
	id := there.Siblings()[0].ID
	if _, err = c.Put(ctx, "k", []byte("3"), client.IfVersion(id)); err != nil {
		t.Fatal(err)
	}
	r.Store.Blind("", "k", crdt.MakeActor(100, 2), "s")
	id.N++
	_, err = c.Put(ctx, "k", []byte("4"), client.IfVersion(id))
	fails(err, "3", "s")
	if _, err = c.Delete(ctx, "k", client.IfPresent()); err != nil {
		t.Fatal(err)
	}
	_, err = c.Delete(ctx, "k", client.IfPresent())
	fails(err)
	if _, err = c.Put(ctx, "zero", []byte("1"), client.IfUnchanged(client.Version{})); err != nil {
		t.Fatal(err)
	}
	_, err = c.Put(ctx, "zero", []byte("2"), client.IfUnchanged(client.Version{}))
	fails(err, "1")

	// The answers for many, and to what does not fit on the stream.
	many := c.PutMany(ctx, []client.Item{{Key: "zero", Value: []byte("3")}, {Key: "new", Value: []byte("n")}}, client.IfAbsent())
	fails(many[0].Err, "1")
	if many[1].Err != nil {
		t.Error(many[1].Err)
	}
	_, err = c.Put(ctx, "zero", make([]byte, 200<<10), client.IfAbsent())
	fails(err, "1")

	var e *client.Error
	if _, err = c.Get(ctx, "nothing"); errors.As(err, &e) {
		if _, ok := e.Current(); ok {
			t.Error("there is something instead of nothing")
		}
	}
}

// Conditions that say nothing, or two things, are refused before anything is sent.
func TestBadConditions(t *testing.T) {
	r := apitest.NewRegion(t, 1)
	c, err := client.Open(t.Context(), addrs(r))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	v, err := c.Put(t.Context(), "k", []byte("1"))
	if err != nil {
		t.Fatal(err)
	}
	before := r.Nodes[0].Puts()
	for name, opts := range map[string][]client.WriteOption{
		"two":           {client.IfAbsent(), client.IfPresent()},
		"twice":         {client.IfAbsent(), client.IfAbsent()},
		"no version":    {client.IfVersion(client.VersionID{})},
		"half of one":   {client.IfVersion(client.VersionID{Actor: 1})},
		"other version": {client.IfUnchanged(v), client.After(client.Version{})},
	} {
		if _, err := c.Put(t.Context(), "k", []byte("2"), opts...); !errors.Is(err, client.ErrInvalid) {
			t.Errorf("%s: put: %v", name, err)
		}
		if _, err := c.Delete(t.Context(), "k", opts...); !errors.Is(err, client.ErrInvalid) {
			t.Errorf("%s: delete: %v", name, err)
		}
	}
	if _, err := c.Put(t.Context(), "other", nil, client.IfUnchanged(v)); !errors.Is(err, client.ErrBadVersion) {
		t.Errorf("version of another key: %v", err)
	}
	if n := r.Nodes[0].Puts(); n != before {
		t.Errorf("%d writes were sent", n-before)
	}
}

// An Update at LocalSerial counts exactly, however many others it meets: what it
// loses to is shown to it, and it reads once.
func TestUpdateIsExact(t *testing.T) {
	r := apitest.NewRegion(t, 3)
	c, err := client.Open(t.Context(), addrs(r))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx := t.Context()
	calls := 0
	_, err = c.Update(ctx, "n", func(cur client.Object) ([]byte, error) {
		if calls++; calls <= 6 { // more often than other updates are tried
			if _, err := c.Put(ctx, "n", []byte(strconv.Itoa(calls)), client.After(cur.Version())); err != nil {
				t.Fatal(err)
			}
		}
		n, _ := strconv.Atoi(string(cur.Value()))
		return []byte(strconv.Itoa(n + 1)), nil
	}, client.LocalSerial)
	gets := int64(0)
	for _, n := range r.Nodes {
		gets += n.Gets()
	}
	if err != nil || calls != 7 || gets != 1 {
		t.Errorf("%v after %d calls and %d reads", err, calls, gets)
	}
	if obj, err := c.Get(ctx, "n"); err != nil || string(obj.Value()) != "7" || len(obj.Siblings()) != 1 {
		t.Errorf("%q: %v", obj.Value(), err)
	}

	// It ends with its time, and has not written.
	ctx, cancel := context.WithCancel(ctx)
	_, err = c.Update(ctx, "n", func(cur client.Object) ([]byte, error) {
		if calls++; calls == 10 {
			cancel()
		} else if _, err := c.Put(ctx, "n", []byte("lost"), client.After(cur.Version())); err != nil {
			t.Fatal(err)
		}
		return []byte("mine"), nil
	}, client.LocalSerial)
	var e *client.Error
	if !errors.As(err, &e) || e.Outcome != client.NotApplied {
		t.Errorf("canceled: %v", err)
	}
}
