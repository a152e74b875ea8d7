package grpcpeer

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/atolldb/atoll/node/peer"
)

// served is the server's side of a session.
type served struct {
	server   *Server
	key      sessionKey
	counters *counters
	joined   [2]bool // small, large; guarded by the server's lock

	mu       sync.Mutex
	small    lane[answer]
	large    lane[answer]
	inFlight int
	cause    error // why it ended; set before ended is closed
	ended    chan struct{}
}

// answer is a reply in a lane. A code of 0 says that body is the reply, any
// other that detail is a refusal's.
type answer struct {
	id     uint64
	code   peer.Code
	body   []byte
	detail string
}

func (a *answer) size() int { return len(a.body) + len(a.detail) }

func newServed(s *Server, key sessionKey, c *counters) *served {
	return &served{
		server: s, key: key, counters: c,
		small: newLane[answer](maxQueuedSmall), large: newLane[answer](maxQueuedLarge),
		ended: make(chan struct{}),
	}
}

// end ends the session. Only the first cause counts.
func (v *served) end(cause error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.cause != nil {
		return
	}
	v.cause = cause
	v.small.reset()
	v.large.reset()
	close(v.ended)
}

// request is one that the handler was given.
type request struct {
	served  *served
	id      uint64
	verb    peer.Verb
	replied atomic.Bool
}

func (r *request) reply(body []byte, err error) {
	if r.replied.Swap(true) {
		r.served.server.cfg.Logger.Error("handler replied twice", "verb", r.verb)
		return
	}
	if err == nil && len(body) > peer.MaxMessage {
		err = errReplySize
	}
	a := answer{id: r.id, body: body}
	if err != nil {
		no := peer.RefusalOf(err)
		a = answer{id: r.id, code: no.Code, detail: no.Detail}
	}
	r.served.put(a, 1)
}

func (r *request) refuse(code peer.Code, detail string, admitted int) {
	r.replied.Store(true)
	r.served.put(answer{id: r.id, code: code, detail: detail}, admitted)
}

// put queues an answer. admitted is 1 if its request was counted as in flight.
func (v *served) put(a answer, admitted int) {
	size := a.size()
	l := &v.small
	if isLarge(size) {
		l = &v.large
	}
	v.mu.Lock()
	v.inFlight -= admitted
	rouse := v.cause == nil && l.push(a, size)
	v.mu.Unlock()
	if rouse {
		l.rouse()
	}
}

// admit says how many of n requests may go to the handler: none if replies pile
// up, and an error if the dialler does not read them at all.
func (v *served) admit(n int) (int, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.small.items)+len(v.large.items) > maxReplies {
		return 0, errBacklog
	}
	if !v.small.fits(0) || !v.large.fits(0) {
		return 0, nil
	}
	n = min(n, maxInFlight-v.inFlight)
	v.inFlight += n
	return n, nil
}

// taker returns what takes frames of requests apart. l is the lane of the
// stream that they come from.
func (v *served) taker(l *lane[answer]) func(frame []byte) error {
	type incoming struct {
		id  uint64
		req peer.Request
	}
	var in []incoming
	return func(frame []byte) error {
		if len(frame) == 0 {
			v.mu.Lock()
			rouse := l.ask()
			v.mu.Unlock()
			if rouse {
				l.rouse()
			}
			v.counters.in(0, 0)
			return nil
		}
		size := len(frame)
		arrived := time.Now()
		in = in[:0]
		for len(frame) > 0 {
			id, req, rest, err := peer.NextRequest(frame)
			if err != nil {
				return err
			}
			in = append(in, incoming{id, req})
			frame = rest
		}
		admitted, err := v.admit(len(in))
		if err != nil {
			return err
		}
		v.counters.in(len(in), size)
		if admitted < len(in) {
			v.counters.refused.Add(uint64(len(in) - admitted))
		}
		// A handler may keep reply for long, so requests are not pooled.
		requests := make([]request, len(in))
		for i := range in {
			r := &requests[i]
			r.served, r.id, r.verb = v, in[i].id, in[i].req.Verb
			if i >= admitted {
				r.refuse(peer.CodeOverloaded, "too many requests in flight", 0)
				continue
			}
			req := in[i].req
			if req.Timeout -= time.Since(arrived); req.Timeout <= 0 {
				r.refuse(peer.CodeExpired, "", 1)
				continue
			}
			v.server.handler(v.key.from, req, r.reply)
		}
		clear(in)
		return nil
	}
}

// packer returns what gives the frames of one lane.
func (v *served) packer(l *lane[answer]) func(*frame) (int, bool) {
	limit := maxFrame
	if l == &v.large {
		limit = 0 // one at a time
	}
	var batch []answer
	return func(f *frame) (int, bool) {
		v.mu.Lock()
		if len(l.items) == 0 {
			asked := l.asked
			l.asked, l.idle = false, !asked
			v.mu.Unlock()
			return 0, asked
		}
		batch = l.take(batch[:0], limit, (*answer).size)
		v.mu.Unlock()
		if limit == 0 {
			a := batch[0]
			f.packed = packedLarge(peer.AppendReplyHead(nil, a.id, len(a.body)), a.body)
		} else {
			size := 0
			for i := range batch {
				size += peer.MaxHeader + batch[i].size()
			}
			b := newBuffer(size)
			for i := range batch {
				if a := &batch[i]; a.code == 0 {
					b.view = append(peer.AppendReplyHead(b.view, a.id, len(a.body)), a.body...)
				} else {
					b.view = peer.AppendRefusal(b.view, a.id, a.code, a.detail)
				}
			}
			f.packed = b.packed()
		}
		n := len(batch)
		clear(batch)
		return n, true
	}
}
