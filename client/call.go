package client

import (
	"sync"
	"time"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// call is one attempt of an operation on its way through a link. It is
// finished exactly once, by whoever takes it out of the link; the exception is
// a call that its caller abandoned, which nobody waits for.
type call struct {
	msg      atollv1.StreamCall
	write    bool
	size     int // about, on the wire
	deadline time.Time

	done  chan struct{} // capacity 1: one token when finished
	reply *atollv1.StreamReply
	err   *Error // when reply is nil

	// Guarded by the link's mutex.
	queuedAt  time.Time
	sent      bool
	sentAt    time.Time
	abandoned bool
}

// callPool saves a channel and a message for each call. It belongs to one
// client: under testing/synctest channels must not leave their bubble.
type callPool struct{ sync.Pool }

func (p *callPool) take(o *op, deadline time.Time) *call {
	c, ok := p.Get().(*call)
	if !ok {
		c = &call{done: make(chan struct{}, 1)}
	}
	c.msg.Op = o.call.Op
	c.write, c.size, c.deadline = o.write, o.size, deadline
	return c
}

// give takes back a call that was replied to and whose token was taken. Any
// other call must not be given back: the link may still hold it.
func (p *callPool) give(c *call) {
	c.msg.Reset()
	c.write, c.size, c.deadline = false, 0, time.Time{}
	c.reply, c.err = nil, nil
	c.sent, c.sentAt, c.abandoned = false, time.Time{}, false
	p.Put(c)
}

func (c *call) finish(reply *atollv1.StreamReply, err *Error) {
	c.reply, c.err = reply, err
	c.done <- struct{}{}
}

// serverTimeout leaves the node a little less time than the caller has, so
// that it is the node that says what became of the operation.
func serverTimeout(left time.Duration) uint32 {
	left -= min(left/16, 50*time.Millisecond)
	return uint32(max(left.Milliseconds(), 1))
}
