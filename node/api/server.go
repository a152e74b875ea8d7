package api

import (
	"context"
	"runtime/debug"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	"github.com/atolldb/atoll/node/coord"
	adminv1 "github.com/atolldb/atoll/proto/atoll/admin/v1"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// The limits of a client's connection.
const (
	// MaxReceive is the largest request: the largest value that any bucket may
	// allow (8 MiB) and room for key, context and framing.
	MaxReceive = 9 << 20
	// MaxSend is the largest reply: 256 siblings of 1 MiB and their framing.
	MaxSend = 272 << 20
	// MaxConcurrentStreams per connection. A client's small calls share one
	// Stream, so this is about how many unary calls it may have in flight.
	MaxConcurrentStreams = 1024
	// MaxHeaderBytes of a request's metadata.
	MaxHeaderBytes = 16 << 10
)

// ServerOptions are the options of a gRPC server for clients. Transport
// credentials are the caller's to add.
func ServerOptions(log hclog.Logger) []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.MaxRecvMsgSize(MaxReceive),
		grpc.MaxSendMsgSize(MaxSend),
		grpc.MaxConcurrentStreams(MaxConcurrentStreams),
		grpc.MaxHeaderListSize(MaxHeaderBytes),
		grpc.ConnectionTimeout(10 * time.Second),
		// A client that pings more often than this is cut off; the SDK pings
		// every 10 s.
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{
			MinTime: 5 * time.Second, PermitWithoutStream: true,
		}),
		// A client that vanished holds its memory for 30 s at most.
		grpc.KeepaliveParams(keepalive.ServerParameters{
			Time: 20 * time.Second, Timeout: 10 * time.Second,
		}),
		grpc.ChainUnaryInterceptor(recoverUnary(log)),
		grpc.ChainStreamInterceptor(recoverStream(log)),
	}
}

// Register adds the services, gRPC health and reflection to srv. The returned
// health server answers SERVING from the start; the node changes that when it
// becomes ready and when it stops.
func Register(srv *grpc.Server, kv *KVService, cluster *ClusterService, buckets *BucketsService) *health.Server {
	atollv1.RegisterKVServer(srv, kv)
	atollv1.RegisterBucketsServer(srv, buckets)
	adminv1.RegisterClusterServer(srv, cluster)
	if r := cluster.ops.Regions; r != nil {
		adminv1.RegisterRegionsServer(srv, NewRegionsService(cluster.cluster, r))
	}
	h := health.NewServer()
	healthpb.RegisterHealthServer(srv, h)
	reflection.Register(srv)
	return h
}

// panicked is what a client hears of a bug: nothing of its inside, and that a
// write may have been applied.
func panicked() *coord.Error {
	return &coord.Error{Code: coord.CodeInternal, Outcome: coord.Unknown, Detail: "internal error, see the node's log"}
}

func recoverUnary(log hclog.Logger) grpc.UnaryServerInterceptor {
	return func(
		ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler,
	) (res any, err error) {
		defer func() {
			if p := recover(); p != nil {
				log.Error("panic while serving a call", "method", info.FullMethod, "panic", p, "stack", string(debug.Stack()))
				res, err = nil, ToStatus(panicked()).Err()
			}
		}()
		return next(ctx, req)
	}
}

func recoverStream(log hclog.Logger) grpc.StreamServerInterceptor {
	return func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) (err error) {
		defer func() {
			if p := recover(); p != nil {
				log.Error("panic while serving a stream", "method", info.FullMethod, "panic", p, "stack", string(debug.Stack()))
				err = ToStatus(panicked()).Err()
			}
		}()
		return next(srv, stream)
	}
}
