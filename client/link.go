package client

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"runtime"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// The bounds of a link.
const (
	// linkWindow calls may be unanswered at most; it is half of what a node
	// serves on one stream, because the node counts a call a little longer.
	linkWindow = 2048
	// linkWindowMin is the least that the window shrinks to when calls are not
	// answered in time, and linkShrink how often it does.
	linkWindowMin, linkShrink = 64, 50 * time.Millisecond
	// linkRefused is the least while the node refuses calls. It is small, so that
	// even many clients together do not ask more than a node can afford to refuse:
	// what a refusal costs it is the message that it came in.
	linkRefused = 4
	// linkPatience: while more than linkSpare calls wait, and longer than that, for
	// the window, those that came last go first. They have the time left that it
	// takes, and callers that wait for the others have all but given up.
	linkPatience = 50 * time.Millisecond
	// linkWait is how long a call waits for the window of a node that has refused
	// calls within linkRefuses, and has more than linkSpare of them waiting: as long
	// as the node would have it wait. Then it is ErrThrottled, which its caller would
	// be told at its deadline otherwise. Fewer than linkSpare are slowed down by
	// waiting, as those who call one after the other are: they wait in order.
	linkWait, linkRefuses, linkSpare = 100 * time.Millisecond, time.Second, 64
	// linkQueue calls may wait for the window; more are ErrThrottled.
	linkQueue = 16384
	// linkMessage is where calls are cut into messages, in bytes.
	linkMessage = 256 << 10
	// linkConnect bounds one attempt to connect.
	linkConnect = 2 * time.Second
	// linkStall: a link with calls that old and no reply since is avoided.
	linkStall = time.Second
	// The pause between attempts to connect doubles from one to the other.
	linkBackoff, linkBackoffMax = 50 * time.Millisecond, 2 * time.Second
	// linkWanted bounds the pause while a call waits for the link: it would give
	// up before the longest one is over.
	linkWanted = 200 * time.Millisecond
)

// link is the multiplexed stream to one node, reconnected for ever. Callers
// queue calls; the sender packs all that are queued into one message, so
// batches grow with load; the receiver hands replies to the waiting callers.
type link struct {
	cc   grpc.ClientConnInterface
	wake chan struct{} // capacity 1: something to send
	want chan struct{} // capacity 1: a call waits for the link to be up
	// changed is told when the link goes up or down.
	changed func(up bool)
	// heardMap is told the number of the map of regions that a node knows; nil for nobody.
	heardMap func(n uint64)

	mu      sync.Mutex
	state   linkState
	queue   []*call // not handed to the transport
	unsent  int     // of those, not abandoned
	pending map[uint64]*call
	lastID  uint64
	heard   time.Time // when the last reply came
	window  window
	reset   func() // breaks the stream; nil when there is none
}

type linkState uint8

const (
	linkIdle    linkState = iota // not started, or connecting for the first time
	linkUp                       // a stream that a node has confirmed
	linkDown                     // broken, or could not connect
	linkStalled                  // up, but nothing is heard
	linkClosed
)

func newLink(cc grpc.ClientConnInterface, changed func(bool)) *link {
	return &link{
		cc: cc, wake: make(chan struct{}, 1), want: make(chan struct{}, 1), changed: changed, pending: make(map[uint64]*call),
		window: window{size: linkWindow},
	}
}

// live reports whether calls should be sent here while there are others.
func (l *link) live() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state == linkIdle || l.state == linkUp
}

// submit queues c, or says why not; then nothing was sent. A patient call is
// queued even though the link is down: until it is up, or the next attempt to
// connect has failed.
func (l *link) submit(c *call, patient bool) *Error {
	l.mu.Lock()
	switch {
	case l.state == linkClosed || (l.state == linkDown && !patient):
		l.mu.Unlock()
		return &Error{Reason: "UNAVAILABLE", Code: codes.Unavailable, Detail: "not connected", lost: true}
	case l.unsent >= linkQueue:
		l.mu.Unlock()
		return throttled("too many calls wait for this node")
	}
	c.queuedAt = time.Now()
	l.queue = append(l.queue, c)
	l.unsent++
	first, down := len(l.queue) == 1, l.state == linkDown
	l.mu.Unlock()
	if first {
		l.wakeSender()
	}
	if down {
		select {
		case l.want <- struct{}{}:
		default:
		}
	}
	return nil
}

func (l *link) wakeSender() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// abandon is for a caller that stops waiting. It reports whether the call may
// have reached the node, or that it is finished after all.
func (l *link) abandon(c *call) (sent, finished bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-c.done:
		return c.sent, true
	default:
	}
	// Nobody waits any more. If the reply is being handed over right now, it is
	// lost with the call.
	c.abandoned = true
	if !c.sent {
		l.unsent--
	}
	return c.sent, false
}

// run keeps the link connected until ctx ends.
func (l *link) run(ctx context.Context) {
	for pause := linkBackoff; ; {
		began := time.Now()
		err, up := l.serve(ctx)
		if ctx.Err() != nil {
			l.mu.Lock()
			l.state = linkClosed
			l.mu.Unlock()
		}
		select { // whoever has waited is refused now
		case <-l.want:
		default:
		}
		l.fail(err)
		if ctx.Err() != nil {
			return
		}
		l.changed(false)
		if up && time.Since(began) > linkBackoffMax {
			pause = linkBackoff
		}
		l.rest(ctx, pause/2+rand.N(pause/2+1))
		pause = min(2*pause, linkBackoffMax)
	}
}

// rest lasts for pause, or for linkWanted from when a call waits.
func (l *link) rest(ctx context.Context, pause time.Duration) {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	until := time.Now().Add(pause)
	for {
		select {
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		case <-l.want:
			if time.Until(until) > linkWanted {
				until = time.Now().Add(linkWanted)
				timer.Reset(linkWanted)
			}
		}
	}
}

// serve connects and runs one stream until it breaks. up: it was confirmed.
func (l *link) serve(ctx context.Context) (err error, up bool) { // the error is the result
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	patience := time.AfterFunc(linkConnect, cancel)
	defer patience.Stop()
	stream, err := atollv1.NewKVClient(l.cc).Stream(ctx)
	if err != nil {
		return err, false
	}
	// The node sends its header at once. A connection into the void does not
	// get past this point.
	if header, err := stream.Header(); err != nil {
		return err, false
	} else if header == nil { // it ended without; Recv has the status
		_, err := stream.Recv()
		return err, false
	}
	if !patience.Stop() {
		return context.DeadlineExceeded, false
	}
	l.mu.Lock()
	l.state, l.reset, l.heard = linkUp, cancel, time.Now()
	l.mu.Unlock()
	l.wakeSender()
	l.changed(true)

	var sender sync.WaitGroup
	sender.Go(func() { l.sendAll(ctx, stream) })
	err = l.receiveAll(stream)
	cancel()
	sender.Wait()
	return err, true
}

// sendAll sends what is queued until the stream ends.
func (l *link) sendAll(ctx context.Context, stream atollv1.KV_StreamClient) {
	var msg atollv1.StreamRequest
	for {
		select {
		case <-l.wake:
			// Callers that are about to queue shall go with this message.
			runtime.Gosched()
		case <-ctx.Done():
			return
		}
		for l.take(&msg) {
			// On an error the receiver gets the stream's status.
			if stream.Send(&msg) != nil {
				return
			}
		}
	}
}

// take moves calls from the queue into msg and pending. They count as sent
// from here on.
func (l *link) take(msg *atollv1.StreamRequest) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(msg.Calls)
	msg.Calls = msg.Calls[:0]
	now := time.Now()
	most := l.window.now(now)
	size, first, last := 0, 0, len(l.queue) // queue[first:last] is left
	newest := l.unsent > linkSpare && last > 0 && now.Sub(l.queue[0].queuedAt) > linkPatience
	for first < last {
		at := first
		if newest {
			at = last - 1
		}
		c := l.queue[at]
		if !c.abandoned && (len(l.pending) >= most || size > 0 && size+c.size > linkMessage) {
			break
		}
		if newest {
			last--
		} else {
			first++
		}
		if c.abandoned {
			continue
		}
		l.unsent--
		left := c.deadline.Sub(now)
		if left <= 0 {
			c.finish(nil, overdue(c.write, false, nil))
			continue
		}
		l.lastID++
		c.sent, c.sentAt = true, now
		c.msg.Id, c.msg.TimeoutMs = l.lastID, serverTimeout(left)
		l.pending[l.lastID] = c
		msg.Calls = append(msg.Calls, &c.msg)
		size += c.size
	}
	rest := copy(l.queue, l.queue[first:last])
	clear(l.queue[rest:])
	l.queue = l.queue[:rest]
	return len(msg.Calls) > 0
}

// receiveAll hands out replies until the stream ends.
func (l *link) receiveAll(stream atollv1.KV_StreamClient) error {
	var found []*call
	for {
		msg, err := stream.Recv()
		if err != nil {
			return err
		}
		found = found[:0]
		if msg.RegionMap > 0 && l.heardMap != nil {
			l.heardMap(msg.RegionMap)
		}
		now := time.Now()
		l.mu.Lock()
		l.heard = now
		if l.state == linkStalled {
			l.state = linkUp
		}
		full := len(l.pending) >= l.window.now(now)
		refused := false
		for _, r := range msg.Replies {
			if e := r.GetError(); e.GetReason() == atollv1.Reason_REASON_OVERLOADED {
				refused = true
				l.window.refused, l.window.retryAfter = now, time.Duration(e.RetryAfterMs)*time.Millisecond
			}
			c := l.pending[r.Id]
			delete(l.pending, r.Id)
			if c != nil && c.abandoned {
				c = nil
			}
			found = append(found, c)
		}
		if refused {
			l.window.shrink(now)
		} else {
			l.window.grow(len(msg.Replies))
		}
		more := full && len(l.queue) > 0
		l.mu.Unlock()
		for i, c := range found {
			if c != nil {
				c.finish(msg.Replies[i], nil)
			}
		}
		clear(found)
		if more {
			l.wakeSender()
		}
	}
}

// fail finishes all calls after a stream has ended with err.
func (l *link) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state != linkClosed {
		l.state = linkDown
	}
	l.reset = nil
	for _, c := range l.queue {
		if !c.abandoned {
			c.finish(nil, broken(err, c.write, false))
		}
	}
	for _, c := range l.pending {
		if !c.abandoned {
			c.finish(nil, broken(err, c.write, true))
		}
	}
	clear(l.queue)
	l.queue, l.unsent = l.queue[:0], 0
	clear(l.pending)
}

// broken is how the calls of a stream fail that ended with err.
func broken(err error, write, sent bool) *Error {
	if errors.Is(err, context.DeadlineExceeded) || status.Code(err) == codes.Canceled {
		// The link gave the stream up, not the caller.
		why := "no connection in time"
		if sent {
			why = "the node fell silent"
		}
		err = status.Error(codes.Unavailable, why)
	}
	if errors.Is(err, io.EOF) {
		err = status.Error(codes.Unavailable, "the node ended the stream")
	}
	return fromStatus(err, write, sent)
}

// sweep finishes calls that are overdue, or wait in vain for a node that refuses
// calls, and avoids a node that has fallen silent. It reports how many calls are left.
func (l *link) sweep(now time.Time) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	kept := l.queue[:0]
	for _, c := range l.queue {
		switch {
		case c.abandoned:
		case now.Before(c.deadline) && l.unsent > linkSpare && now.Sub(c.queuedAt) > linkWait && l.window.refuses(now):
			l.unsent--
			err := throttled("the node refuses calls, and this one waited to be sent")
			err.RetryAfter = l.window.retryAfter
			c.finish(nil, err)
		case now.Before(c.deadline):
			kept = append(kept, c)
		default:
			l.unsent--
			err := overdue(c.write, false, nil)
			if l.state != linkUp {
				err = broken(context.DeadlineExceeded, c.write, false)
			}
			c.finish(nil, err)
		}
	}
	clear(l.queue[len(kept):])
	l.queue = kept
	silent := false
	for id, c := range l.pending {
		if now.Sub(c.sentAt) >= linkStall && now.Sub(l.heard) >= linkStall {
			silent = true
		}
		if now.Before(c.deadline) {
			continue
		}
		delete(l.pending, id)
		if c.deadline.Sub(c.sentAt) > linkShrink {
			l.window.shrink(now) // it had time enough
		}
		if !c.abandoned {
			c.finish(nil, overdue(c.write, true, nil))
		}
	}
	if silent && l.state == linkUp {
		l.state = linkStalled
	}
	if l.state == linkStalled && len(l.pending) == 0 && l.reset != nil {
		// Nothing is left to be heard from this stream: find out by a new one
		// whether the node is there.
		l.reset()
	}
	if len(l.queue) > 0 && len(l.pending) < l.window.now(now) {
		l.wakeSender()
	}
	return len(l.queue) + len(l.pending)
}
