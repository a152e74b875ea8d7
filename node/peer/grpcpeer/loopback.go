package grpcpeer

import (
	"context"
	"fmt"

	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/topology"
)

// loopback serves the sends of a node to itself, without a network.
type loopback struct {
	waiters
	self    topology.NodeID
	handler peer.Handler
	lane    lane[outgoing]
	closed  bool
}

func newLoopback(self topology.NodeID, h peer.Handler) *loopback {
	l := &loopback{self: self, handler: h, lane: newLane[outgoing](maxQueuedLarge)}
	l.init()
	return l
}

func (l *loopback) send(req peer.Request, done peer.Done) {
	l.mu.Lock()
	if l.closed || !l.lane.fits(len(req.Body)) {
		l.mu.Unlock()
		refuse(done, "to itself: closed, or too much queued")
		return
	}
	id, ok := l.wait(l.now(), req.Timeout, done)
	if !ok {
		l.mu.Unlock()
		refuse(done, "to itself: too many requests wait")
		return
	}
	rouse := l.lane.push(outgoing{id, req}, len(req.Body))
	l.mu.Unlock()
	if rouse {
		l.lane.rouse()
	}
}

// run calls the handler until ctx ends.
func (l *loopback) run(ctx context.Context) {
	defer l.close()
	var batch []outgoing
	for ctx.Err() == nil {
		l.mu.Lock()
		batch = l.hand(&l.lane, batch[:0], maxFrame)
		empty := len(l.lane.items) == 0 && len(batch) == 0
		l.lane.idle = empty
		l.mu.Unlock()
		for i, o := range batch {
			l.handler(l.self, o.req, func(body []byte, err error) { l.reply(o.id, body, err) })
			batch[i] = outgoing{}
		}
		if empty {
			select {
			case <-l.lane.wake:
			case <-ctx.Done():
			}
		}
	}
}

func (l *loopback) reply(id uint64, body []byte, err error) {
	l.mu.Lock()
	done := l.take(id)
	l.mu.Unlock()
	if done == nil {
		return
	}
	if err == nil && len(body) > peer.MaxMessage {
		err = errReplySize
	}
	if err != nil {
		done(nil, peer.RefusalOf(err))
		return
	}
	done(body, nil)
}

func (l *loopback) close() {
	l.mu.Lock()
	l.closed = true
	l.lane.reset()
	endings := l.fail(nil, errStopped, errNotSentStopped)
	l.mu.Unlock()
	tell(endings)
}

var (
	errReplySize      = fmt.Errorf("the reply has more than %d bytes", peer.MaxMessage)
	errStopped        = fmt.Errorf("%w: this node stopped", peer.ErrLinkLost)
	errNotSentStopped = fmt.Errorf("%w: this node stopped", peer.ErrNotSent)
)

// refuse tells a send that nothing came of it, off the sender's stack (P1).
func refuse(done peer.Done, why string) {
	go done(nil, fmt.Errorf("%w: %s", peer.ErrNotSent, why))
}
