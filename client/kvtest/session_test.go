package kvtest_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/client/kvtest"
)

// A session goes on in another region where it stood: what was just written
// there is read here, at LOCAL_ONE; and when the regions cannot hear each other,
// the client is told what is missing, and of whom.
func TestSessionMoves(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	c := kvtest.NewCluster(t, "eu", "us")
	eu, us := c.Client("eu"), c.Client("us", client.Timeout(10*time.Second))
	missed := 0
	for i := range 40 {
		key, user := fmt.Sprint("k", i), eu.Session()
		if _, err := user.Put(ctx, key, []byte("v"), client.LocalOne); err != nil {
			t.Fatal(err)
		}
		if _, err := us.Session().Get(ctx, key, client.LocalOne); errors.Is(err, client.ErrNotFound) {
			missed++
		}
		there, err := us.SessionFrom(user.Token())
		if err != nil {
			t.Fatal(err)
		}
		if obj, err := there.Get(ctx, key, client.LocalOne); err != nil || string(obj.Value()) != "v" {
			t.Errorf("the session does not find its write: %v", err)
		}
	}
	if missed == 0 {
		t.Error("another session found everything at once, too: the test shows nothing")
	}

	c.Partition("eu", "us")
	user := eu.Session()
	if _, err := user.Put(ctx, "cut", []byte("v")); err != nil {
		t.Fatal(err)
	}
	there, err := us.SessionFrom(user.Token())
	if err != nil {
		t.Fatal(err)
	}
	// told asks until nodes had the time to say what is missing: a machine that is busy
	// may not let them in a second, and a write without an answer is one in doubt.
	told := func(do func(context.Context) error) (err error) {
		for d := time.Second; d < 8*time.Second; d += time.Second {
			short, stop := context.WithTimeout(ctx, d)
			err = do(short)
			stop()
			if err == nil || errors.Is(err, client.ErrSessionBehind) {
				break
			}
		}
		return err
	}
	err = told(func(ctx context.Context) error {
		_, err := there.Get(ctx, "cut", client.LocalOne)
		return err
	})
	var e *client.Error
	if !errors.Is(err, client.ErrSessionBehind) || !errors.As(err, &e) || e.Missing != 1 || len(e.MissingFrom) != 1 || e.MissingFrom[0] != "eu" {
		t.Errorf("cut off: %v, %+v", err, e)
	}
	if err := told(func(ctx context.Context) error {
		_, err := there.Put(ctx, "cut", []byte("w"), client.LocalOne)
		return err
	}); !errors.Is(err, client.ErrSessionBehind) {
		t.Errorf("a write of a session that is ahead: %v", err)
	}
	c.Heal("eu", "us")
	if obj, err := there.Get(ctx, "cut", client.LocalOne); err != nil || string(obj.Value()) != "v" {
		t.Errorf("after the cut: %v", err)
	}
	if _, err := us.SessionFrom("no token"); !errors.Is(err, client.ErrBadSession) {
		t.Error(err)
	}
}

// One session may be used by many at once, and by batches: its token stays within
// what nodes take, and knows all of it in the end.
func TestSessionAtOnce(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s := kvtest.NewServer(t).Client("local", client.Timeout(30*time.Second)).Session()
	var all sync.WaitGroup
	for i := range 300 {
		all.Go(func() {
			if i%3 > 0 { // writes cost more than reads
				if _, err := s.Get(ctx, "hot"); err != nil && !errors.Is(err, client.ErrSiblings) && !errors.Is(err, client.ErrNotFound) {
					t.Error(err)
				}
				return
			}
			if _, err := s.Put(ctx, "hot", fmt.Append(nil, i), client.Overwrite()); err != nil {
				t.Error(err)
			}
			if _, err := s.Get(ctx, "hot"); err != nil && !errors.Is(err, client.ErrSiblings) {
				t.Error(err)
			}
		})
	}
	all.Wait()
	keys := make([]string, 1500)
	items := make([]client.Item, len(keys))
	for i := range keys {
		keys[i] = fmt.Sprint("key", i)
		items[i] = client.Item{Key: keys[i], Value: []byte("v")}
	}
	for some := range slices.Chunk(items, 100) { // no more at a time than a busy machine takes
		for i, r := range s.PutMany(ctx, some) {
			if r.Err != nil {
				t.Fatalf("%s: %v", some[i].Key, r.Err)
			}
		}
	}
	for i, r := range s.GetMany(ctx, keys, client.LocalOne) {
		if r.Err != nil || string(r.Object.Value()) != "v" {
			t.Fatalf("%d: %v", i, r.Err)
		}
	}
	if _, err := s.Get(ctx, "hot"); err != nil && !errors.Is(err, client.ErrSiblings) {
		t.Error(err)
	}
	t.Logf("a token of %d bytes", len(s.Token()))
}

// How old an answer may be in what another region wrote is bounded, and told. When
// the other one is cut off, it gets old; after that, it is waited for.
func TestStaleness(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c := kvtest.NewCluster(t, "eu", "us")
	eu, us := c.Client("eu"), c.Client("us", client.Timeout(15*time.Second))
	began := time.Now()
	if _, err := eu.Put(ctx, "k", []byte("v")); err != nil {
		t.Fatal(err)
	}
	written := time.Now()
	// Everything up to the write, and it is there.
	var info client.Info
	obj, err := us.Get(ctx, "k", client.WaitFresh(time.Since(began)+time.Second), client.Freshness(), client.Explain(&info))
	if err != nil && !errors.Is(err, client.ErrNotFound) {
		t.Fatal(err)
	}
	for err == nil && len(info.Freshness) == 1 && info.Freshness[0].CompleteAsOf.Before(written) || errors.Is(err, client.ErrNotFound) {
		if len(info.Freshness) == 1 && info.Freshness[0].CompleteAsOf.After(written) {
			t.Fatal("it is said to be complete, and lacks the write")
		}
		obj, err = us.Get(ctx, "k", client.WaitFresh(2*time.Second), client.Freshness(), client.Explain(&info))
	}
	if err != nil || string(obj.Value()) != "v" || len(info.Freshness) != 1 || info.Freshness[0].Region != "eu" {
		t.Fatalf("%v, %+v", err, info)
	}
	c.Partition("eu", "us")
	for {
		_, err := us.Get(ctx, "k", client.MaxStaleness(2*time.Second), client.LocalOne)
		if errors.Is(err, client.ErrStale) {
			var e *client.Error
			if !errors.As(err, &e) || len(e.MissingFrom) != 1 || e.MissingFrom[0] != "eu" {
				t.Errorf("%+v", e)
			}
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := us.Get(ctx, "k", client.MaxStaleness(-1)); !errors.Is(err, client.ErrInvalid) {
		t.Error(err)
	}
	c.Heal("eu", "us")
	if _, err := us.Get(ctx, "k", client.WaitFresh(2*time.Second)); err != nil {
		t.Errorf("after the cut: %v", err)
	}
}
