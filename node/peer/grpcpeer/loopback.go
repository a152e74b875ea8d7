package grpcpeer

import (
	"context"

	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/topology"
)

// loopback serves the sends of a node to itself, without a network.
type loopback struct {
	waiters
	self    topology.NodeID
	handler peer.Handler
	lane    lane[outgoing]
	open    bool // while run runs
}

func newLoopback(self topology.NodeID, h peer.Handler) *loopback {
	l := &loopback{self: self, handler: h, lane: newLane[outgoing](maxQueuedLarge)}
	l.init()
	return l
}

func (l *loopback) send(req peer.Request, done peer.Done) {
	l.mu.Lock()
	if !l.open {
		l.mu.Unlock()
		refuse(done, errNotSentStopped)
		return
	}
	var id uint64
	ok := l.lane.fits(len(req.Body))
	if ok {
		id, ok = l.wait(l.now(), req.Timeout, done)
	}
	if !ok {
		l.mu.Unlock()
		refuse(done, errFull)
		return
	}
	rouse := l.lane.push(outgoing{id, req}, len(req.Body))
	l.mu.Unlock()
	if rouse {
		l.lane.rouse()
	}
}

// start lets sends in; run must follow.
func (l *loopback) start() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open = true
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
	l.open = false
	l.lane.reset()
	endings := l.fail(nil, errStopped, errNotSentStopped)
	l.mu.Unlock()
	tell(endings)
}
