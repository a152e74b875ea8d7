package client_test

import (
	"context"
	"fmt"
	"net"
	"testing"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/node/api"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/quorum"
	"github.com/atolldb/atoll/node/topology"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"

	"github.com/atolldb/atoll/crdt"
)

// echo is a KV server that answers at once: what is measured is the client.
type echo struct {
	atollv1.UnimplementedKVServer
	get *atollv1.GetResponse
	put *atollv1.PutResponse
}

func newEcho(value []byte) *echo {
	achieved := &atollv1.Achieved{Level: 4, Needed: 2, Replicas: []string{"n1", "n2"}, Region: "eu", Coordinator: "n1"}
	version := &atollv1.Version{Actor: 65, N: 7}
	return &echo{
		get: &atollv1.GetResponse{
			Siblings: []*atollv1.Sibling{{Version: version, Value: value, Stamp: 1 << 40, Region: "eu"}},
			Context:  make([]byte, 40), Achieved: achieved,
		},
		put: &atollv1.PutResponse{Version: version, Context: make([]byte, 40), Achieved: achieved},
	}
}

func (e *echo) Get(context.Context, *atollv1.GetRequest) (*atollv1.GetResponse, error) {
	return e.get, nil
}

func (e *echo) Put(context.Context, *atollv1.PutRequest) (*atollv1.PutResponse, error) {
	return e.put, nil
}

func (e *echo) Stream(s atollv1.KV_StreamServer) error {
	if err := s.SendHeader(metadata.MD{}); err != nil {
		return err
	}
	for {
		q, err := s.Recv()
		if err != nil {
			return nil // the client left
		}
		res := &atollv1.StreamResponse{Replies: make([]*atollv1.StreamReply, len(q.Calls))}
		for i, c := range q.Calls {
			res.Replies[i] = &atollv1.StreamReply{Id: c.Id}
			switch c.Op.(type) {
			case *atollv1.StreamCall_Get:
				res.Replies[i].Result = &atollv1.StreamReply_Get{Get: e.get}
			default:
				res.Replies[i].Result = &atollv1.StreamReply_Put{Put: e.put}
			}
		}
		if err := s.Send(res); err != nil {
			return err
		}
	}
}

func serve(b *testing.B, kv atollv1.KVServer, opts ...grpc.ServerOption) *grpc.ClientConn {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	srv := grpc.NewServer(opts...)
	atollv1.RegisterKVServer(srv, kv)
	go srv.Serve(lis) // ends with Stop
	b.Cleanup(srv.Stop)
	cc, err := grpc.NewClient(lis.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { cc.Close() })
	return cc
}

// at is an asynchronous coordinator that answers at once.
type at struct {
	get coord.GetResult
	put coord.PutResult
}

func (a *at) Get(_ coord.Get, done func(coord.GetResult, error)) { done(a.get, nil) }
func (a *at) Put(_ coord.Put, done func(coord.PutResult, error)) { done(a.put, nil) }

func apiServer(value []byte) atollv1.KVServer {
	achieved := coord.Achieved{Level: quorum.LocalQuorum, Needed: 2, Replicas: []topology.NodeID{"n1", "n2"}, Coordinator: "n1"}
	v := crdt.Version{Dot: crdt.Dot{Actor: 65, N: 7}, Stamp: 1 << 40, Value: value}
	return api.NewKVService(&at{
		get: coord.GetResult{View: crdt.View{Live: []crdt.Version{v}}, Context: make([]byte, 40), Achieved: achieved},
		put: coord.PutResult{Version: v.Dot, Context: make([]byte, 40), Achieved: achieved},
	}, "eu", func(topology.RegionID) topology.Region { return "eu" }, hclog.NewNullLogger())
}

// BenchmarkStream is the SDK's Get and Put with 256 callers: over one stream
// against a mock, and against the rim of a node.
func BenchmarkStream(b *testing.B) {
	value := make([]byte, 100)
	for name, kv := range map[string]atollv1.KVServer{"mock": newEcho(value), "node-api": apiServer(value)} {
		for _, op := range []string{"get", "put"} {
			b.Run(name+"/"+op, func(b *testing.B) {
				c := client.New(serve(b, kv))
				defer c.Close()
				b.SetParallelism(128)
				b.ReportAllocs()
				b.ResetTimer()
				b.RunParallel(func(pb *testing.PB) {
					ctx := context.Background()
					for i := 0; pb.Next(); i++ {
						key := fmt.Sprintf("key%08d", i)
						var err error
						if op == "get" {
							_, err = c.Get(ctx, key)
						} else {
							_, err = c.Put(ctx, key, value)
						}
						if err != nil {
							b.Error(err)
							return
						}
					}
				})
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "ops/s")
			})
		}
	}
}

// BenchmarkUnary is the same by the generated stub, one RPC a call.
func BenchmarkUnary(b *testing.B) {
	value := make([]byte, 100)
	kv := atollv1.NewKVClient(serve(b, newEcho(value)))
	b.SetParallelism(128)
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			ctx, cancel := context.WithTimeout(context.Background(), 2e9)
			_, err := kv.Get(ctx, &atollv1.GetRequest{Key: []byte(fmt.Sprintf("key%08d", i))})
			cancel()
			if err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "ops/s")
}

// BenchmarkMany is GetMany of 100 keys by 16 callers; an op is one key.
func BenchmarkMany(b *testing.B) {
	c := client.New(serve(b, newEcho(make([]byte, 100))))
	defer c.Close()
	keys := make([]string, 100)
	for i := range keys {
		keys[i] = fmt.Sprintf("key%08d", i)
	}
	b.SetParallelism(8)
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for {
			n := 0
			for n < len(keys) && pb.Next() {
				n++
			}
			if n == 0 {
				return
			}
			for _, g := range c.GetMany(context.Background(), keys[:n]) {
				if g.Err != nil {
					b.Error(g.Err)
					return
				}
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "ops/s")
}

func (a *at) Outcome(coord.OutcomeQuery, func(coord.OutcomeResult, error)) {}

func (a *at) Await(coord.Await, func([]coord.RegionAchieved, error)) {
	panic("nobody waits for regions here")
}
