package grpcpeer_test

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/topology"
)

// cpu is what the process has used, user and system.
func cpu() time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		panic(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

func reportCPU(b *testing.B, start time.Duration) {
	b.ReportMetric(float64(cpu()-start)/float64(b.N)/1e3, "cpu-us/op")
}

var inFlight = []int{1, 64, 256}

// BenchmarkEcho has so many requests of 100 B in flight, both ends in this
// process: cpu-us/op is for both.
func BenchmarkEcho(b *testing.B) {
	for _, n := range inFlight {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			net := newLoopback(b)
			a := net.Start("a", nil)
			net.Start("b", func(_ topology.NodeID, req peer.Request, reply peer.Done) { reply(req.Body, nil) })
			req := peer.Request{Verb: peer.VerbRead, Epoch: 1, Timeout: 10 * time.Second, Body: make([]byte, 100)}
			if _, err := peer.Call(b.Context(), a, "b", req); err != nil {
				b.Fatal(err)
			}
			var left atomic.Int64
			left.Store(int64(b.N))
			ended := make(chan error, n)
			var done peer.Done
			done = func(_ []byte, err error) {
				if err != nil || left.Add(-1) < 0 {
					ended <- err
					return
				}
				a.Send("b", req, done)
			}
			b.ReportAllocs()
			start := cpu()
			b.ResetTimer()
			for range n {
				done(nil, nil)
			}
			for range n {
				if err := <-ended; err != nil {
					b.Fatal(err)
				}
			}
			b.StopTimer()
			reportCPU(b, start)
			s := net.clients["a"].Stats()["b"]
			b.ReportMetric(float64(s.MessagesOut)/float64(s.FramesOut), "msgs/frame")
		})
	}
}

// BenchmarkCall is BenchmarkEcho from goroutines that wait, as most callers do.
func BenchmarkCall(b *testing.B) {
	for _, n := range inFlight {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			net := newLoopback(b)
			a := net.Start("a", nil)
			net.Start("b", func(_ topology.NodeID, req peer.Request, reply peer.Done) { reply(req.Body, nil) })
			req := peer.Request{Verb: peer.VerbRead, Epoch: 1, Timeout: 10 * time.Second, Body: make([]byte, 100)}
			goroutines(b, n, func(ctx context.Context) error {
				_, err := peer.Call(ctx, a, "b", req)
				return err
			})
		})
	}
}

// BenchmarkUnary is the same as unary gRPC calls.
func BenchmarkUnary(b *testing.B) {
	const method = "/bench.Echo/Echo"
	desc := grpc.ServiceDesc{
		ServiceName: "bench.Echo", HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Echo", Handler: func(_ any, _ context.Context, dec func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			in := new(wrapperspb.BytesValue)
			return in, dec(in)
		}}},
	}
	for _, n := range inFlight {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			lis, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			srv := grpc.NewServer()
			srv.RegisterService(&desc, nil)
			go func() { _ = srv.Serve(lis) }()
			defer srv.Stop()
			conn, err := grpc.NewClient(lis.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				b.Fatal(err)
			}
			defer conn.Close()
			in := wrapperspb.Bytes(make([]byte, 100))
			goroutines(b, n, func(ctx context.Context) error {
				ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
				defer cancel()
				return conn.Invoke(ctx, method, in, new(wrapperspb.BytesValue))
			})
		})
	}
}

func goroutines(b *testing.B, n int, call func(context.Context) error) {
	if err := call(b.Context()); err != nil {
		b.Fatal(err)
	}
	var left atomic.Int64
	left.Store(int64(b.N))
	ended := make(chan error, n)
	b.ReportAllocs()
	start := cpu()
	b.ResetTimer()
	for range n {
		go func() {
			for left.Add(-1) >= 0 {
				if err := call(b.Context()); err != nil {
					ended <- err
					return
				}
			}
			ended <- nil
		}()
	}
	for range n {
		if err := <-ended; err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	reportCPU(b, start)
}
