package api

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"sync"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/atolldb/atoll/node/coord"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// The bounds of one stream. A call is in flight from when it was received
// until its reply is handed to the transport.
const (
	// MaxStreamInFlight calls are served; more are answered OVERLOADED, and at
	// twice as many the node stops reading the stream.
	MaxStreamInFlight = 4096
	// MaxStreamReply is the largest reply that travels on a stream, where it
	// delays those behind it. A larger one is an error with the field "reply":
	// ask by unary Get.
	MaxStreamReply = 2 << 20
	// maxStreamHeld bounds the bytes of requests and queued replies.
	maxStreamHeld = 64 << 20
	// maxStreamMessage is where replies are cut into messages.
	maxStreamMessage = 256 << 10
)

// session is one stream. Its receiver dispatches calls; callbacks of the
// coordinator queue replies; its sender packs all that are queued into one
// message. While a message is being written the next ones gather, so batches
// grow with load and no timer is needed.
type session struct {
	kv     *KVService
	stream atollv1.KV_StreamServer
	wake   chan struct{} // capacity 1: something for the sender to look at
	conn   uint64        // identifies the connection to the limiter

	mu       sync.Mutex
	room     sync.Cond // signalled when inFlight or ended changes
	queue    []reply
	inFlight int   // calls received, replies not yet handed over
	running  int   // of those, calls that the coordinator has
	held     int   // bytes of running requests and queued replies
	recvErr  error // io.EOF: the client will send no more
	ended    bool  // nothing starts, replies are dropped
}

type reply struct {
	msg  *atollv1.StreamReply
	size int
}

// Stream serves one multiplexed stream until the client ends it, the service
// drains, or it breaks.
func (s *KVService) Stream(stream atollv1.KV_StreamServer) error {
	s.entry.RLock()
	if s.isStopping() {
		s.entry.RUnlock()
		return ToStatus(stopping()).Err()
	}
	s.streams.Add(2)
	s.entry.RUnlock()
	defer s.streams.Done()

	ses := &session{kv: s, stream: stream, wake: make(chan struct{}, 1), conn: connection(stream.Context())}
	ses.room.L = &ses.mu
	go func() {
		// The receiver outlives the sender by the moment gRPC takes to cancel
		// the stream.
		defer s.streams.Done()
		ses.receiveAll()
	}()
	defer ses.end()
	// The header tells the client at once that the stream reached a node.
	if err := stream.SendHeader(metadata.MD{}); err != nil {
		return err
	}
	return ses.sendAll()
}

// end makes the receiver stop and late replies vanish.
func (s *session) end() {
	s.mu.Lock()
	s.ended = true
	s.queue = nil
	s.mu.Unlock()
	s.room.Broadcast()
}

func (s *session) wakeSender() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// sendAll sends replies until the stream is over.
func (s *session) sendAll() error {
	var (
		batch []reply
		msg   atollv1.StreamResponse
	)
	for {
		select {
		case <-s.wake:
			// Replies that are about to be queued shall go with this message.
			runtime.Gosched()
		case <-s.kv.stopping:
		case <-s.stream.Context().Done():
			return s.stream.Context().Err()
		}
		for {
			var over bool
			var err error
			batch, over, err = s.take(batch)
			if len(batch) > 0 {
				if err := s.send(&msg, batch); err != nil {
					return err
				}
			}
			if over {
				return err
			}
			if len(batch) == 0 {
				break
			}
		}
		if s.kv.isStopping() {
			// The select above would spin on the closed channel: what is
			// still running wakes the sender when it is done.
			select {
			case <-s.wake:
				s.wakeSender()
			case <-s.stream.Context().Done():
				return s.stream.Context().Err()
			}
		}
	}
}

// take swaps the queue for an empty one. It reports whether the stream is over
// once these replies are sent, and how it ends then.
func (s *session) take(spare []reply) (batch []reply, over bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(spare)
	batch, s.queue = s.queue, spare[:0]
	switch {
	case s.recvErr != nil && !errors.Is(s.recvErr, io.EOF):
		over, err = true, s.recvErr
	case s.running > 0:
	case s.recvErr != nil:
		over = true
	case s.kv.isStopping():
		// From here on nothing starts, so the client may take what was not
		// answered as not applied.
		over, err = true, ToStatus(stopping()).Err()
	}
	s.ended = s.ended || over
	return batch, over, err
}

// send sends a batch in messages of maxStreamMessage or one large reply.
func (s *session) send(msg *atollv1.StreamResponse, batch []reply) error {
	for len(batch) > 0 {
		msg.Replies = msg.Replies[:0]
		if s.kv.mapNumber != nil {
			msg.RegionMap = s.kv.mapNumber()
		}
		size, n := 0, 0
		for n < len(batch) && (n == 0 || size+batch[n].size <= maxStreamMessage) {
			size += batch[n].size
			msg.Replies = append(msg.Replies, batch[n].msg)
			n++
		}
		err := s.stream.Send(msg) // encodes before it returns
		clear(msg.Replies)
		if err != nil {
			return err
		}
		s.mu.Lock()
		s.inFlight -= n
		s.held -= size
		s.mu.Unlock()
		s.room.Broadcast()
		batch = batch[n:]
	}
	return nil
}

// receiveAll dispatches calls until the stream ends.
func (s *session) receiveAll() {
	err := s.receive()
	s.mu.Lock()
	s.recvErr = err
	s.mu.Unlock()
	s.wakeSender()
}

func (s *session) receive() (err error) {
	defer func() {
		if p := recover(); p != nil {
			s.kv.log.Error("panic while serving a stream", "panic", p, "stack", string(debug.Stack()))
			err = ToStatus(panicked()).Err()
		}
	}()
	for {
		req, err := s.stream.Recv()
		if err != nil {
			return err
		}
		now := time.Now()
		for _, call := range req.Calls {
			if !s.dispatch(call, now) {
				return errors.New("stream has ended")
			}
		}
	}
}

// dispatch starts one call, or answers it with why not. It reports false when
// the stream has ended.
func (s *session) dispatch(call *atollv1.StreamCall, now time.Time) bool {
	id, size := call.Id, callSize(call)
	refusal, ok := s.admit(size)
	if !ok {
		return false
	}
	if refusal != nil {
		s.finish(s.kv.errorReply(id, ofRequest(refusal, call.GetPut().GetRetry() || call.GetDelete().GetRetry())), 0, false)
		return true
	}
	timeout := coord.DefaultTimeout
	if call.TimeoutMs > 0 {
		timeout = min(time.Duration(call.TimeoutMs)*time.Millisecond, coord.MaxTimeout)
	}
	deadline := now.Add(timeout)

	var bad *coord.Error
	switch op := call.Op.(type) {
	case *atollv1.StreamCall_Get:
		var g coord.Get
		if g, bad = parseGet(op.Get, deadline); bad == nil {
			s.kv.get(now, s.conn, size, g, func(r coord.GetResult, err error) { s.gotten(id, size, r, err) })
			return true
		}
	case *atollv1.StreamCall_Put:
		var p coord.Put
		if p, bad = parsePut(op.Put, deadline); bad == nil {
			s.kv.put(now, s.conn, size, p, func(r coord.PutResult, err error) {
				if err != nil {
					s.finish(s.kv.errorReply(id, classify(err, true)), size, true)
					return
				}
				res := &atollv1.StreamReply_Put{Put: s.kv.putResponse(r)}
				s.finish(&atollv1.StreamReply{Id: id, Result: res}, size, true)
			})
			return true
		}
	case *atollv1.StreamCall_Delete:
		var p coord.Put
		if p, bad = parseDelete(op.Delete, deadline); bad == nil {
			s.kv.put(now, s.conn, size, p, func(r coord.PutResult, err error) {
				if err != nil {
					s.finish(s.kv.errorReply(id, classify(err, true)), size, true)
					return
				}
				res := &atollv1.StreamReply_Delete{Delete: s.kv.deleteResponse(r)}
				s.finish(&atollv1.StreamReply{Id: id, Result: res}, size, true)
			})
			return true
		}
	default:
		bad = &coord.Error{
			Code: coord.CodeInvalid, Detail: "a call without an operation this node knows",
			Field: "op", Limit: "get, put or delete", Seen: fmt.Sprintf("%T", op),
		}
	}
	s.finish(s.kv.errorReply(id, bad), size, true)
	return true
}

// admit counts a call in. It waits while the client is far over its bounds,
// and refuses the call when it is over them.
func (s *session) admit(size int) (refusal *coord.Error, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.inFlight >= 2*MaxStreamInFlight && !s.ended {
		s.room.Wait()
	}
	if s.ended {
		return nil, false
	}
	s.inFlight++
	switch {
	case s.kv.isStopping():
		return stopping(), true
	case s.inFlight > MaxStreamInFlight:
		return overloaded("too many calls in flight on this stream"), true
	case s.held+size > maxStreamHeld:
		return overloaded("too many bytes in flight on this stream"), true
	}
	s.running++
	s.held += size
	return nil, true
}

func (s *session) gotten(id uint64, size int, r coord.GetResult, err error) {
	if err != nil {
		s.finish(s.kv.errorReply(id, classify(err, false)), size, true)
		return
	}
	res := s.kv.getResponse(r)
	if n := replySize(res); n > MaxStreamReply {
		s.finish(s.kv.errorReply(id, tooLargeReply(MaxStreamReply, n)), size, true)
		return
	}
	s.finish(&atollv1.StreamReply{Id: id, Result: &atollv1.StreamReply_Get{Get: res}}, size, true)
}

// finish queues the reply to a call whose request held size bytes. ran says
// whether the coordinator had it.
func (s *session) finish(msg *atollv1.StreamReply, size int, ran bool) {
	n := 64
	if g := msg.GetGet(); g != nil {
		n = replySize(g)
	}
	s.mu.Lock()
	if ran {
		s.running--
	}
	s.held -= size
	if s.ended {
		s.mu.Unlock()
		return
	}
	if n > 64 && s.held+n > maxStreamHeld {
		// The client does not take its replies; this one is dropped for it.
		msg, n = s.kv.errorReply(msg.Id, overloaded("too many bytes queued on this stream")), 64
	}
	s.held += n
	s.queue = append(s.queue, reply{msg, n})
	first := len(s.queue) == 1
	s.mu.Unlock()
	if first {
		s.wakeSender()
	}
}

// encodedRefusal is an error and its form on a stream.
type encodedRefusal struct {
	err *coord.Error
	out *atollv1.StreamReply_Error
}

// errorReply makes nothing anew for a refusal like the last one: under
// overload there are more of them than of anything else.
func (s *KVService) errorReply(id uint64, e *coord.Error) *atollv1.StreamReply {
	if last := s.encoded.Load(); last != nil && last.err == e {
		return &atollv1.StreamReply{Id: id, Result: last.out}
	}
	out := &atollv1.StreamReply_Error{Error: s.errorProto(e)}
	if e.Code == coord.CodeOverloaded {
		s.encoded.Store(&encodedRefusal{e, out})
	}
	return &atollv1.StreamReply{Id: id, Result: out}
}

func callSize(c *atollv1.StreamCall) int {
	const overhead = 64
	switch op := c.Op.(type) {
	case *atollv1.StreamCall_Put:
		return overhead + len(op.Put.GetKey()) + len(op.Put.GetValue()) + len(op.Put.GetContext()) + len(op.Put.GetSession())
	case *atollv1.StreamCall_Get:
		return overhead + len(op.Get.GetKey()) + len(op.Get.GetSession())
	case *atollv1.StreamCall_Delete:
		return overhead + len(op.Delete.GetKey()) + len(op.Delete.GetContext()) + len(op.Delete.GetSession())
	}
	return overhead
}
