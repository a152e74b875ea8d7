// Package natsdtest starts NATS servers that end with their test.
package natsdtest

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go"

	"github.com/atolldb/atoll/geo/natsd"
	"github.com/atolldb/atoll/internal/freeport"
)

// Node is a running server.
type Node struct {
	*natsd.Server
	stop func()
}

// Stop ends the server and returns when it has ended.
func (n *Node) Stop() { n.stop() }

// Client opens a connection that ends with the test.
func (n *Node) Client(t testing.TB) *nats.Conn {
	t.Helper()
	nc, err := n.Connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// Start starts a server and waits until clients can connect.
func Start(t testing.TB, cfg natsd.Config) *Node {
	t.Helper()
	s := natsd.New(cfg, hclog.NewNullLogger())
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	n := &Node{s, sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("nats server %s: %v", cfg.Name, err)
		}
	})}
	t.Cleanup(n.Stop)
	select {
	case <-s.Ready():
	case err := <-done:
		done <- nil
		t.Fatalf("nats server %s: %v", cfg.Name, err)
	case <-time.After(time.Minute):
		t.Fatalf("nats server %s does not start", cfg.Name)
	}
	return n
}

// Solo starts a standalone server.
func Solo(t testing.TB, region, dir string) *Node {
	t.Helper()
	return Start(t, natsd.Config{Name: region + "-1", Region: region, DataDir: dir, Listen: "127.0.0.1:0"})
}

// Cluster starts three servers of a region. JetStream answers some time later.
func Cluster(t testing.TB, region string) []*Node {
	t.Helper()
	routes := freeport.For(t, 3) // every server must know the routes of all
	var nodes []*Node
	for i, r := range routes {
		nodes = append(nodes, Start(t, natsd.Config{
			Name: fmt.Sprintf("%s-%d", region, i+1), Region: region, DataDir: t.TempDir(), Listen: "127.0.0.1:0",
			Cluster: &natsd.Cluster{Listen: r, Routes: routes},
		}))
	}
	return nodes
}
