//go:build e2e

package e2e

import (
	"context"
	"testing"

	"github.com/atolldb/atoll/client"
)

// serving starts a region of regionNodes and returns it with a client once all
// its nodes take writes.
func serving(t *testing.T, ctx context.Context) (*region, *client.Client) {
	t.Helper()
	r := newRegion(t)
	for i := range regionNodes {
		r.start(i)
	}
	var c *client.Client
	eventually(t, ctx, "the region takes writes", func() bool {
		var err error
		if c == nil {
			if c, err = client.Open(ctx, r.endpoints()); err != nil {
				return false
			}
		}
		_, err = c.Put(ctx, "first", []byte("x"), client.LocalAll)
		return err == nil
	})
	t.Cleanup(func() { c.Close() })
	return r, c
}

// loading puts so many writers on c until stop, which returns when the last one
// has ended, and may be called again.
func loading(t *testing.T, ctx context.Context, c *client.Client, writers int) (l *load, stop func()) {
	l = &load{c: c, stopped: make(chan struct{})}
	ctx, cancel := context.WithCancel(ctx)
	go l.run(ctx, writers)
	stop = func() {
		cancel()
		<-l.stopped
	}
	t.Cleanup(stop)
	return l, stop
}
