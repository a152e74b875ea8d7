// Package kvtest lets programs that use Atoll test themselves against the real
// thing: whole regions of real nodes in the test's process, with links that can
// be cut and nodes that can be killed, and a check for resolvers.
//
//	func TestCart(t *testing.T) {
//		c := kvtest.NewCluster(t, "eu", "us")
//		eu, us := c.Client("eu"), c.Client("us")
//		c.Partition("eu", "us")
//		...
//		c.Heal("eu", "us")
//		c.Wait()
//	}
//
// Everything listens on loopback, keeps its data in the test's temporary
// directory, and ends with the test. A cluster of two regions is up in two to
// three seconds.
package kvtest

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/node/fleet"
	"github.com/atolldb/atoll/node/topology"
)

// patience bounds starting, and waiting until nodes are equal.
const patience = time.Minute

// Cluster is a deployment that belongs to one test. Whatever fails ends the
// test.
type Cluster struct {
	t     testing.TB
	fleet *fleet.Fleet
}

// NewServer starts a region "local" of one node.
func NewServer(t testing.TB) *Cluster {
	t.Helper()
	return start(t, fleet.Config{Regions: []topology.Region{"local"}, Nodes: 1})
}

// NewCluster starts regions of three nodes each; their nodes are named
// "<region>-1" to "<region>-3".
func NewCluster(t testing.TB, regions ...string) *Cluster {
	t.Helper()
	cfg := fleet.Config{Nodes: 3}
	for _, r := range regions {
		cfg.Regions = append(cfg.Regions, topology.Region(r))
	}
	return start(t, cfg)
}

func start(t testing.TB, cfg fleet.Config) *Cluster {
	t.Helper()
	cfg.Dir = t.TempDir()
	cfg.Logger = hclog.New(&hclog.LoggerOptions{Level: hclog.Error, Output: logTo{t}})
	f, err := fleet.New(cfg)
	if err != nil {
		t.Fatalf("kvtest: %v", err)
	}
	t.Cleanup(func() {
		if err := f.Stop(); err != nil {
			t.Errorf("kvtest: stop: %v", err)
		}
		f.Release()
	})
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := f.Start(ctx); err != nil {
		t.Fatalf("kvtest: start: %v", err)
	}
	return &Cluster{t, f}
}

// logTo writes what nodes say is wrong to the test's log.
type logTo struct{ t testing.TB }

func (l logTo) Write(b []byte) (int, error) {
	l.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

// Endpoints of a region, for client.Open.
func (c *Cluster) Endpoints(region string) string {
	c.t.Helper()
	addrs := c.fleet.Endpoints(topology.Region(region))
	if len(addrs) == 0 {
		c.t.Fatalf("kvtest: no region %q; there are %v", region, c.fleet.Regions())
	}
	return strings.Join(addrs, ",")
}

// Client opens a client of a region. It is closed with the test.
func (c *Cluster) Client(region string, opts ...client.Option) *client.Client {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cl, err := client.Open(ctx, c.Endpoints(region), opts...)
	if err != nil {
		c.t.Fatalf("kvtest: open a client of %s: %v", region, err)
	}
	c.t.Cleanup(func() { cl.Close() })
	return cl
}

// Partition cuts the links between two regions, or two nodes.
func (c *Cluster) Partition(a, b string) { c.t.Helper(); c.check(c.fleet.Partition(a, b)) }

// Heal mends what Partition cut.
func (c *Cluster) Heal(a, b string) { c.t.Helper(); c.check(c.fleet.Heal(a, b)) }

// Kill ends a node as if its process had died.
func (c *Cluster) Kill(node string) { c.t.Helper(); c.check(c.fleet.Kill(topology.NodeID(node))) }

// Restart starts a node that was killed, and waits until it takes writes.
func (c *Cluster) Restart(node string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c.check(c.fleet.StartNode(ctx, topology.NodeID(node)))
}

// Wait returns when all nodes of all regions hold the same. It needs all nodes
// up, no link cut, and nobody writing.
func (c *Cluster) Wait() {
	c.t.Helper()
	limit := time.NewTimer(patience)
	defer limit.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := c.fleet.Converged()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-limit.C:
			c.check(fmt.Errorf("nodes are not equal after %v: %w", patience, err))
		}
	}
}

func (c *Cluster) check(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatalf("kvtest: %v", err)
	}
}
