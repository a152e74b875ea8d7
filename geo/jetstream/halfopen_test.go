package jetstream_test

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/atolldb/atoll/geo"
	"github.com/atolldb/atoll/geo/jetstream"
)

// swamp is a dialer whose connections can fall silent without breaking: what
// is written vanishes, and nothing comes.
type swamp struct {
	mu     sync.Mutex
	silent chan struct{} // nil, or closed when the silence ends
}

func (s *swamp) silence(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if on {
		s.silent = make(chan struct{})
	} else {
		close(s.silent)
		s.silent = nil
	}
}

func (s *swamp) now() chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.silent
}

func (s *swamp) Dial(network, address string) (net.Conn, error) {
	if silent := s.now(); silent != nil {
		select {
		case <-silent:
		case <-time.After(time.Second):
			return nil, context.DeadlineExceeded
		}
	}
	c, err := net.Dial(network, address)
	if err != nil {
		return nil, err
	}
	return &sunk{Conn: c, swamp: s, closed: make(chan struct{})}, nil
}

type sunk struct {
	net.Conn
	swamp  *swamp
	once   sync.Once
	closed chan struct{}
	lost   bool
}

func (c *sunk) Write(b []byte) (int, error) {
	if c.swamp.now() != nil {
		return len(b), nil
	}
	return c.Conn.Write(b)
}

func (c *sunk) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.swamp.now() != nil || c.lost { // this connection has lost bytes: for good
		c.lost = true
		<-c.closed
		return 0, io.EOF
	}
	return n, err
}

func (c *sunk) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// A link whose packets vanish is noticed by what does not come: within the
// pull's heartbeats, and later by the pings.
func TestHalfOpenLink(t *testing.T) {
	if testing.Short() {
		t.Skip("takes the length of ping and heartbeat intervals")
	}
	t.Parallel()
	w := solo(t)
	var mud swamp
	feed := jetstream.NewFeed(jetstream.FeedConfig{
		Origin: "east", Region: "west", Node: "west-1", URLs: w.urls(), Dialer: &mud,
	}, hclog.NewNullLogger())
	on := &links{came: make(chan uint64, 16), link: make(chan bool, 16)}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- feed.Run(ctx, on) }()
	defer func() { cancel(); <-ended }()
	send := func(n uint64) {
		t.Helper()
		done := make(chan error, 1)
		w.log.Append(geo.Batch{Header: geo.Header{
			Origin: "east", Node: "east-1", Incarnation: 65, Session: 1, Number: n, Count: 1, Codec: geo.CodecNone,
		}, Data: []byte("data")}, func(err error) { done <- err })
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	on.await(t, true)
	send(1)
	if n := <-on.came; n != 1 {
		t.Fatalf("batch %d came", n)
	}
	mud.silence(true)
	began := time.Now()
	send(2)
	on.await(t, false)
	if took := time.Since(began); took > 9*time.Second {
		t.Errorf("noticed after %v", took)
	} else {
		t.Logf("noticed after %v", took)
	}
	mud.silence(false)
	began = time.Now()
	on.await(t, true)
	select {
	case <-on.came: // batch 2, or batch 1 again
	case <-time.After(30 * time.Second):
		t.Error("nothing came after the silence")
	}
	t.Logf("took up again after %v", time.Since(began))
}

type links struct {
	came chan uint64
	link chan bool
}

func (l *links) Batch(_ context.Context, b geo.Batch) error { l.came <- b.Header.Number; return nil }
func (l *links) Announced([]byte)                           {}
func (l *links) Gap(string)                                 {}
func (l *links) Link(up bool)                               { l.link <- up }

func (l *links) await(t *testing.T, up bool) {
	t.Helper()
	deadline := time.After(40 * time.Second)
	for {
		select {
		case is := <-l.link:
			if is == up {
				return
			}
		case <-deadline:
			t.Fatalf("link never became %v", up)
		}
	}
}
