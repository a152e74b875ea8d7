package grpcpeer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/topology"
	peerv1 "github.com/atolldb/atoll/proto/atoll/peer/v1"
)

// session is the dialler's side of two streams that said Hello.
type session struct {
	small, large half
	cancel       context.CancelFunc
}

type half struct {
	conn   *grpc.ClientConn
	stream grpc.ClientStream
}

func (s *session) close() {
	s.cancel()
	for _, h := range []half{s.small, s.large} {
		if h.conn != nil {
			_ = h.conn.Close() // the stream's own error was kept
		}
	}
}

// dial opens both streams, within dialTimeout.
func (l *link) dial(ctx context.Context, addr string) (*session, error) {
	ctx, cancel := context.WithCancel(ctx)
	s := &session{cancel: cancel}
	late := time.AfterFunc(dialTimeout, cancel)
	id := rand.Uint64()
	var small, large error
	var both sync.WaitGroup
	both.Go(func() { s.small, small = l.open(ctx, addr, id, false) })
	both.Go(func() { s.large, large = l.open(ctx, addr, id, true) })
	both.Wait()
	err := small
	if err == nil {
		err = large
	}
	if inTime := late.Stop(); err == nil && !inTime {
		err = context.DeadlineExceeded
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// open opens one stream. What it returns is to be closed even with an error.
func (l *link) open(ctx context.Context, addr string, session uint64, large bool) (half, error) {
	opts := append(dialOptions(), grpc.WithTransportCredentials(l.cfg.Creds),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) { return l.cfg.Dial(ctx, addr) }))
	conn, err := grpc.NewClient("passthrough:///"+addr, opts...)
	if err != nil {
		return half{}, err
	}
	h := half{conn: conn}
	h.stream, err = conn.NewStream(ctx, &peerv1.Peer_ServiceDesc.Streams[0], peerv1.Peer_Link_FullMethodName, grpc.StaticMethod())
	if err != nil {
		return h, err
	}
	hello := &peerv1.Hello{
		Node: string(l.cfg.Self), Region: string(l.cfg.Region), Wire: peer.Wire, Partitions: l.cfg.Partitions,
		Large: large, Session: session,
	}
	// io.EOF says that the stream is over, and the receive says why.
	if err := h.stream.SendMsg(&frame{hello: hello}); err != nil && !errors.Is(err, io.EOF) {
		return h, err
	}
	var f frame
	if err := h.stream.RecvMsg(&f); err != nil {
		return h, err
	}
	if f.hello == nil {
		return h, fmt.Errorf("%w: it said no hello", errMismatch)
	}
	if f.hello.Node != string(l.to) {
		return h, fmt.Errorf("%w: %q is at %s, not %q", errMismatch, f.hello.Node, addr, l.to)
	}
	if err := agree(f.hello, expected(l.to, l.cfg.Region, l.cfg.RegionOf), l.cfg.Partitions); err != nil {
		return h, fmt.Errorf("%w: %w", errMismatch, err)
	}
	return h, nil
}

// expected returns the region that a node must claim, "" for none.
func expected(
	id topology.NodeID, own topology.Region, regionOf func(topology.NodeID) (topology.Region, bool),
) topology.Region {
	if regionOf == nil {
		return own
	}
	region, known := regionOf(id)
	if !known {
		return ""
	}
	return region
}

// agree says what two sides do not agree about: h is what the other one says,
// region where it is known to be.
func agree(h *peerv1.Hello, region topology.Region, partitions uint32) error {
	switch {
	case h.Wire != peer.Wire:
		return fmt.Errorf("wire version %d, this node speaks %d", h.Wire, peer.Wire)
	case region == "":
		return fmt.Errorf("node %q is not configured here", h.Node)
	case h.Region != string(region):
		return fmt.Errorf("node %q says it is in region %q, here it is known to be in %q", h.Node, h.Region, region)
	case h.Partitions != partitions:
		return fmt.Errorf("%d partitions, this node has %d", h.Partitions, partitions)
	}
	return nil
}

// session runs until one of the streams fails or ctx ends, and says why.
func (l *link) session(ctx context.Context, s *session) error {
	l.mu.Lock()
	l.state = up
	l.mu.Unlock()
	l.sessions.Add(1)
	var heard atomic.Int64 // when the small stream last brought something
	heard.Store(l.now())
	parts := []func() error{
		func() error {
			take := l.taker()
			return receive(s.small.stream, func(frame []byte) error {
				heard.Store(l.now())
				return take(frame)
			})
		},
		func() error { return receive(s.large.stream, l.taker()) },
		func() error { return send(s.small.stream, l.small.wake, &l.counters, l.packer(&l.small)) },
		func() error { return send(s.large.stream, l.large.wake, &l.counters, l.packer(&l.large)) },
		func() error { return l.listen(s.small.stream.Context(), &heard) },
	}
	errs := make(chan error, len(parts))
	for _, part := range parts {
		go func() {
			err := part()
			errs <- err
		}()
	}
	first, told := <-errs, 1
	for errors.Is(first, io.EOF) && told < len(parts) {
		// A send learns only that the stream is over; why, comes with the
		// receive.
		first, told = <-errs, told+1
	}
	s.close()
	for range len(parts) - told {
		<-errs
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return first
}

// listen sees to it that a silent peer is noticed.
func (l *link) listen(ctx context.Context, heard *atomic.Int64) error {
	tick := time.NewTicker(silenceCheck)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		silent := time.Duration(l.now() - heard.Load())
		if silent >= silenceEnd {
			return fmt.Errorf("silent for %s", silent.Round(time.Second))
		}
		if silent >= silenceAsk {
			l.mu.Lock()
			rouse := l.small.ask()
			l.mu.Unlock()
			if rouse {
				l.small.rouse()
			}
		}
	}
}

// packer returns what gives the frames of one lane.
func (l *link) packer(lane *lane[outgoing]) func(*frame) (int, bool) {
	limit := maxFrame
	if lane == &l.large {
		limit = 0 // one at a time
	}
	var batch []outgoing
	return func(f *frame) (int, bool) {
		l.mu.Lock()
		batch = batch[:0]
		for len(batch) == 0 {
			if len(lane.items) == 0 {
				asked := lane.asked
				lane.asked, lane.idle = false, !asked
				l.mu.Unlock()
				return 0, asked
			}
			batch = l.hand(lane, batch, limit)
		}
		l.mu.Unlock()
		if limit == 0 {
			o := batch[0]
			f.packed = packedLarge(peer.AppendRequestHead(nil, o.id, o.req), o.req.Body)
		} else {
			size := 0
			for i := range batch {
				size += peer.MaxHeader + len(batch[i].req.Body)
			}
			b := newBuffer(size)
			for i := range batch {
				o := &batch[i]
				b.view = append(peer.AppendRequestHead(b.view, o.id, o.req), o.req.Body...)
			}
			f.packed = b.packed()
		}
		n := len(batch)
		clear(batch)
		return n, true
	}
}

// taker returns what takes frames of replies apart.
func (l *link) taker() func(frame []byte) error {
	type incoming struct {
		id   uint64
		code peer.Code
		body []byte
	}
	var replies []incoming
	var endings []ending
	return func(frame []byte) error {
		size := len(frame)
		replies, endings = replies[:0], endings[:0]
		for len(frame) > 0 {
			id, code, body, rest, err := peer.NextReply(frame)
			if err != nil {
				return err
			}
			replies = append(replies, incoming{id, code, body})
			frame = rest
		}
		late := false
		l.mu.Lock()
		for i := range replies {
			if done := l.take(replies[i].id); done == nil {
				late = true
			} else {
				e := ending{done: done, reply: replies[i].body}
				if code := replies[i].code; code != 0 {
					e.reply, e.err = nil, &peer.Refusal{Code: code, Detail: string(replies[i].body)}
				}
				endings = append(endings, e)
			}
		}
		l.mu.Unlock()
		l.in(len(replies), size)
		clear(replies)
		if late {
			l.cfg.Late(l.to)
		}
		tell(endings)
		return nil
	}
}
