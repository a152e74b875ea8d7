package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/node/fleet"
	"github.com/atolldb/atoll/node/topology"
)

func start(t *testing.T, cfg fleet.Config) (*fleet.Fleet, context.Context) {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	cfg.Logger = hclog.New(&hclog.LoggerOptions{Level: hclog.Warn, Output: newTestWriter(t)})
	f, err := fleet.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 150*time.Second)
	t.Cleanup(cancel)
	t.Cleanup(func() {
		if err := f.Stop(); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	if err := f.Start(ctx); err != nil {
		t.Fatal(err)
	}
	return f, ctx
}

// testWriter logs to a test until that has ended: a word that comes later, of a server
// that is still going down, would end all tests.
type testWriter struct {
	t     *testing.T
	mu    sync.Mutex
	ended bool
}

// newTestWriter is to be called before what writes is started.
func newTestWriter(t *testing.T) *testWriter {
	w := &testWriter{t: t}
	t.Cleanup(func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.ended = true
	})
	return w
}

func (w *testWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.ended {
		w.t.Log(strings.TrimSpace(string(b)))
	}
	return len(b), nil
}

// open returns a client that stays in its region.
func open(t *testing.T, ctx context.Context, f *fleet.Fleet, region topology.Region) *client.Client {
	t.Helper()
	c, err := client.Open(ctx, strings.Join(f.Endpoints(region), ","), client.Pin())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// busy writes to fifty keys, one write after the other, until stop is called, which
// fails the test if any of them has.
func busy(t *testing.T, ctx context.Context, c *client.Client) (stop func()) {
	writing, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() {
		for i := 0; writing.Err() == nil; i++ {
			if _, err := c.Put(ctx, fmt.Sprint("busy", i%50), fmt.Append(nil, i)); err != nil {
				ended <- err
				return
			}
		}
		ended <- nil
	}()
	return func() {
		t.Helper()
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("a write failed meanwhile: %v", err)
		}
	}
}

// eventually asks until ok says yes.
func eventually(t *testing.T, ctx context.Context, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("never: %s", what)
		}
	}
}

// The first five minutes: both regions write the same key while they are cut
// off from each other; both show two siblings afterwards; one write resolves
// them in both.
func TestTwoRegionsDisagreeAndAgree(t *testing.T) {
	f, ctx := start(t, fleet.Config{Regions: []topology.Region{"eu", "us"}, Latency: 10 * time.Millisecond})
	eu, us := open(t, ctx, f, "eu"), open(t, ctx, f, "us")
	if err := f.Partition("eu", "us"); err != nil {
		t.Fatal(err)
	}
	if _, err := eu.Put(ctx, "cart/42", []byte("milk")); err != nil {
		t.Fatal(err)
	}
	if _, err := us.Put(ctx, "cart/42", []byte("eggs")); err != nil {
		t.Fatal(err)
	}
	if err := f.Heal("eu", "us"); err != nil {
		t.Fatal(err)
	}
	var seen client.Object
	for _, c := range []*client.Client{eu, us} {
		eventually(t, ctx, "two siblings", func() bool {
			obj, err := c.Get(ctx, "cart/42")
			seen = obj
			return errors.Is(err, client.ErrSiblings) && len(obj.Siblings()) == 2
		})
	}
	if _, err := us.Put(ctx, "cart/42", []byte("milk, eggs"), client.After(seen.Version())); err != nil {
		t.Fatal(err)
	}
	eventually(t, ctx, "one value in eu", func() bool {
		obj, err := eu.Get(ctx, "cart/42")
		return err == nil && string(obj.Value()) == "milk, eggs"
	})
}

// A node that dies is missed by nobody at LOCAL_QUORUM, and is caught up when
// it returns.
func TestKilledNodeCatchesUp(t *testing.T) {
	f, ctx := start(t, fleet.Config{Regions: []topology.Region{"eu"}})
	eu := open(t, ctx, f, "eu")
	actor := f.Process("eu-2").Node().Replica().Actor()
	if err := f.Kill("eu-2"); err != nil {
		t.Fatal(err)
	}
	for _, k := range []string{"a", "b", "c", "d", "e", "f"} {
		eventually(t, ctx, "a write without eu-2", func() bool {
			_, err := eu.Put(ctx, k, []byte("v"))
			return err == nil
		})
	}
	if err := f.StartNode(ctx, "eu-2"); err != nil {
		t.Fatal(err)
	}
	n := f.Process("eu-2").Node()
	if n.Replica().Actor() == actor {
		t.Error("a killed node resumed its actor")
	}
	eventually(t, ctx, "eu-2 equals eu-1", func() bool {
		for _, p := range n.Replica().Owned() {
			if n.Replica().Sum(p) != f.Process("eu-1").Node().Replica().Sum(p) {
				return false
			}
		}
		return true
	})
	if n.Repair().Stats().RepairedKeys.Load() == 0 {
		t.Error("nothing was repaired")
	}
}

// A node that could not start is down, and can be started again.
func TestNodeThatCannotStart(t *testing.T) {
	f, ctx := start(t, fleet.Config{Regions: []topology.Region{"eu"}, Nodes: 1})
	if err := f.StopNode("eu-1"); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", f.Admin("eu-1"))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.StartNode(ctx, "eu-1"); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("started on a port in use: %v", err)
	}
	if f.Up("eu-1") {
		t.Error("it is up")
	}
	if err := f.Stop(); err != nil {
		t.Errorf("what was told is told again: %v", err)
	}
	l.Close()
	if err := f.StartNode(ctx, "eu-1"); err != nil {
		t.Error(err)
	}
	if !f.Up("eu-1") {
		t.Error("it is down")
	}
}

// A node joins while the region runs: everybody knows it, clients find it, its
// links can be cut, and it can be stopped and started.
func TestAddNode(t *testing.T) {
	f, ctx := start(t, fleet.Config{Regions: []topology.Region{"eu", "us"}, Nodes: 1})
	if err := f.AddNode(ctx, "eu", "eu-4", "rack-9"); err != nil {
		t.Fatal(err)
	}
	if got := f.Endpoints("eu"); len(got) != 2 || got[1] != f.Process("eu-4").Addrs().Client {
		t.Errorf("endpoints %v", got)
	}
	eventually(t, ctx, "all of eu know it", func() bool {
		for _, id := range []topology.NodeID{"eu-1", "eu-4"} {
			m := f.Process(id).Node().Topology().Member("eu-4")
			if m == nil || m.State != topology.Joining || m.Rack != "rack-9" {
				return false
			}
		}
		return true
	})
	c, err := client.Open(ctx, f.Endpoints("eu")[1])
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Put(ctx, "k", []byte("v")); err != nil {
		t.Error(err)
	}
	if err := f.Partition("eu-1", "eu-4"); err != nil {
		t.Error(err)
	}
	eventually(t, ctx, "the cut is seen", func() bool {
		return slices.Contains(f.Process("eu-4").Node().PeersDown(), "eu-1")
	})
	f.HealAll()
	if err := f.Kill("eu-4"); err != nil {
		t.Fatal(err)
	}
	if err := f.StartNode(ctx, "eu-4"); err != nil {
		t.Fatal(err)
	}
	eventually(t, ctx, "a read through it", func() bool {
		obj, err := c.Get(ctx, "k")
		return err == nil && string(obj.Value()) == "v"
	})
	if err := f.AddNode(ctx, "eu", "eu-4", ""); err == nil {
		t.Error("it joined twice")
	}
	if err := f.AddNode(ctx, "mars", "m-1", ""); err == nil {
		t.Error("it joined a region that is not there")
	}
}
