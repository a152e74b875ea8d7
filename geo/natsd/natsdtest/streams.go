package natsdtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Dial opens the connections to servers; nil dials.
type Dial func(ctx context.Context, addr string) (net.Conn, error)

// DeleteStream takes away a stream with all it holds, as a slip of an operator
// would.
func DeleteStream(ctx context.Context, dial Dial, urls []string, stream string) error {
	return with(ctx, dial, urls, func(js jetstream.JetStream) error { return js.DeleteStream(ctx, stream) })
}

// PurgeStream takes away what a stream holds, as its bounds would.
func PurgeStream(ctx context.Context, dial Dial, urls []string, stream string) error {
	return with(ctx, dial, urls, func(js jetstream.JetStream) error {
		s, err := js.Stream(ctx, stream)
		if err != nil {
			return err
		}
		return s.Purge(ctx)
	})
}

// FillStream puts messages of some size into a stream that mean nothing.
func FillStream(ctx context.Context, dial Dial, urls []string, subject string, size, messages int) error {
	return with(ctx, dial, urls, func(js jetstream.JetStream) error {
		for range messages {
			if _, err := js.Publish(ctx, subject, make([]byte, size)); err != nil {
				return err
			}
		}
		return nil
	})
}

// Refuses reports whether a server lets who connects by a URL publish nothing to a
// subject. What it does not refuse it gets: an empty message.
func Refuses(url, subject string) (bool, error) {
	nc, err := nats.Connect(url, nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	if err != nil {
		return false, fmt.Errorf("connect to nats: %w", err)
	}
	defer nc.Close()
	if err := nc.Publish(subject, nil); err != nil {
		return false, fmt.Errorf("publish: %w", err)
	}
	if err := nc.Flush(); err != nil { // a refusal comes before its answer
		return false, fmt.Errorf("publish: %w", err)
	}
	return errors.Is(nc.LastError(), nats.ErrPermissionViolation), nil
}

// StreamLeader is the name of the server that leads a stream of a cluster.
func StreamLeader(ctx context.Context, dial Dial, urls []string, stream string) (name string, err error) {
	err = with(ctx, dial, urls, func(js jetstream.JetStream) error {
		s, err := js.Stream(ctx, stream)
		if err != nil {
			return err
		}
		if c := s.CachedInfo().Cluster; c != nil {
			name = c.Leader
		}
		if name == "" {
			return errors.New("the stream has no leader")
		}
		return nil
	})
	return name, err
}

func with(ctx context.Context, dial Dial, urls []string, do func(jetstream.JetStream) error) error {
	opts := []nats.Option{nats.IgnoreDiscoveredServers()}
	if dial != nil {
		opts = append(opts, nats.SetCustomDialer(through{ctx, dial}))
	}
	nc, err := nats.Connect(strings.Join(urls, ","), opts...)
	if err != nil {
		return fmt.Errorf("connect to nats: %w", err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return fmt.Errorf("speak to jetstream: %w", err)
	}
	return do(js)
}

type through struct {
	ctx  context.Context
	dial Dial
}

// Dial implements nats.CustomDialer.
func (d through) Dial(_, addr string) (net.Conn, error) { return d.dial(d.ctx, addr) }
