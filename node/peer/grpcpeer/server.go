package grpcpeer

import (
	"context"
	"errors"
	"sync"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/topology"
	peerv1 "github.com/atolldb/atoll/proto/atoll/peer/v1"
)

// ServerConfig of a Server. Self, Region and Partitions are needed.
type ServerConfig struct {
	Self topology.NodeID
	// Partitions must be the same on both sides of a link.
	Region     topology.Region
	Partitions uint32
	// RegionOf is as in Config.
	RegionOf func(topology.NodeID) (topology.Region, bool)
	// Admit says why a node may not open a link; ctx is the stream's, with its
	// TLS state. Nil admits every node.
	Admit func(ctx context.Context, from topology.NodeID) error
	// Logger is told of handlers that break their contract; nil is silent.
	Logger hclog.Logger
}

// Server takes the links of other nodes and hands their requests to a handler.
type Server struct {
	peerv1.UnimplementedPeerServer
	cfg     ServerConfig
	handler peer.Handler

	mu       sync.Mutex
	sessions map[sessionKey]*served
	counters map[topology.NodeID]*counters
}

type sessionKey struct {
	from topology.NodeID
	id   uint64
}

// NewServer returns a server to be registered, with Register, on a grpc.Server
// that was made with ServerOptions. It ends with that grpc.Server. Replies
// after that go nowhere.
func NewServer(h peer.Handler, cfg ServerConfig) *Server {
	if cfg.Logger == nil {
		cfg.Logger = hclog.NewNullLogger()
	}
	return &Server{
		cfg: cfg, handler: h,
		sessions: map[sessionKey]*served{},
		counters: map[topology.NodeID]*counters{},
	}
}

// Register puts the service on a grpc.Server.
func (s *Server) Register(to grpc.ServiceRegistrar) { peerv1.RegisterPeerServer(to, s) }

// Link implements the service: one stream of a session.
func (s *Server) Link(stream grpc.BidiStreamingServer[peerv1.LinkRequest, peerv1.LinkResponse]) error {
	var f frame
	if err := stream.RecvMsg(&f); err != nil {
		return err
	}
	if err := s.check(stream.Context(), f.hello); err != nil {
		return status.Error(codes.FailedPrecondition, err.Error())
	}
	v, err := s.join(f.hello)
	if err != nil {
		return err
	}
	defer s.leave(v)
	l := &v.small
	if f.hello.Large {
		l = &v.large
	}
	mine := &peerv1.Hello{
		Node: string(s.cfg.Self), Region: string(s.cfg.Region), Wire: peer.Wire, Partitions: s.cfg.Partitions,
		Large: f.hello.Large, Session: f.hello.Session,
	}
	if err := stream.SendMsg(&frame{hello: mine}); err != nil {
		return err
	}
	errs := make(chan error, 2)
	go func() { errs <- receive(stream, v.taker(l)) }()
	go func() { errs <- send(stream, l.wake, v.counters, v.packer(l)) }()
	// Returning ends the stream, and that ends both goroutines.
	select {
	case err = <-errs:
	case <-v.ended:
		err = v.cause
	}
	v.end(err)
	if errors.Is(err, errBacklog) {
		return status.Error(codes.ResourceExhausted, err.Error())
	}
	return status.Error(codes.Unavailable, err.Error())
}

// check says why a Hello is not accepted.
func (s *Server) check(ctx context.Context, h *peerv1.Hello) error {
	switch {
	case h == nil:
		return errors.New("the first message must be a hello")
	case h.Node == "" || len(h.Node) > 63:
		return errors.New("a hello needs a node id of 1..63 bytes")
	case h.Node == string(s.cfg.Self):
		return errors.New("this node has your id: " + h.Node)
	}
	if err := agree(h, expected(topology.NodeID(h.Node), s.cfg.Region, s.cfg.RegionOf), s.cfg.Partitions); err != nil {
		return err
	}
	if s.cfg.Admit != nil {
		return s.cfg.Admit(ctx, topology.NodeID(h.Node))
	}
	return nil
}

// join finds or makes the session of a stream.
func (s *Server) join(h *peerv1.Hello) (*served, error) {
	key := sessionKey{topology.NodeID(h.Node), h.Session}
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.sessions[key]
	if v == nil {
		open := 0
		for k := range s.sessions {
			if k.from == key.from {
				open++
			}
		}
		if open >= maxSessions {
			return nil, status.Errorf(codes.ResourceExhausted, "%d sessions of %s are open", open, key.from)
		}
		c := s.counters[key.from]
		if c == nil {
			c = &counters{}
			s.counters[key.from] = c
		}
		v = newServed(s, key, c)
		s.sessions[key] = v
	}
	stream := 0
	if h.Large {
		stream = 1
	}
	if v.joined[stream] {
		return nil, status.Error(codes.AlreadyExists, "this session has such a stream")
	}
	v.joined[stream] = true
	if v.joined[0] && v.joined[1] {
		v.counters.sessions.Add(1)
	}
	return v, nil
}

// leave forgets a session whose stream has ended (G2).
func (s *Server) leave(v *served) {
	v.end(errClosed)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sessions, v.key)
}

// Stats returns the counters of each node that has dialled, out meaning from
// here.
func (s *Server) Stats() map[topology.NodeID]Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := map[topology.NodeID]Stats{}
	for id, c := range s.counters {
		all[id] = c.stats()
	}
	for key, v := range s.sessions {
		st := all[key.from]
		v.mu.Lock()
		st.Pending += v.inFlight
		v.mu.Unlock()
		st.Up = st.Up || v.joined[0] && v.joined[1]
		all[key.from] = st
	}
	return all
}
