package grpcpeer_test

import (
	"context"
	"net"
	"sync"
	"testing"

	"google.golang.org/grpc"

	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/peer/grpcpeer"
	"github.com/atolldb/atoll/node/peer/peertest"
	"github.com/atolldb/atoll/node/topology"
)

// loopback is a peertest.Net over TCP on 127.0.0.1.
type loopback struct {
	t     testing.TB
	mu    sync.Mutex
	addrs map[topology.NodeID]string
	stops map[topology.NodeID]func()
	tune  func(*grpcpeer.Config, *grpcpeer.ServerConfig)
	// clients and servers of the nodes that run.
	clients map[topology.NodeID]*grpcpeer.Client
	servers map[topology.NodeID]*grpcpeer.Server
}

func newLoopback(t testing.TB) *loopback {
	n := &loopback{
		t: t, addrs: map[topology.NodeID]string{}, stops: map[topology.NodeID]func(){},
		clients: map[topology.NodeID]*grpcpeer.Client{}, servers: map[topology.NodeID]*grpcpeer.Server{},
	}
	t.Cleanup(func() {
		for id := range n.stops {
			n.Stop(id)
		}
	})
	return n
}

func (n *loopback) Start(id topology.NodeID, h peer.Handler) peer.Transport {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		n.t.Fatal(err)
	}
	cfg := grpcpeer.Config{Self: id, Region: "eu", Partitions: 64, Handler: h, Addrs: n.addr}
	serverCfg := grpcpeer.ServerConfig{Self: id, Region: "eu", Partitions: 64}
	if n.tune != nil {
		n.tune(&cfg, &serverCfg)
	}
	srv := grpc.NewServer(grpcpeer.ServerOptions()...)
	server := grpcpeer.NewServer(h, serverCfg)
	server.Register(srv)
	client := grpcpeer.New(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	var both sync.WaitGroup
	both.Go(func() { _ = srv.Serve(lis) })
	both.Go(func() { _ = client.Run(ctx) })
	<-client.Running()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.addrs[id] = lis.Addr().String()
	n.clients[id], n.servers[id] = client, server
	n.stops[id] = func() {
		cancel()
		srv.Stop()
		both.Wait()
	}
	return client
}

func (n *loopback) addr(id topology.NodeID) (string, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	addr, ok := n.addrs[id]
	return addr, ok
}

func (n *loopback) Stop(id topology.NodeID) {
	n.mu.Lock()
	stop := n.stops[id]
	delete(n.stops, id)
	n.mu.Unlock()
	if stop != nil {
		stop()
	}
}

func TestConformance(t *testing.T) {
	peertest.Run(t, peertest.Plain, func(t *testing.T) peertest.Net { return newLoopback(t) })
}
