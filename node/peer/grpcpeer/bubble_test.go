package grpcpeer_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/peer/grpcpeer"
	"github.com/atolldb/atoll/node/topology"
)

// bubble is a dialler a and a node b in fake time, over pipes.
type bubble struct {
	*grpcpeer.Client
	dial  func(context.Context, string) (net.Conn, error) // by default, to b
	dials atomic.Int32
	holes []*hole
	mu    sync.Mutex
}

func inBubble(t *testing.T, body func(*testing.T, *bubble)) {
	synctest.Test(t, func(t *testing.T) {
		lis := newPipes()
		srv := grpc.NewServer(grpcpeer.ServerOptions()...)
		grpcpeer.NewServer(mirror, grpcpeer.ServerConfig{Self: "b", Region: "eu", Partitions: 64}).Register(srv)
		b := &bubble{}
		b.dial = lis.dial
		b.Client = grpcpeer.New(grpcpeer.Config{
			Self: "a", Region: "eu", Partitions: 64,
			Addrs: func(topology.NodeID) (string, bool) { return "b:1", true },
			Dial: func(ctx context.Context, addr string) (net.Conn, error) {
				b.dials.Add(1)
				conn, err := b.dial(ctx, addr)
				if err != nil {
					return nil, err
				}
				h := &hole{Conn: conn, closed: make(chan struct{})}
				b.mu.Lock()
				defer b.mu.Unlock()
				b.holes = append(b.holes, h)
				return h, nil
			},
			Rand: func() float64 { return 0.5 },
		})
		ctx, cancel := context.WithCancel(t.Context())
		var both sync.WaitGroup
		both.Go(func() { _ = srv.Serve(lis) })
		both.Go(func() { _ = b.Run(ctx) })
		<-b.Running()
		defer func() {
			cancel()
			srv.Stop()
			both.Wait()
		}()
		body(t, b)
	})
}

// pipes is a listener in memory. (Not gRPC's bufconn: it sets timers of 0 s, and
// two of these at once crash the race detector inside a bubble.)
type pipes struct {
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), closed: make(chan struct{})} }

func (p *pipes) dial(ctx context.Context, _ string) (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case p.conns <- there:
		return here, nil
	case <-p.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes", Net: "unix"} }

// hole is a connection that can be made to swallow everything.
type hole struct {
	net.Conn
	black  atomic.Bool
	once   sync.Once
	closed chan struct{}
}

func (h *hole) Read(b []byte) (int, error) {
	n, err := h.Conn.Read(b)
	if h.black.Load() {
		<-h.closed
		return 0, net.ErrClosed
	}
	return n, err
}

func (h *hole) Write(b []byte) (int, error) {
	if h.black.Load() {
		return len(b), nil
	}
	return h.Conn.Write(b)
}

func (h *hole) Close() error {
	h.once.Do(func() { close(h.closed) })
	return h.Conn.Close()
}

func (b *bubble) swallow() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, h := range b.holes {
		h.black.Store(true)
	}
}

// A peer that falls silent is given up after some 8 s, whether it was idle or
// not, and the link comes back when the peer does.
func TestSilentPeer(t *testing.T) {
	for _, idle := range []time.Duration{0, time.Hour} {
		t.Run(fmt.Sprint(idle), func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bubble) {
				if err := ping(t, b, "b"); err != nil {
					t.Fatal(err)
				}
				<-time.After(idle)
				b.swallow()
				start := time.Now()
				_, err := peer.Call(t.Context(), b, "b", peer.Request{Verb: peer.VerbRead, Timeout: time.Minute})
				if took := time.Since(start); !errors.Is(err, peer.ErrLinkLost) || took > 9*time.Second || took < 2*time.Second {
					t.Errorf("after %s: %v", took, err)
				}
				if err := ping(t, b, "b"); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// An idle link stays, on signs of life alone.
func TestIdleLinkStays(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		if err := ping(t, b, "b"); err != nil {
			t.Fatal(err)
		}
		<-time.After(10 * time.Minute)
		s := b.Stats()["b"]
		if s.Sessions != 1 || !s.Up || b.dials.Load() != 2 {
			t.Errorf("%d dials, %+v", b.dials.Load(), s)
		}
		if empty := s.FramesOut - s.MessagesOut; empty < 60 || empty > 130 {
			t.Errorf("%d signs of life in 10 minutes", empty)
		}
	})
}

func TestTimeoutsAreOnTime(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		if err := ping(t, b, "b"); err != nil {
			t.Fatal(err)
		}
		b.swallow()
		start := time.Now()
		ends := make(chan time.Duration, 100)
		for i := range 100 {
			timeout := time.Duration(1+(i*37)%100) * 10 * time.Millisecond
			b.Send("b", peer.Request{Verb: peer.VerbRead, Timeout: timeout}, func(_ []byte, err error) {
				if !errors.Is(err, peer.ErrTimeout) {
					t.Errorf("got %v", err)
				}
				ends <- time.Since(start) - timeout
			})
		}
		for range 100 {
			if late := <-ends; late < 0 || late > 5*time.Millisecond {
				t.Errorf("late by %s", late)
			}
		}
	})
}

// While a peer cannot be dialled, ordinary sends fail at once, attempts are
// made with growing pauses, and a ping makes one at once.
func TestBackoff(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		up := b.dial
		b.dial = func(context.Context, string) (net.Conn, error) { return nil, errors.New("connection refused") }
		send := func() error {
			_, err := peer.Call(t.Context(), b, "b", peer.Request{Verb: peer.VerbRead, Timeout: time.Minute})
			return err
		}
		start := time.Now()
		if err := send(); !errors.Is(err, peer.ErrNotSent) || time.Since(start) > time.Second {
			t.Fatalf("after %s: %v", time.Since(start), err)
		}
		for range 600 {
			before := time.Now()
			if err := send(); !errors.Is(err, peer.ErrNotSent) || time.Since(before) != 0 {
				t.Fatalf("after %s: %v", time.Since(before), err)
			}
			<-time.After(100 * time.Millisecond)
		}
		if n := b.dials.Load() / 2; n < 70 || n > 110 { // 50 ms .. 1 s, less a quarter
			t.Errorf("%d attempts in a minute", n)
		}
		synctest.Wait()
		before := b.dials.Load()
		if err := ping(t, b, "b"); !errors.Is(err, peer.ErrNotSent) || b.dials.Load() == before {
			t.Errorf("a ping made %d attempts: %v", b.dials.Load()-before, err)
		}
		b.dial = up
		start = time.Now()
		if err := ping(t, b, "b"); err != nil || time.Since(start) > 10*time.Millisecond {
			t.Errorf("after %s: %v", time.Since(start), err)
		}
		if err := send(); err != nil {
			t.Error(err)
		}
	})
}

// A dial that hangs is given up after 3 s; what waits for it and has less time
// does not wait so long.
func TestHangingDial(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		b.dial = hang
		start := time.Now()
		var ends []chan error
		for _, timeout := range []time.Duration{time.Second, time.Minute} {
			ch := make(chan error, 1)
			b.Send("b", peer.Request{Verb: peer.VerbRead, Timeout: timeout}, func(_ []byte, err error) { ch <- err })
			ends = append(ends, ch)
		}
		for i, want := range []time.Duration{time.Second, 3 * time.Second} {
			if err := <-ends[i]; !errors.Is(err, peer.ErrNotSent) || time.Since(start) < want || time.Since(start) > want+10*time.Millisecond {
				t.Errorf("send %d after %s: %v", i, time.Since(start), err)
			}
		}
	})
}
