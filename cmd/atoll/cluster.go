package main

import (
	"context"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	adminv1 "github.com/atolldb/atoll/proto/atoll/admin/v1"
)

// maxReceive is the largest message of a node: a record of 256 siblings of
// 1 MiB.
const maxReceive = 272 << 20

// cluster is the admin service of the first endpoint that answers.
type cluster struct {
	adminv1.ClusterClient
	conn     *grpc.ClientConn
	topology *adminv1.GetTopologyResponse
}

// dialCluster asks the endpoints in turn; the caller closes.
func (q *request) dialCluster(cmd *cobra.Command) (*cluster, error) {
	if err := q.check(cmd); err != nil {
		return nil, err
	}
	var last error
	for _, addr := range q.addresses(cmd) {
		c, err := q.dialNode(cmd.Context(), addr)
		if err == nil {
			return c, nil
		}
		last = err
	}
	if code := status.Code(last); code == codes.Unavailable || code == codes.DeadlineExceeded {
		return nil, unreachable(q.target(cmd), last)
	}
	return nil, adminFailure("ask for the topology", last)
}

// withCluster calls do with the first endpoint that answers.
func (q *request) withCluster(cmd *cobra.Command, do func(*cluster) error) error {
	c, err := q.dialCluster(cmd)
	if err != nil {
		return err
	}
	defer c.close()
	return do(c)
}

// ask is withCluster for what takes no longer than the timeout.
func (q *request) ask(cmd *cobra.Command, do func(context.Context, *cluster) error) error {
	return q.withCluster(cmd, func(c *cluster) error {
		ctx, cancel := context.WithTimeout(cmd.Context(), q.timeout)
		defer cancel()
		return do(ctx, c)
	})
}

func (q *request) dialNode(ctx context.Context, addr string) (*cluster, error) {
	conn, err := grpc.NewClient(addr,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxReceive)),
		grpc.WithDisableServiceConfig(),
	)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, q.timeout)
	defer cancel()
	c := &cluster{ClusterClient: adminv1.NewClusterClient(conn), conn: conn}
	c.topology, err = c.GetTopology(ctx, &adminv1.GetTopologyRequest{})
	if err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

func (c *cluster) close() { c.conn.Close() } //nolint:errcheck // nothing can be done about it
