package client

import (
	"context"
	"time"
)

// maxWriteBacks are under way at a time, each in a goroutine of its own.
const maxWriteBacks = 64

type writeBacks struct{ slots chan struct{} }

func newWriteBacks() *writeBacks { return &writeBacks{slots: make(chan struct{}, maxWriteBacks)} }

// writeBack writes what a resolver decided, as mode says, with the context of
// the read: if anybody wrote in the meantime, that stays beside it. The caller
// keeps its value even if that fails; the observer is told.
func (c *Client) writeBack(
	ctx context.Context, key string, obj Object, expires time.Time, event ConflictEvent, mode WriteBack,
) Object {
	// A value with little time left is about to expire; do not give it more.
	left := time.Duration(0)
	if !expires.IsZero() {
		if left = time.Until(expires); left <= 0 {
			mode = WriteBackNever
		}
	}
	value, after, exists := obj.value, obj.version, obj.exists
	write := func(ctx context.Context) (Version, error) {
		cfg := writeConfig{after: after, ttl: left}
		if exists {
			return c.put(ctx, key, value, &cfg)
		}
		return c.Delete(ctx, key, After(after))
	}
	switch mode {
	case WriteBackSync:
		v, err := write(ctx)
		if err == nil {
			obj.version = v
		}
		event.Written, event.WriteErr = err == nil, err
	case WriteBackAsync:
		value = append([]byte(nil), value...) // the caller's to change
		if c.inBackground(func(ctx context.Context) {
			_, err := write(ctx)
			event.Written, event.WriteErr = err == nil, err
			c.observe(event)
		}) {
			return obj
		}
	case WriteBackNever:
	}
	c.observe(event)
	return obj
}

// inBackground reports false when there is too much under way, or the client
// is closing.
func (c *Client) inBackground(f func(context.Context)) bool {
	select {
	case c.backs.slots <- struct{}{}:
	default:
		return false
	}
	started := c.cluster.goLive(func() {
		defer func() { <-c.backs.slots }()
		ctx, cancel := context.WithTimeout(c.cluster.ctx, c.config.timeout)
		defer cancel()
		f(ctx)
	})
	if !started {
		<-c.backs.slots
	}
	return started
}
