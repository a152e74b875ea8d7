package liveness_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/node/liveness"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/peer/memnet"
	"github.com/atolldb/atoll/node/topology"
)

// world is a detector on a and the peers b and c.
type world struct {
	*liveness.Detector
	net     *memnet.Fabric
	a       peer.Transport
	pings   map[topology.NodeID]*atomic.Int32
	ups     chan topology.NodeID
	nodes   atomic.Pointer[[]topology.NodeID]
	handler func(id topology.NodeID) peer.Handler
}

func inWorld(t *testing.T, cfg memnet.Config, body func(*testing.T, *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{net: memnet.New(7, cfg), pings: map[topology.NodeID]*atomic.Int32{}, ups: make(chan topology.NodeID, 100)}
		w.handler = func(id topology.NodeID) peer.Handler {
			return func(_ topology.NodeID, req peer.Request, reply peer.Done) {
				if req.Verb == peer.VerbPing {
					w.pings[id].Add(1)
					reply(nil, nil)
					return
				}
				reply(nil, &peer.Refusal{Code: peer.CodeOverloaded})
			}
		}
		w.a = w.net.Node("a", func(topology.NodeID, peer.Request, peer.Done) { t.Error("a was asked") })
		for _, id := range []topology.NodeID{"b", "c"} {
			w.pings[id] = new(atomic.Int32)
			w.net.Node(id, w.handler(id))
		}
		w.nodes.Store(&[]topology.NodeID{"a", "b", "c"})
		w.Detector = liveness.New(liveness.Config{
			Self: "a", Transport: w.a,
			Nodes: func() []topology.NodeID { return *w.nodes.Load() },
			Rand:  func() float64 { return 0.5 },
		})
		w.OnUp(func(id topology.NodeID) { w.ups <- id })
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- w.Run(ctx) }()
		defer func() {
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}()
		pass(10 * time.Millisecond)
		body(t, w)
	})
}

// pass lets fake time go by.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// until returns how long it takes until a node is in a state.
func (w *world) until(t *testing.T, id topology.NodeID, s liveness.State) time.Duration {
	t.Helper()
	start := time.Now()
	for w.State(id) != s {
		pass(5 * time.Millisecond)
		if time.Since(start) > time.Minute {
			t.Fatalf("%s is %s after a minute, not %s", id, w.State(id), s)
		}
	}
	return time.Since(start)
}

var lan = memnet.Config{
	Faults:    memnet.Faults{MinDelay: 200 * time.Microsecond, MaxDelay: time.Millisecond},
	DialDelay: time.Millisecond,
}

func TestIdlePeersArePingedEachSecond(t *testing.T) {
	inWorld(t, lan, func(t *testing.T, w *world) {
		pass(20 * time.Second)
		for id, n := range w.pings {
			if got := n.Load(); got < 18 || got > 30 {
				t.Errorf("%s was pinged %d times in 20 s", id, got)
			}
		}
	})
}

func TestTrafficSparesPings(t *testing.T) {
	inWorld(t, lan, func(t *testing.T, w *world) {
		before := w.pings["b"].Load()
		for range 200 {
			pass(100 * time.Millisecond)
			w.Observe("b", nil)
		}
		if got := w.pings["b"].Load() - before; got > 1 {
			t.Errorf("a busy peer was pinged %d times", got)
		}
	})
}

func TestCrashAndReturn(t *testing.T) {
	for _, busy := range []bool{false, true} {
		t.Run(fmt.Sprintf("busy=%t", busy), func(t *testing.T) {
			inWorld(t, lan, func(t *testing.T, w *world) {
				pass(1300 * time.Millisecond)
				if busy {
					// Requests that the peer has when it dies, and those that
					// come after.
					for i := range 200 {
						time.AfterFunc(time.Duration(i)*5*time.Millisecond, func() {
							if w.Alive("b") {
								w.a.Send("b", peer.Request{Verb: peer.VerbRead, Timeout: time.Second}, func(_ []byte, err error) { w.Observe("b", err) })
							}
						})
					}
				}
				w.net.Down("b")
				if took := w.until(t, "b", liveness.Down); took > 1200*time.Millisecond || busy && took > 200*time.Millisecond {
					t.Errorf("down after %s", took)
				} else {
					t.Logf("down after %s", took)
				}
				if !w.Alive("c") || w.Alive("b") {
					t.Error("alive: b or not c")
				}
				pass(10 * time.Second)
				w.net.Node("b", w.handler("b"))
				if took := w.until(t, "b", liveness.Up); took > time.Second {
					t.Errorf("up after %s", took)
				} else {
					t.Logf("up after %s", took)
				}
				synctest.Wait()
				if len(w.ups) != 1 || <-w.ups != "b" {
					t.Error("the return was not announced once")
				}
			})
		})
	}
}

func TestSilentPartition(t *testing.T) {
	for name, cut := range map[string]func(*world){
		"both ways":    func(w *world) { w.net.Partition([]topology.NodeID{"a"}, []topology.NodeID{"b"}) },
		"only replies": func(w *world) { w.net.Cut("b", "a") },
		"only one way": func(w *world) { w.net.Cut("a", "b") },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := lan
			cfg.Doubt = 1 // nothing is ever told, all times out
			inWorld(t, cfg, func(t *testing.T, w *world) {
				cut(w)
				if took := w.until(t, "b", liveness.Down); took > 4*time.Second {
					t.Errorf("down after %s", took)
				}
				w.net.HealAll()
				if took := w.until(t, "b", liveness.Up); took > 2*time.Second {
					t.Errorf("up after %s", took)
				}
			})
		})
	}
}

// A peer that loses three of ten messages is not written off: an answer
// between timeouts forgives them. It may fall, but not flap.
func TestLossyLinkDoesNotFlap(t *testing.T) {
	cfg := lan
	cfg.Drop = 0.15 // each way
	inWorld(t, cfg, func(t *testing.T, w *world) {
		pass(5 * time.Minute)
		if n := len(w.ups); n > 6 {
			t.Errorf("%d returns in 5 minutes", n)
		} else {
			t.Logf("%d returns in 5 minutes", n)
		}
	})
}

func TestWhatIsNoFailure(t *testing.T) {
	inWorld(t, lan, func(t *testing.T, w *world) {
		for range 100 {
			pass(200 * time.Millisecond)
			w.Observe("b", fmt.Errorf("read: %w", &peer.Refusal{Code: peer.CodeOverloaded}))
			w.Observe("b", peer.ErrNotTried)
			w.Observe("b", context.Canceled)
			w.Observe("nobody", peer.ErrLinkLost)
			if s := w.State("b"); s != liveness.Up {
				t.Fatalf("b is %s", s)
			}
		}
	})
}

func TestNodesComeAndGo(t *testing.T) {
	inWorld(t, lan, func(t *testing.T, w *world) {
		w.net.Down("b")
		w.until(t, "b", liveness.Down)
		w.nodes.Store(&[]topology.NodeID{"a", "c", "d"})
		pass(3 * time.Second)
		if !w.Alive("b") {
			t.Error("a node that is not watched is not alive")
		}
		if w.Alive("d") {
			t.Error("a new node that was never there is alive")
		}
		if !w.Alive("a") {
			t.Error("this node is not alive")
		}
	})
}

// Observe and Alive are used by every request, from everywhere.
func TestConcurrentUse(t *testing.T) {
	inWorld(t, lan, func(t *testing.T, w *world) {
		ended := make(chan struct{})
		for i := range 8 {
			go func() {
				defer func() { ended <- struct{}{} }()
				for j := range 300 {
					var err error
					if (i+j)%3 == 0 {
						err = errors.Join(peer.ErrLinkLost)
					}
					w.Observe("b", err)
					w.Alive("b")
					if j%10 == 0 {
						<-time.After(30 * time.Millisecond)
					}
				}
			}()
		}
		for range 8 {
			<-ended
		}
		w.until(t, "b", liveness.Up)
	})
}

func BenchmarkObserveAlive(b *testing.B) {
	net := memnet.New(1, memnet.Config{})
	net.Node("b", func(_ topology.NodeID, _ peer.Request, reply peer.Done) { reply(nil, nil) })
	d := liveness.New(liveness.Config{
		Self: "a", Transport: net.Node("a", nil),
		Nodes: func() []topology.NodeID { return []topology.NodeID{"b"} },
	})
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error)
	go func() { ended <- d.Run(ctx) }()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if d.Alive("b") {
				d.Observe("b", nil)
			}
		}
	})
	cancel()
	<-ended
}
