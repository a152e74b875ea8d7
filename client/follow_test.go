package client_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/geo/regionmap"
	"github.com/atolldb/atoll/node/api/apitest"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/topology"
)

// moves are what OnRegionChange was told.
type moves chan client.RegionChange

func (m moves) option() client.Option {
	return client.OnRegionChange(func(c client.RegionChange) { m <- c })
}

// next waits for one.
func (m moves) next(t *testing.T) client.RegionChange {
	t.Helper()
	select {
	case c := <-m:
		return c
	case <-testContext(t).Done():
		t.Fatal("the client does not move")
		return client.RegionChange{}
	}
}

// world is regions eu, us and ap of two nodes, and a client that was given those of eu.
func world(t *testing.T, opts ...client.Option) (*apitest.World, *client.Client, moves) {
	t.Helper()
	w := apitest.NewWorld(t, 2, "eu", "us", "ap")
	m := make(moves, 100)
	return w, follow(t, addrs(w.Region("eu")), append(opts, m.option(), client.ReturnAfter(0))...), m
}

func follow(t *testing.T, target string, opts ...client.Option) *client.Client {
	t.Helper()
	c, err := client.Open(testContext(t), target, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func putIn(t *testing.T, c *client.Client, opts ...client.WriteOption) string {
	t.Helper()
	var info client.Info
	if _, err := c.Put(testContext(t), "k", []byte("v"), append(opts, client.Overwrite(), client.Explain(&info))...); err != nil {
		t.Fatal(err)
	}
	return info.Region
}

// TestFollowsTheMap: away as soon as the region drains, on to the next when that one is
// out of service, back when it is in service again.
func TestFollowsTheMap(t *testing.T) {
	w, c, m := world(t)
	if r := putIn(t, c); r != "eu" || c.Region() != "eu" {
		t.Fatal(r)
	}
	w.Set("eu", regionmap.Draining)
	// The reply tells that there is a newer map; eu serves still.
	putIn(t, c)
	if got, want := m.next(t), (client.RegionChange{From: "eu", To: "us", Version: 1, State: "DRAINING"}); got != want {
		t.Fatalf("%+v", got)
	}
	if r := putIn(t, c); r != "us" || c.Region() != "us" {
		t.Fatal(r)
	}
	w.Set("eu", regionmap.Fenced)
	w.Set("us", regionmap.Fenced)
	// No error: what us refuses is done in ap.
	if r := putIn(t, c); r != "ap" {
		t.Fatal(r)
	}
	if got, want := m.next(t), (client.RegionChange{From: "us", To: "ap", Version: 3, State: "FENCED"}); got != want {
		t.Fatalf("%+v", got)
	}
	version, regions := c.RegionMap()
	want := []client.RegionPlace{{Name: "eu", State: "FENCED"}, {Name: "us", State: "FENCED"}, {Name: "ap", State: "ACTIVE"}}
	if version != 3 || !slices.Equal(regions, want) {
		t.Errorf("version %d: %v", version, regions)
	}
	w.Set("eu", regionmap.Rejoining)
	w.Set("eu", regionmap.Active)
	putIn(t, c)
	if got := m.next(t); got.To != "eu" || got.State != "ACTIVE" {
		t.Fatalf("%+v", got)
	}
	if r := putIn(t, c); r != "eu" {
		t.Fatal(r)
	}
	if len(m) > 0 {
		t.Errorf("and then %+v", <-m)
	}
}

// TestWritersSeeNoError: while regions come and go under load, with a deadline of two
// seconds, no operation fails, whichever way it is made.
func TestWritersSeeNoError(t *testing.T) {
	w, c, m := world(t)
	ctx, stop := context.WithCancel(testContext(t))
	var wg sync.WaitGroup
	for i := range 8 {
		key := fmt.Sprint("key", i)
		value := make([]byte, 10)
		if i%4 == 3 {
			value = make([]byte, 100<<10) // by a call of its own
		}
		wg.Go(func() {
			var v client.Version
			for n := 0; ctx.Err() == nil; n++ {
				var err error
				switch {
				case i%4 == 2:
					for _, r := range c.PutMany(t.Context(), []client.Item{{Key: key + "a"}, {Key: key + "b"}}, client.Overwrite()) {
						err = errors.Join(err, r.Err)
					}
				default:
					v, err = c.Put(t.Context(), key, value, client.After(v))
				}
				if err == nil {
					_, err = c.Get(t.Context(), key)
				}
				if err != nil && !errors.Is(err, client.ErrNotFound) {
					t.Errorf("%s: %v", key, err)
				}
			}
		})
	}
	for _, out := range []topology.Region{"eu", "us"} {
		w.Set(out, regionmap.Draining)
		w.Set(out, regionmap.Fenced) // at once: nobody had time to go
		m.next(t)
	}
	w.Set("us", regionmap.Active)
	m.next(t)
	stop()
	wg.Wait()
}

// TestLostRegion: nothing moves a client but the map; when the map says so it moves,
// though no node of its own region answers to tell it.
func TestLostRegion(t *testing.T) {
	w, c, m := world(t)
	putIn(t, c)
	w.Region("eu").Close()
	var e *client.Error
	if _, err := c.Put(testContext(t), "k", nil, client.Overwrite()); !errors.As(err, &e) || e.Region != "eu" || len(m) > 0 {
		t.Fatalf("%v, %d moves", err, len(m))
	}
	w.Set("eu", regionmap.Fenced)
	if got := m.next(t); got.To != "us" || got.State != "FENCED" {
		t.Fatalf("%+v", got)
	}
	if r := putIn(t, c); r != "us" {
		t.Fatal(r)
	}
}

// TestSecondBest: a region that the map has ACTIVE and of which no node answers keeps
// the client from none of those behind it, whether it has to go or may.
func TestSecondBest(t *testing.T) {
	w, c, m := world(t)
	putIn(t, c)
	w.Region("us").Close()
	w.Set("eu", regionmap.Fenced)
	if r := putIn(t, c); r != "ap" {
		t.Fatal(r)
	}
	m.next(t)
	for _, n := range w.Region("us").Nodes {
		n.Restart(t)
	}
	w.Region("eu").Close()
	w.Set("eu", regionmap.Rejoining)
	w.Set("eu", regionmap.Active)
	if got := m.next(t); got.To != "us" || got.State != "ACTIVE" {
		t.Fatalf("%+v", got)
	}
	if r := putIn(t, c); r != "us" {
		t.Fatal(r)
	}
}

// TestNewsComeLate: while one node of the region that is left does not know yet that it
// is, none of the region to go to knows that, and half of that one is down, nothing
// that a client does fails.
func TestNewsComeLate(t *testing.T) {
	w, c, m := world(t)
	putIn(t, c)
	w.Region("us").Nodes[0].Kill()
	w.Region("us").Nodes[1].HoldMap()
	w.Region("eu").Nodes[1].HoldMap()
	ctx, stop := context.WithCancel(testContext(t))
	var wg sync.WaitGroup
	for i := range 8 {
		key := fmt.Sprint("key", i)
		value := make([]byte, 10+i/6*(100<<10)) // some by calls of their own
		wg.Go(func() {
			var v client.Version
			for ctx.Err() == nil {
				var err error
				if v, err = c.Put(t.Context(), key, value, client.After(v)); err == nil {
					_, err = c.Get(t.Context(), key)
				}
				if err != nil {
					t.Errorf("%s: %v", key, err)
				}
			}
		})
	}
	w.Set("eu", regionmap.Draining)
	w.Set("eu", regionmap.Fenced)
	if got := m.next(t); got.To != "us" || got.Version != 2 {
		t.Errorf("%+v", got)
	}
	putIn(t, c)
	stop()
	wg.Wait()
	// The news come in the end: it stays where it is.
	w.Region("us").Nodes[1].LearnMap()
	w.Region("eu").Nodes[1].LearnMap()
	if r := putIn(t, c); r != "us" || len(m) > 0 {
		t.Error(r, len(m))
	}
}

// TestRetriedElsewhere: a write whose outcome was unknown in one region says in the
// next one where it was tried, and is the same request. It is answered there after
// the client has gone: what is under way is not cut off.
func TestRetriedElsewhere(t *testing.T) {
	w, c, m := world(t)
	var mu sync.Mutex
	var seen []coord.Put
	began, gone := make(chan struct{}), make(chan struct{})
	for _, r := range w.Regions {
		for _, n := range r.Nodes {
			n.SetFault(func(o apitest.Op) apitest.Fault {
				mu.Lock()
				defer mu.Unlock()
				if o.Put == nil || string(o.Put.Key) != "slow" {
					return apitest.Fault{}
				}
				seen = append(seen, *o.Put)
				if len(seen) > 1 {
					return apitest.Fault{}
				}
				close(began)
				return apitest.Fault{Applied: true, Hold: gone, Err: &coord.Error{Code: coord.CodeUnavailable, Outcome: coord.Unknown}}
			})
		}
	}
	id := client.NewRequestID()
	var info client.Info
	ended := make(chan error, 1)
	go func() {
		_, err := c.Put(testContext(t), "slow", []byte("v"), client.Request(id), client.Explain(&info))
		ended <- err
	}()
	<-began
	w.Set("eu", regionmap.Draining)
	putIn(t, c)
	m.next(t)
	close(gone)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	last := seen[len(seen)-1]
	if info.Region != "us" || last.RequestID != id || !last.Retry || !slices.Equal(last.TriedIn, []topology.Region{"eu"}) || seen[0].Retry {
		t.Errorf("%+v, %+v", info, last)
	}
	if obj, err := c.Get(testContext(t), "slow"); err != nil || len(obj.Siblings()) != 1 {
		t.Errorf("%v, %v", obj.Siblings(), err)
	}
}

// An error names all regions where its write was tried.
func TestErrorNamesTheRegions(t *testing.T) {
	w, c, _ := world(t)
	for _, r := range w.Regions {
		for _, n := range r.Nodes {
			n.SetFault(func(apitest.Op) apitest.Fault {
				w.Set("eu", regionmap.Fenced)
				return apitest.Fault{Err: &coord.Error{Code: coord.CodeUnavailable, Outcome: coord.Unknown, RetryAfterMs: 300}}
			})
		}
	}
	_, err := c.Put(testContext(t), "k", nil)
	var e *client.Error
	if !errors.As(err, &e) || !errors.Is(err, client.ErrUnknownOutcome) || e.Region != "us" || !slices.Equal(e.TriedIn, []string{"eu", "us"}) {
		t.Fatalf("%v: %+v", err, e)
	}
}

func TestPinnedClientStays(t *testing.T) {
	w, c, m := world(t, client.Pin())
	w.Set("eu", regionmap.Fenced)
	_, err := c.Put(testContext(t), "k", nil)
	if !errors.Is(err, client.ErrRegionFenced) || c.Region() != "eu" || len(m) > 0 {
		t.Fatalf("%v, in %s", err, c.Region())
	}
	if _, err := c.Get(testContext(t), "k"); !errors.Is(err, client.ErrNotFound) {
		t.Error(err)
	}
	// Pinned by name, it goes there from wherever it is let in.
	c = follow(t, addrs(w.Region("eu")), client.Region("us"), client.Pin())
	if r := putIn(t, c); r != "us" {
		t.Error(r)
	}
}

// TestLocalSerialStays: what is decided within a region does not move by itself, and
// what it is refused with is no unknown outcome.
func TestLocalSerialStays(t *testing.T) {
	w, c, m := world(t)
	w.Set("eu", regionmap.Fenced)
	putIn(t, c)
	m.next(t)
	puts := w.Region("us").Nodes[0].Puts() + w.Region("us").Nodes[1].Puts()
	var e *client.Error
	_, err := c.Put(testContext(t), "k", nil, client.LocalSerial)
	if !errors.Is(err, client.ErrRegionFenced) || !errors.As(err, &e) || e.Outcome != client.NotApplied || !strings.Contains(e.Detail, "within region eu, which is FENCED") {
		t.Fatalf("%v: %+v", err, e)
	}
	if _, err := c.Get(testContext(t), "k", client.LocalSerial); !errors.Is(err, client.ErrRegionFenced) {
		t.Error(err)
	}
	if n := w.Region("us").Nodes[0].Puts() + w.Region("us").Nodes[1].Puts(); n != puts {
		t.Error("it was asked for elsewhere")
	}
	// Who means the other region says so.
	us := follow(t, addrs(w.Region("us")))
	if r := putIn(t, us, client.LocalSerial); r != "us" {
		t.Error(r)
	}
}

func TestOrderOfRegions(t *testing.T) {
	w := apitest.NewWorld(t, 1, "eu", "us", "ap")
	eu := addrs(w.Region("eu"))
	if c := follow(t, eu, client.Region("us")); putIn(t, c) != "us" {
		t.Error("not the region that was asked for")
	}
	w.Set("us", regionmap.Fenced)
	if c := follow(t, eu, client.Region("us"), client.Fallback("ap", "eu")); putIn(t, c) != "ap" {
		t.Error("not the first fallback that is in service")
	}
	if c := follow(t, eu, client.Region("us"), client.Fallback("ap")); putIn(t, c) != "ap" {
		t.Error("it stays where nobody sent it")
	}
	// A region that is lost, and the nodes of another one to begin with.
	w.Region("ap").Close()
	if c := follow(t, addrs(w.Region("ap"))+","+eu); putIn(t, c) != "eu" {
		t.Error("it did not begin")
	}
	for _, opts := range [][]client.Option{
		{client.Region("mars")}, {client.Fallback("us", "mars")}, {client.Region("mars"), client.Pin()},
		{client.Region("ap"), client.Pin()}, {client.Region("ap"), client.Fallback()},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		if c, err := client.Open(ctx, eu, opts...); err == nil {
			t.Errorf("it works in %s", c.Region())
			c.Close()
		}
		cancel()
	}
}

// A deployment of one region has no map, and nothing to follow.
func TestOneRegion(t *testing.T) {
	r, c := start(t, 2)
	if version, regions := c.RegionMap(); version != 0 || regions != nil || c.Region() != "eu" {
		t.Errorf("%d %v %s", version, regions, c.Region())
	}
	follow(t, addrs(r), client.Region("eu"))
	var e *client.Error
	if _, err := client.Open(testContext(t), addrs(r), client.Region("us")); !errors.As(err, &e) || e.Field != "region" || !errors.Is(err, client.ErrInvalid) {
		t.Error(err)
	}
}
