package client

import (
	"context"

	"google.golang.org/protobuf/proto"

	"github.com/atolldb/atoll/hashring"
)

// rpc is a call that the stream does not carry.
type rpc struct {
	method   string // full
	req, res proto.Message
}

// callOp is an op that is one call; its answer is in res afterwards. hint makes it go
// to the same nodes each time.
func callOp(name, hint string, write bool, method string, req, res proto.Message) *op {
	return &op{
		name: name, hash: hashring.KeyHash([]byte(hint)), keyless: true, write: write, alone: true,
		size: 64 + proto.Size(req), rpc: &rpc{method, req, res},
	}
}

func (c *Client) ask(ctx context.Context, o *op) error {
	if _, _, err := c.do(ctx, o); err != nil {
		return err
	}
	return nil
}
