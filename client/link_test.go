package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// wireConn is a connection without a network, for fake time: serve gets every
// call and answers through reply, now, later or never.
type wireConn struct {
	mu       sync.Mutex
	refuse   error // of NewStream
	mute     bool  // a connection into the void: no header, no replies
	streams  []*wireStream
	opened   int
	messages int
	serve    func(s *wireStream, c *atollv1.StreamCall)
}

func (c *wireConn) set(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
}

// tries is how often a stream was asked for, sent how many messages went out.
func (c *wireConn) tries() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.opened
}

func (c *wireConn) sent() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.messages
}

// breaks ends the latest stream.
func (c *wireConn) breaks(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.streams[len(c.streams)-1].end <- err
}

func (c *wireConn) Invoke(context.Context, string, any, any, ...grpc.CallOption) error {
	return status.Error(codes.Unimplemented, "not a unary connection")
}

func (c *wireConn) NewStream(
	ctx context.Context, _ *grpc.StreamDesc, method string, _ ...grpc.CallOption,
) (grpc.ClientStream, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.opened++
	if c.refuse != nil {
		return nil, c.refuse
	}
	s := &wireStream{conn: c, ctx: ctx, method: method, out: make(chan *atollv1.StreamReply, 1<<16), end: make(chan error, 1)}
	c.streams = append(c.streams, s)
	return s, nil
}

type wireStream struct {
	grpc.ClientStream
	conn   *wireConn
	ctx    context.Context
	method string
	out    chan *atollv1.StreamReply
	end    chan error
}

func (s *wireStream) muted() bool {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	return s.conn.mute
}

func (s *wireStream) Header() (metadata.MD, error) {
	if s.muted() {
		<-s.ctx.Done()
		return nil, status.FromContextError(s.ctx.Err()).Err()
	}
	return metadata.MD{}, nil
}

func (s *wireStream) SendMsg(m any) error {
	q := proto.Clone(m.(proto.Message)).(*atollv1.StreamRequest)
	s.conn.mu.Lock()
	s.conn.messages++
	mute, serve := s.conn.mute, s.conn.serve
	s.conn.mu.Unlock()
	if mute {
		return nil
	}
	for _, c := range q.Calls {
		serve(s, c)
	}
	return nil
}

func (s *wireStream) RecvMsg(m any) error {
	res := m.(*atollv1.StreamResponse)
	select {
	case r := <-s.out:
		res.Replies = append(res.Replies, r)
		return nil
	default:
	}
	select {
	case r := <-s.out:
		res.Replies = append(res.Replies, r)
		return nil
	case err := <-s.end:
		return err
	case <-s.ctx.Done():
		return status.FromContextError(s.ctx.Err()).Err()
	}
}

func (s *wireStream) ok(c *atollv1.StreamCall) {
	r := &atollv1.StreamReply{Id: c.Id, Result: &atollv1.StreamReply_Put{Put: &atollv1.PutResponse{Context: []byte("c")}}}
	if g := c.GetGet(); g != nil {
		v := &atollv1.Sibling{Value: g.Key}
		r.Result = &atollv1.StreamReply_Get{Get: &atollv1.GetResponse{Siblings: []*atollv1.Sibling{v}}}
	}
	s.out <- r
}

func (s *wireStream) fail(c *atollv1.StreamCall, e *atollv1.Error) {
	s.out <- &atollv1.StreamReply{Id: c.Id, Result: &atollv1.StreamReply_Error{Error: e}}
}

func answer(s *wireStream, c *atollv1.StreamCall) { s.ok(c) }

// region is a client over fake connections, one for each node, that all own
// everything; the first is the primary. It must be called in a bubble.
func region(t *testing.T, conns ...*wireConn) *Client {
	c := newClient(newConfig(nil))
	v := &view{rows: make([][]uint32, 1), region: "eu", epoch: 1}
	c.cluster.mu.Lock()
	for i, cc := range conns {
		if cc.serve == nil {
			cc.serve = answer
		}
		v.nodes = append(v.nodes, c.cluster.addNode(fmt.Sprint("n", i), cc, func() error { return nil }))
		v.rows[0] = append(v.rows[0], uint32(i))
	}
	c.cluster.mu.Unlock()
	c.cluster.view.Store(v)
	c.cluster.wg.Go(c.cluster.sweepAll)
	t.Cleanup(func() { c.Close() })
	return c
}

// inBubble runs f with fake time. A goroutine that outlives Close fails it.
func inBubble(t *testing.T, f func(t *testing.T)) { synctest.Test(t, f) }

func near(got, want time.Duration) bool { return got >= want && got <= want+2*sweepEvery }

func TestDefaultDeadline(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var timeout uint32
		cc := &wireConn{serve: func(_ *wireStream, c *atollv1.StreamCall) { timeout = c.TimeoutMs }}
		c := region(t, cc)
		began := time.Now()
		_, err := c.Put(t.Context(), "k", nil)
		if !errors.Is(err, ErrUnknownOutcome) || !near(time.Since(began), 2*time.Second) {
			t.Errorf("put: %v after %v", err, time.Since(began))
		}
		if timeout != 1950 {
			t.Errorf("the node was given %d ms of 2000", timeout)
		}
		began = time.Now()
		_, err = c.Get(t.Context(), "k")
		if !errors.Is(err, ErrDeadline) || !errors.Is(err, context.DeadlineExceeded) || !near(time.Since(began), 2*time.Second) {
			t.Errorf("get: %v after %v", err, time.Since(began))
		}
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		began = time.Now()
		_, err = c.Put(ctx, "k", nil)
		if !errors.Is(err, ErrUnknownOutcome) || time.Since(began) > 300*time.Millisecond+2*sweepEvery {
			t.Errorf("put: %v after %v", err, time.Since(began))
		}
	})
}

// TestSilentNode: reads of a node that says nothing are asked of another after
// half of the time; then the node is avoided, until it is heard again.
func TestSilentNode(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		silent := true
		var late []func()
		a := &wireConn{}
		a.serve = func(s *wireStream, c *atollv1.StreamCall) {
			if silent {
				late = append(late, func() { s.ok(c) })
				return
			}
			s.ok(c)
		}
		b := &wireConn{}
		c := region(t, a, b)

		var info Info
		began := time.Now()
		for len(late) == 0 {
			if _, err := c.Get(t.Context(), "k", Explain(&info)); err != nil {
				t.Fatal(err)
			}
		}
		if info.Attempts != 2 || !near(time.Since(began), time.Second) {
			t.Errorf("%d attempts, %v", info.Attempts, time.Since(began))
		}
		// That makes it known, also to writes.
		a.set(func() { a.mute = true }) // what is tried now goes into the void
		opened := a.tries()
		for range 100 {
			began := time.Now()
			if _, err := c.Put(t.Context(), "k", nil); err != nil || time.Since(began) > 0 {
				t.Fatalf("%v after %v: the silent primary is not avoided", err, time.Since(began))
			}
			time.Sleep(100 * time.Millisecond)
		}
		if a.tries() == opened {
			t.Error("nobody tried whether the node is back")
		}
		a.set(func() { a.mute, silent = false, false }) // its sender takes that lock before it reads them
		time.Sleep(2*linkBackoffMax + linkConnect)
		before := b.sent()
		if _, err := c.Put(t.Context(), "k", nil); err != nil || b.sent() != before {
			t.Errorf("%v: the primary is back and not used", err)
		}
	})
}

func TestReplyThatComesLate(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var late func()
		cc := &wireConn{}
		cc.serve = func(s *wireStream, c *atollv1.StreamCall) {
			if late == nil {
				late = func() { s.ok(c) }
				return
			}
			s.ok(c)
		}
		c := region(t, cc)
		if _, err := c.Put(t.Context(), "k", nil); !errors.Is(err, ErrUnknownOutcome) {
			t.Fatal(err)
		}
		late()
		for range 10 {
			if obj, err := c.Get(t.Context(), "k2"); err != nil || string(obj.Value()) != "k2" {
				t.Fatalf("%v, %v", obj, err)
			}
		}
	})
}

func TestRefusedConnectionsAreNotSent(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		down := status.Error(codes.Unavailable, "connection refused")
		a, b := &wireConn{refuse: down}, &wireConn{}
		c := region(t, a, b)
		var info Info
		if _, err := c.Put(t.Context(), "k", nil, Explain(&info)); err != nil || info.Attempts != 2 {
			t.Fatalf("%v, %+v", err, info)
		}
		// Now it is known.
		if _, err := c.Put(t.Context(), "k", nil, Explain(&info)); err != nil || info.Attempts != 1 {
			t.Fatalf("%v, %+v", err, info)
		}
		b.set(func() { b.refuse = down })
		b.breaks(down)
		synctest.Wait()
		began := time.Now()
		_, err := c.Put(t.Context(), "k", nil)
		if !errors.Is(err, ErrUnavailable) || errors.Is(err, ErrUnknownOutcome) || time.Since(began) > 2*time.Second+2*sweepEvery {
			t.Fatalf("%v after %v", err, time.Since(began))
		}
		// A node that comes back in time is waited for.
		time.AfterFunc(300*time.Millisecond, func() { b.set(func() { b.refuse = nil }) })
		if _, err := c.Put(t.Context(), "k", nil); err != nil {
			t.Fatal(err)
		}
		b.set(func() { b.refuse = down })
		b.breaks(down)
		synctest.Wait()
		a.set(func() { a.refuse = nil })
		b.set(func() { b.refuse = nil })
		time.Sleep(linkBackoffMax)
		if _, err := c.Put(t.Context(), "k", nil, Explain(&info)); err != nil || info.Attempts != 1 {
			t.Fatalf("%v, %+v", err, info)
		}
	})
}

func TestReconnectsBackOff(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		cc := &wireConn{refuse: status.Error(codes.Unavailable, "connection refused")}
		c := region(t, cc)
		if _, err := c.Get(t.Context(), "k"); !errors.Is(err, ErrUnavailable) {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if n := cc.tries(); n < 300 || n > 620 { // every 1 to 2 s
			t.Errorf("%d attempts in 10 min", n)
		}
	})
}

// TestStreamThatBreaks: a write that was sent is sent again, as the same request
// and flagged, also one that is decided by consensus.
func TestStreamThatBreaks(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		for _, cause := range []error{io.EOF, status.Error(codes.Unavailable, "transport is closing"), status.Error(codes.Internal, "boom")} {
			a := &wireConn{serve: func(*wireStream, *atollv1.StreamCall) {}}
			c := region(t, a)
			ch, serial := make(chan error, 1), make(chan error, 1)
			id := NewRequestID()
			go func() {
				_, err := c.Put(t.Context(), "k", nil, Request(id))
				ch <- err
			}()
			go func() {
				_, err := c.Put(t.Context(), "k", nil, LocalSerial)
				serial <- err
			}()
			synctest.Wait()
			var again []*atollv1.PutRequest
			a.set(func() {
				a.serve = func(s *wireStream, c *atollv1.StreamCall) {
					again = append(again, c.GetPut())
					answer(s, c)
				}
			})
			a.breaks(cause)
			if err := errors.Join(<-serial, <-ch); err != nil || len(again) != 2 || !again[0].Retry || !again[1].Retry {
				t.Errorf("%v: %v, then %v", cause, err, again)
				continue
			}
			if RequestID(again[0].RequestId) != id && RequestID(again[1].RequestId) != id {
				t.Errorf("%v: another request: %v", cause, again)
			}
		}
	})
}

// TestWindow: what a node may be asked at a time is bounded; the rest waits
// for its turn, and is refused when too much waits.
func TestWindow(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var inFlight, most int
		var held []func()
		cc := &wireConn{}
		cc.serve = func(s *wireStream, c *atollv1.StreamCall) {
			inFlight++
			most = max(most, inFlight)
			held = append(held, func() {
				inFlight--
				s.ok(c)
			})
		}
		c := region(t, cc)
		const extra = 100
		results := make(chan error, linkWindow+linkQueue+extra)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		put := func() {
			_, err := c.Put(ctx, "k", nil)
			results <- err
		}
		for range linkWindow {
			go put()
		}
		synctest.Wait()
		for range linkQueue {
			go put()
		}
		synctest.Wait()
		if inFlight != linkWindow {
			t.Fatalf("%d in flight", inFlight)
		}
		o, _ := c.putOp("k", nil, &writeConfig{})
		if err := c.cluster.submit(c.cluster.view.Load().nodes[0], c.cluster.calls.take(o, time.Now()), true); err == nil || err.Reason != "OVERLOADED" {
			t.Fatalf("over the bound of the queue: %v", err)
		}
		for range linkWindow + linkQueue {
			synctest.Wait()
			f := held[0]
			held = held[1:]
			f()
		}
		for range linkWindow + linkQueue {
			if err := <-results; err != nil {
				t.Fatal(err)
			}
		}
		if most > linkWindow {
			t.Errorf("%d in flight", most)
		}
		if n := c.cluster.active.Load(); n != 0 {
			t.Errorf("%d calls are thought to be active", n)
		}
	})
}

// TestCallsTravelTogether: what is queued while a message is under way goes
// with the next one.
func TestCallsTravelTogether(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		cc := &wireConn{}
		c := region(t, cc)
		for range 3 {
			items := make([]Item, 1000)
			for i := range items {
				items[i].Key = "k"
			}
			for _, r := range c.PutMany(t.Context(), items) {
				if r.Err != nil {
					t.Fatal(r.Err)
				}
			}
		}
		if n := cc.sent(); n > 300 {
			t.Errorf("3000 calls in %d messages", n)
		}
	})
}

func TestWaitsAsLongAsTheNodeAsks(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		n := 0
		cc := &wireConn{}
		cc.serve = func(s *wireStream, c *atollv1.StreamCall) {
			if n++; n == 1 {
				s.fail(c, &atollv1.Error{Reason: atollv1.Reason_REASON_OVERLOADED, RetryAfterMs: 700})
				return
			}
			s.ok(c)
		}
		c := region(t, cc)
		began := time.Now()
		if _, err := c.Put(t.Context(), "k", nil); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(began); d < 700*time.Millisecond || d > 700*time.Millisecond+backoffMax {
			t.Errorf("waited %v", d)
		}
		// Not longer than there is time: then the error, not a timeout.
		n = 0
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		began = time.Now()
		if _, err := c.Put(ctx, "k", nil); !errors.Is(err, ErrThrottled) || time.Since(began) != 0 {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}

// TestIdleClientSleeps: a client with nothing to do wakes for nothing.
func TestIdleClientSleeps(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		cc := &wireConn{}
		c := region(t, cc)
		for range 3 {
			if _, err := c.Put(t.Context(), "k", nil); err != nil {
				t.Fatal(err)
			}
			// The sweeper stops within a tick; were it ticking on, this hour
			// would take the test 180,000 steps of fake time.
			time.Sleep(time.Hour)
			cc.set(func() { cc.serve = func(*wireStream, *atollv1.StreamCall) {} })
			if _, err := c.Put(t.Context(), "k", nil); !errors.Is(err, ErrUnknownOutcome) {
				t.Fatalf("after a rest nobody sweeps: %v", err)
			}
			cc.set(func() { cc.serve = answer })
			time.Sleep(time.Hour)
		}
	})
}
