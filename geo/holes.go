package geo

import (
	"maps"
	"time"
)

const (
	// holeGrace is how long a batch number may stay open before it counts as
	// lost: the longest that a batch already sent is usually on its way.
	holeGrace = 10 * time.Second
	// maxAhead bounds the numbers remembered above an open one, per session.
	maxAhead = 4096
	// sessionIdle is when a session that sends nothing is forgotten.
	sessionIdle = time.Hour
)

// sessionKey names one run of one node's pump.
type sessionKey struct {
	node        string
	incarnation uint32
	session     uint64
}

// holes finds batch numbers that never arrive. It only makes repair start
// sooner: clocks find the same without it. It is right only where one drain
// alone sees all batches of an origin.
type holes struct {
	sessions map[sessionKey]*numbers
}

// numbers of one session: all up to next-1 are settled, ahead came already.
type numbers struct {
	next   uint64
	ahead  map[uint64]struct{}
	opened time.Time // when next was first missed; zero when nothing is ahead
	seen   time.Time
}

// saw takes note of a batch that arrived, whatever becomes of it. The first
// number seen of a session opens it: a drain need not have been there from the
// beginning.
func (h *holes) saw(now time.Time, hd Header) {
	key := sessionKey{hd.Node, uint32(hd.Incarnation), hd.Session}
	s := h.sessions[key]
	if s == nil {
		if h.sessions == nil {
			h.sessions = make(map[sessionKey]*numbers)
		}
		s = &numbers{next: hd.Number, ahead: make(map[uint64]struct{})}
		h.sessions[key] = s
	}
	s.seen = now
	if hd.Number < s.next {
		return
	}
	s.ahead[hd.Number] = struct{}{}
	s.advance(now)
}

func (s *numbers) advance(now time.Time) {
	moved := false
	for {
		if _, ok := s.ahead[s.next]; !ok {
			break
		}
		delete(s.ahead, s.next)
		s.next++
		moved = true
	}
	switch {
	case len(s.ahead) == 0:
		s.opened = time.Time{}
	case moved || s.opened.IsZero():
		s.opened = now
	}
}

// overdue returns how many numbers have stayed open too long, and takes them
// as lost.
func (h *holes) overdue(now time.Time) (lost uint64) {
	for key, s := range h.sessions {
		if now.Sub(s.seen) > sessionIdle {
			delete(h.sessions, key)
			continue
		}
		for len(s.ahead) > 0 && (now.Sub(s.opened) >= holeGrace || len(s.ahead) > maxAhead) {
			first := ^uint64(0)
			for n := range maps.Keys(s.ahead) {
				first = min(first, n)
			}
			lost += first - s.next
			s.next = first
			opened := s.opened
			s.advance(now)
			if len(s.ahead) > 0 { // holes above the first are as old, or nearly
				s.opened = opened
			}
		}
	}
	return lost
}
