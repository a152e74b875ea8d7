package kvtest_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/client/kvtest"
)

func lines(rng *rand.Rand) []byte {
	var out []string
	for _, item := range []string{"eggs", "milk", "tea"} {
		if rng.IntN(2) == 0 {
			out = append(out, item)
		}
	}
	return []byte(strings.Join(out, "\n"))
}

// A user's test: two regions disagree, and a resolver settles it.
func TestCluster(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c := kvtest.NewCluster(t, "eu", "us")
	eu, us := c.Client("eu"), c.Client("us", client.OnSiblings(client.SetUnionLines()))
	c.Partition("eu", "us")
	if _, err := eu.Put(ctx, "cart", []byte("milk")); err != nil {
		t.Fatal(err)
	}
	if _, err := us.Put(ctx, "cart", []byte("eggs")); err != nil {
		t.Fatal(err)
	}
	c.Heal("eu", "us")
	c.Wait()
	if _, err := eu.Get(ctx, "cart"); !errors.Is(err, client.ErrSiblings) {
		t.Fatalf("a client without a resolver got %v, want ErrSiblings", err)
	}
	obj, err := us.Get(ctx, "cart")
	if err != nil {
		t.Fatal(err)
	}
	if got := string(obj.Value()); !strings.Contains(got, "milk") || !strings.Contains(got, "eggs") {
		t.Fatalf("merged to %q", got)
	}
	c.Kill("eu-2")
	if _, err := eu.Put(ctx, "other", []byte("v"), client.LocalQuorum); err != nil {
		t.Fatalf("a write without eu-2: %v", err)
	}
	c.Restart("eu-2")
	c.Wait()
}

func TestServer(t *testing.T) {
	c := kvtest.NewServer(t).Client("local")
	if _, err := c.Put(t.Context(), "k", []byte("v")); err != nil {
		t.Fatal(err)
	}
	obj, err := c.Get(t.Context(), "k")
	if err != nil || string(obj.Value()) != "v" {
		t.Fatalf("got %q, %v", obj.Value(), err)
	}
}

// The ready-made resolvers hold, and broken ones are found.
func TestCheckResolver(t *testing.T) {
	for name, r := range map[string]client.Resolver{
		"last writer wins": client.LastWriterWins(),
		"set union":        client.SetUnionLines(),
		"region priority":  client.RegionPriority("eu", "us", "ap"),
	} {
		t.Run(name, func(t *testing.T) { kvtest.CheckResolver(t, r, lines) })
	}
	calls := 0
	for name, r := range map[string]client.Resolver{
		"depends on the order": func(_ context.Context, _ string, s []client.Sibling) (client.Resolution, error) {
			return client.Keep(0), nil
		},
		"not deterministic": func(_ context.Context, _ string, s []client.Sibling) (client.Resolution, error) {
			calls++
			return client.Merged(fmt.Append(nil, calls)), nil
		},
		"not idempotent": func(_ context.Context, _ string, s []client.Sibling) (client.Resolution, error) {
			n := 0
			for _, x := range s {
				n += len(x.Value) + 1
			}
			return client.Merged(fmt.Append(nil, n)), nil
		},
		"changes its input": func(_ context.Context, _ string, s []client.Sibling) (client.Resolution, error) {
			for i := range s {
				s[i].Value = []byte("x")
			}
			return client.Merged([]byte("x")), nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			found := &recorder{TB: t}
			kvtest.CheckResolver(found, r, lines)
			if !found.failed {
				t.Error("nothing was found wrong")
			}
		})
	}
}

type recorder struct {
	testing.TB
	failed bool
}

func (r *recorder) Errorf(string, ...any) { r.failed = true }
