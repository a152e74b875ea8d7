package grpcpeer

import (
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"github.com/atolldb/atoll/node/peer"
)

// Bounds of what may wait (G3).
const (
	// maxFrame is the size in bytes up to which small messages are packed into
	// one frame.
	maxFrame = 1 << 20
	// maxPending bounds the requests to one peer that are queued or have no
	// reply yet.
	maxPending = 1 << 16
	// maxQueuedSmall and maxQueuedLarge bound the bodies that are queued for
	// one stream, in bytes, on either side. One message always fits.
	maxQueuedSmall = 16 << 20
	maxQueuedLarge = 64 << 20
	// maxInFlight bounds the requests of one session that the handler has not
	// replied to.
	maxInFlight = 1 << 14
	// maxReplies bounds the replies of one session that are queued. A dialler
	// that goes on asking without reading loses its session.
	maxReplies = 4 * maxInFlight
	// maxSessions bounds the sessions of one dialler that are open at a time:
	// one, and those whose end was not noticed yet.
	maxSessions = 8
)

// Times.
const (
	dialTimeout  = 3 * time.Second // TCP, TLS and both Hellos
	minBackoff   = 50 * time.Millisecond
	maxBackoff   = time.Second
	sweepGrain   = 5 * time.Millisecond // timeouts are late by this at most
	silenceAsk   = 5 * time.Second
	silenceEnd   = 8 * time.Second
	silenceCheck = time.Second
)

// maxMessage is the largest gRPC message: one packed message and the fields
// around it.
const maxMessage = peer.MaxMessage + peer.MaxHeader + framePrefix

// Windows are what may be under way unread on one stream. They are fixed,
// since gRPC's estimator only reacts after the first stalls of each burst:
// 16 MiB fills 1 Gbit/s at 100 ms round trip. Each stream has a connection of its own,
// so both windows are the same.
const window = 16 << 20

// Socket buffers of each connection, in bytes.
const (
	readBuffer  = 64 << 10
	writeBuffer = 64 << 10
)

func dialOptions() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithNoProxy(),
		grpc.WithDisableRetry(), // would keep a copy of what was sent
		grpc.WithDisableServiceConfig(),
		grpc.WithIdleTimeout(0),
		grpc.WithMaxHeaderListSize(16 << 10),
		grpc.WithStaticStreamWindowSize(window),
		grpc.WithStaticConnWindowSize(window),
		grpc.WithReadBufferSize(readBuffer),
		grpc.WithWriteBufferSize(writeBuffer),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time:                10 * time.Second, // gRPC's minimum
			Timeout:             3 * time.Second,  // also TCP_USER_TIMEOUT
			PermitWithoutStream: true,
		}),
		grpc.WithDefaultCallOptions(
			grpc.ForceCodecV2(codec{}),
			grpc.MaxCallRecvMsgSize(maxMessage),
			grpc.MaxCallSendMsgSize(maxMessage),
		),
	}
}

// ServerOptions are what a grpc.Server needs to carry a Server. It should
// carry nothing else but small services of the same trust: they set the message size
// to that of peers, and a codec that speaks protobuf as ever but takes frames
// without copying them.
func ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.ForceServerCodecV2(codec{}),
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.MaxSendMsgSize(maxMessage),
		grpc.MaxConcurrentStreams(16), // of one connection; a dialler needs one
		grpc.MaxHeaderListSize(16 << 10),
		grpc.ConnectionTimeout(dialTimeout),
		grpc.StaticStreamWindowSize(window),
		grpc.StaticConnWindowSize(window),
		grpc.ReadBufferSize(readBuffer),
		grpc.WriteBufferSize(writeBuffer),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 5 * time.Second, Timeout: 3 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 4 * time.Second, PermitWithoutStream: true}),
	}
}
