package client

import (
	"context"
	"io"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	adminv1 "github.com/atolldb/atoll/proto/atoll/admin/v1"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// node is one address: a link for small calls, and the connection itself for
// large ones, which get an HTTP/2 stream each so that they delay nobody.
type node struct {
	addr     string
	cc       grpc.ClientConnInterface
	link     *link
	inFlight atomic.Int64
	// close ends the connection, if it is ours to end.
	close func() error
	// started says that the link runs, or never will; it changes under the
	// cluster's mutex, as does cancel, which ends the link.
	started atomic.Bool
	cancel  context.CancelFunc
	// region of the node, once it has told; the refreshing goroutine's.
	region string
}

func (n *node) topology(ctx context.Context) (*adminv1.GetTopologyResponse, error) {
	return adminv1.NewClusterClient(n.cc).GetTopology(ctx, &adminv1.GetTopologyRequest{})
}

var unaryDesc grpc.StreamDesc

// unary runs o by a call of its own. It does by hand what Invoke does, because
// Invoke cannot tell "no connection" from "connection lost": here a failing
// NewStream has sent nothing.
func (n *node) unary(ctx context.Context, c *cluster, o *op, deadline time.Time) (*atollv1.StreamReply, *Error) {
	n.inFlight.Add(1)
	defer n.inFlight.Add(-1)
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	defer context.AfterFunc(c.ctx, cancel)() // Close ends it too

	var (
		method   string
		req, res any
		reply    atollv1.StreamReply
	)
	if o.rpc != nil {
		method, req, res = o.rpc.method, o.rpc.req, o.rpc.res
	}
	switch op := o.call.Op.(type) {
	case *atollv1.StreamCall_Get:
		r := &atollv1.StreamReply_Get{Get: &atollv1.GetResponse{}}
		method, req, res, reply.Result = atollv1.KV_Get_FullMethodName, op.Get, r.Get, r
	case *atollv1.StreamCall_Put:
		r := &atollv1.StreamReply_Put{Put: &atollv1.PutResponse{}}
		method, req, res, reply.Result = atollv1.KV_Put_FullMethodName, op.Put, r.Put, r
	case *atollv1.StreamCall_Delete:
		r := &atollv1.StreamReply_Delete{Delete: &atollv1.DeleteResponse{}}
		method, req, res, reply.Result = atollv1.KV_Delete_FullMethodName, op.Delete, r.Delete, r
	}
	stream, err := n.cc.NewStream(ctx, &unaryDesc, method)
	if err != nil {
		return nil, fromStatus(err, o.write, false)
	}
	if err := stream.SendMsg(req); err != nil && err != io.EOF { // gRPC's contract
		return nil, fromStatus(err, o.write, true)
	}
	if err := stream.RecvMsg(res); err != nil {
		return nil, fromStatus(err, o.write, true)
	}
	return &reply, nil
}
