package memnet

import (
	"errors"
	"fmt"
	"time"

	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/topology"
)

// Node is one node's transport.
type Node struct {
	fabric  *Fabric
	id      topology.NodeID
	handler peer.Handler
	// Guarded by the fabric's lock. life counts the crashes.
	up   bool
	life uint64
}

// call is one Send until its done was called.
type call struct {
	number   uint64 // in the order of Send
	from     *Node
	to       *Node // nil: no such node
	toID     topology.NodeID
	toLife   uint64
	req      peer.Request
	done     peer.Done
	deadline time.Time
	expiry   *event
	// sent says that the request left the sender: from then on, the peer may
	// have seen it.
	sent, finished bool
}

// Send implements peer.Transport.
func (n *Node) Send(to topology.NodeID, req peer.Request, done peer.Done) {
	f := n.fabric
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	req.Body = req.Body[:len(req.Body):len(req.Body)]
	c := &call{number: f.stats.Sent, from: n, to: f.nodes[to], toID: to, req: req, done: done, deadline: now.Add(req.Timeout)}
	f.calls[c] = struct{}{}
	f.stats.Sent++
	l := f.link(n.id, to)
	switch {
	case !n.up:
		f.notSent(c, l, 0, fmt.Errorf("%w: it is down", peer.ErrNotTried))
	case len(req.Body) > peer.MaxMessage:
		f.notSent(c, l, 0, fmt.Errorf("%w: too large", peer.ErrNotTried))
	case req.Timeout <= 0:
		f.notSent(c, l, 0, fmt.Errorf("%w: no time left", peer.ErrNotTried))
	case c.to == nil || !c.to.up || l.cut:
		if l.cut {
			f.stats.CutRequests++
		}
		if l.rng.Float64() < f.cfg.Doubt {
			f.expire(c, l)
			return
		}
		f.notSent(c, l, min(f.cfg.DialDelay, req.Timeout), fmt.Errorf("%w: %s is not reachable", peer.ErrNotSent, to))
	default:
		c.sent, c.toLife = true, c.to.life
		f.expire(c, l)
		f.request(c, l, now)
	}
}

func (f *Fabric) notSent(c *call, l *link, delay time.Duration, err error) {
	f.after(delay, l, c, func() { f.finish(c, nil, err, 0) })
}

func (f *Fabric) expire(c *call, l *link) {
	c.expiry = f.at(c.deadline, l, c.from.id, c.toID, func() {
		f.stats.Timeouts++
		f.finish(c, nil, fmt.Errorf("%w: %s to %s after %s", peer.ErrTimeout, c.from.id, c.toID, c.req.Timeout), 0)
	})
}

// request puts c on its way, once or twice or not at all.
func (f *Fabric) request(c *call, l *link, now time.Time) {
	if c.from == c.to {
		f.at(now, l, c.from.id, c.toID, func() { f.deliver(c, l) })
		return
	}
	copies := 1
	if l.rng.Float64() < l.faults.Duplicate {
		copies = 2
		f.stats.Duplicated++
	}
	for range copies {
		if l.rng.Float64() < l.faults.Drop {
			f.stats.DroppedRequests++
			continue
		}
		at, reordered := l.arrival(now, len(c.req.Body))
		if reordered {
			f.stats.Reordered++
		}
		f.at(at, l, c.from.id, c.toID, func() { f.deliver(c, l) })
	}
}

// deliver hands c to its peer's handler, if it is still there and there is
// still time.
func (f *Fabric) deliver(c *call, l *link) {
	n := c.to
	switch {
	case !n.up || n.life != c.toLife || f.nodes[n.id] != n:
		f.stats.Vanished++
		return
	case l.cut:
		f.stats.CutRequests++
		return
	}
	req := c.req
	req.Timeout = time.Until(c.deadline)
	var once bool
	reply := func(body []byte, err error) {
		f.mu.Lock()
		defer f.mu.Unlock()
		if once {
			panic(fmt.Sprintf("memnet: %s replied twice to one request (verb %d)", n.id, req.Verb))
		}
		once = true
		f.reply(c, body, err)
	}
	if req.Timeout <= 0 {
		f.stats.Expired++
		f.reply(c, nil, &peer.Refusal{Code: peer.CodeExpired})
		return
	}
	f.stats.Delivered++
	from := c.from.id
	f.out = append(f.out, func() { n.handler(from, req, reply) })
}

// reply carries an answer back. A life that ended meanwhile is not heard.
func (f *Fabric) reply(c *call, body []byte, err error) {
	n := c.to
	if !n.up || n.life != c.toLife {
		f.stats.Vanished++
		return
	}
	body, err = asOnTheWire(body, err)
	l := f.link(n.id, c.from.id)
	now := time.Now()
	at := now
	if n != c.from {
		if l.rng.Float64() < l.faults.Drop {
			f.stats.DroppedReplies++
			return
		}
		var reordered bool
		if at, reordered = l.arrival(now, len(body)); reordered {
			f.stats.Reordered++
		}
	}
	f.at(at, l, n.id, c.from.id, func() {
		if l.cut {
			f.stats.CutReplies++
			return
		}
		f.finish(c, body, err, 1)
	})
}

// asOnTheWire gives a reply the shape that it has after a real link.
func asOnTheWire(body []byte, err error) ([]byte, error) {
	if err == nil && len(body) > peer.MaxMessage {
		err = errors.New("reply too large")
	}
	if err == nil {
		return body[:len(body):len(body)], nil
	}
	return nil, peer.RefusalOf(err)
}

// finish calls done, soon and once. Only the first outcome counts.
func (f *Fabric) finish(c *call, body []byte, err error, replied uint64) {
	if c.finished {
		return
	}
	c.finished = true
	delete(f.calls, c)
	f.withdraw(c.expiry)
	f.stats.Replied += replied
	switch {
	case errors.Is(err, peer.ErrNotSent):
		f.stats.NotSent++
	case errors.Is(err, peer.ErrLinkLost):
		f.stats.LinksLost++
	}
	done := func() { c.done(body, err) }
	if f.inEvent {
		f.out = append(f.out, done)
		return
	}
	f.at(time.Now(), f.link(c.from.id, c.toID), c.from.id, c.toID, func() { f.out = append(f.out, done) })
}
