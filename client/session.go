package client

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"slices"
	"sync"

	"github.com/atolldb/atoll/crdt/session"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// A client's operations make a session: each sees at least what those before it,
// that had returned when it began, saw and wrote, whichever node or region answers
// it and at whichever level. The nodes give a token with each answer that says
// what that was; the client only takes tokens apart by partition, so that a call
// carries what is about its key, and puts together what concurrent calls brought.

// Session returns a client that shares c's connections and has a session of its
// own, in which nothing was seen yet. Use one for each of your users, say, and
// c itself, which has one too, for what all of them have in common. Closing either
// closes both.
func (c *Client) Session() *Client {
	other := *c
	other.session = newSessionState()
	return &other
}

// SessionFrom is Session, but it goes on where the session of a Token stood:
// that of another process, or of a client in another region. What its nodes do
// not know of it they find out when it is used: ErrBadSession.
func (c *Client) SessionFrom(token string) (*Client, error) {
	other := c.Session()
	b, err := base64.RawURLEncoding.DecodeString(token)
	if err == nil && len(b) > 0 {
		var pieces []session.Piece
		if pieces, err = session.Split(b); err == nil {
			other.session.learn(pieces)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadSession, err)
	}
	return other, nil
}

// Token is what the session of c knows, for SessionFrom: to go on elsewhere. It is
// URL-safe, about 60 bytes for each partition that the session's keys are in, and
// "" for a session that has seen nothing, or a client without one.
func (c *Client) Token() string {
	if c.session == nil {
		return ""
	}
	pieces := c.session.all()
	if len(pieces) == 0 {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString(session.Compose(pieces))
}

// NoSession is an option of Open and New: operations are not in a session. At
// levels whose reads and writes do not meet, a read may then miss what the same
// client wrote before.
func NoSession() Option { return func(c *config) { c.noSession = true } }

const (
	// maxUnmerged bounds, per partition, the pieces that concurrent calls brought
	// together with the calls that are under way, and maxUnmergedBytes the pieces:
	// a call more waits for one of them.
	maxUnmerged, maxUnmergedBytes = 256, session.MaxSent / 2
)

// sessionState is what a session knows, by partition.
type sessionState struct {
	mu    sync.Mutex
	parts map[session.Place]*sessionPart
	// bits of places; -1 while no answer has told.
	bits int
	// foreign: it came from a deployment with another number of partitions.
	foreign bool
}

type sessionPart struct {
	pieces [][]byte
	// offered is what takes the place of offeredFor when a loss is accepted; nil for
	// no loss that was told.
	offered    []session.Piece
	offeredFor [][]byte
	size       int // of pieces
	underway   int
	freed      chan struct{} // closed when a call has ended
}

func newSessionState() *sessionState {
	return &sessionState{parts: map[session.Place]*sessionPart{}, bits: -1}
}

// carried is what a call took along.
type carried struct {
	place session.Place
	known bool // place is
	sent  [][]byte
}

// tryEnter puts what o has to know into its message. When too many calls of the
// partition are under way it reports false, and when one of them has ended.
func (s *sessionState) tryEnter(o *op) (freed <-chan struct{}, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bits < 0 {
		o.carry(carried{}, session.Begin())
		return nil, true
	}
	c := carried{place: session.PlaceOf(o.hash, uint8(s.bits)), known: true}
	p := s.part(c.place)
	if p.underway > 0 && (len(p.pieces)+p.underway >= maxUnmerged || p.size > maxUnmergedBytes) {
		return p.freed, false
	}
	p.underway++
	c.sent = slices.Clone(p.pieces)
	token := append(make([]byte, 0, 1+p.size), session.Begin()...)
	for _, b := range p.pieces {
		token = append(token, b...)
	}
	o.carry(c, token)
	return nil, true
}

func (s *sessionState) part(place session.Place) *sessionPart {
	p := s.parts[place]
	if p == nil {
		p = &sessionPart{freed: make(chan struct{})}
		s.parts[place] = p
	}
	return p
}

// leave ends what enter began, with the token of the answer, if there is one: it
// knows all that the call took along. What the node refused as no token is told
// once, by that call's error, and not sent again: it would never be taken.
func (s *sessionState) leave(c carried, token []byte, refused bool) {
	pieces, err := session.Split(token)
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.known {
		p := s.part(c.place)
		p.underway--
		close(p.freed)
		p.freed = make(chan struct{})
		if len(token) > 0 && err == nil || refused {
			p.forget(c.sent)
		}
	}
	if err == nil {
		s.add(pieces)
	}
}

// lost ends what enter began, with the token that a node offers instead: until it
// is accepted, the session goes on asking for what is lost.
func (s *sessionState) lost(c carried, token []byte) {
	pieces, err := session.Split(token)
	s.leave(c, nil, false)
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.known && err == nil && len(pieces) > 0 {
		p := s.part(c.place)
		p.offered, p.offeredFor = pieces, c.sent
	}
}

// lostOf is lost for a call that carried pieces of many partitions, and belongs to
// none: those of them are offered anew of which token has others.
func (s *sessionState) lostOf(sent []session.Piece, token []byte) {
	pieces, err := session.Split(token)
	if err != nil || len(token) == 0 {
		return
	}
	of := func(pieces []session.Piece, place session.Place) (out []session.Piece) {
		for _, p := range pieces {
			if p.Place == place {
				out = append(out, p)
			}
		}
		return out
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	done := map[session.Place]bool{}
	for i := range sent {
		place := sent[i].Place
		was, is := of(sent, place), of(pieces, place)
		same := slices.EqualFunc(was, is, func(a, b session.Piece) bool { return bytes.Equal(a.Sealed, b.Sealed) })
		if done[place] || same || len(is) == 0 {
			continue
		}
		done[place] = true
		p := s.part(place)
		p.offered, p.offeredFor = is, nil
		for _, b := range was {
			p.offeredFor = append(p.offeredFor, b.Sealed)
		}
	}
}

// AcceptLoss lets the session of c go on without the writes of which ErrSessionLost
// has told: those that were acknowledged, or seen, and are lost for good. It returns
// in how many partitions there were some. Without it every operation of the session
// on a key of such a partition fails with ErrSessionLost. Of what is lost later it
// is told again.
func (c *Client) AcceptLoss() int {
	if c.session == nil {
		return 0
	}
	return c.session.accept()
}

func (s *sessionState) accept() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.parts {
		if p.offered == nil {
			continue
		}
		n++
		p.forget(p.offeredFor)
		offered := p.offered
		p.offered, p.offeredFor = nil, nil
		s.add(offered)
	}
	return n
}

// learn takes pieces.
func (s *sessionState) learn(pieces []session.Piece) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.add(pieces)
}

func (s *sessionState) add(pieces []session.Piece) {
	for _, q := range pieces {
		s.foreign = s.foreign || s.bits >= 0 && s.bits != int(q.Place.Bits)
		s.bits = int(q.Place.Bits)
		p := s.part(q.Place)
		if slices.ContainsFunc(p.pieces, func(b []byte) bool { return bytes.Equal(b, q.Sealed) }) {
			continue
		}
		p.pieces = append(p.pieces, bytes.Clone(q.Sealed))
		p.size += len(q.Sealed)
	}
}

// forget drops pieces that an answer has made one of.
func (p *sessionPart) forget(sent [][]byte) {
	p.pieces = slices.DeleteFunc(p.pieces, func(b []byte) bool {
		gone := slices.ContainsFunc(sent, func(x []byte) bool { return &x[0] == &b[0] })
		if gone {
			p.size -= len(b)
		}
		return gone
	})
}

func (s *sessionState) isForeign() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.foreign
}

func (s *sessionState) all() []session.Piece {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []session.Piece
	for place, p := range s.parts {
		for _, b := range p.pieces {
			out = append(out, session.Piece{Place: place, Sealed: b})
		}
	}
	slices.SortFunc(out, func(a, b session.Piece) int {
		if a.Place.Prefix != b.Place.Prefix {
			return int(a.Place.Prefix) - int(b.Place.Prefix)
		}
		return bytes.Compare(a.Sealed, b.Sealed)
	})
	return out
}

// carry sets the token that o is sent with.
func (o *op) carry(c carried, token []byte) {
	o.carried = c
	o.size += len(token)
	o.alone = o.alone || o.size > largeCall
	switch call := o.call.Op.(type) {
	case *atollv1.StreamCall_Get:
		call.Get.Session = token
	case *atollv1.StreamCall_Put:
		call.Put.Session = token
	case *atollv1.StreamCall_Delete:
		call.Delete.Session = token
	}
}

// enter waits until o may begin, as far as its session is concerned.
func (c *Client) enter(ctx context.Context, o *op) *Error {
	if c.session == nil {
		return nil
	}
	if c.session.isForeign() {
		e := invalid("session", "a token of this deployment", "one of another", "session of another deployment")
		e.Reason = "BAD_SESSION"
		return e
	}
	for {
		freed, ok := c.session.tryEnter(o)
		if ok {
			return nil
		}
		select {
		case <-freed:
		case <-ctx.Done():
			return overdue(o.write, false, ctx.Err())
		case <-c.cluster.ctx.Done():
			return closed(o.write, false)
		}
	}
}

// leave ends an o that has entered.
func (c *Client) leave(o *op, reply *atollv1.StreamReply, err *Error) {
	if c.session == nil {
		return
	}
	var token []byte
	switch {
	case err == nil && o.write:
		if token = reply.GetPut().GetSession(); token == nil {
			token = reply.GetDelete().GetSession()
		}
	case err == nil:
		token = reply.GetGet().GetSession()
	case err.applied != nil:
		token = err.applied.GetSession()
	case err.current != nil:
		token = err.current.GetSession()
	}
	if err != nil && err.Reason == "SESSION_LOST" && len(err.session) > 0 && !o.waits { // of AwaitReplication see lostOf
		c.session.lost(o.carried, err.session)
		return
	}
	c.session.leave(o.carried, token, err != nil && err.Reason == "BAD_SESSION")
}
