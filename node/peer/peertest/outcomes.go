package peertest

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/topology"
)

func noReply(t *testing.T, n Net) {
	a := n.Start("a", mute)
	n.Start("b", func(_ topology.NodeID, req peer.Request, reply peer.Done) {
		if req.Verb == peer.VerbPing {
			reply(nil, nil)
		}
	})
	reach(t, a, "b")
	// Timeouts of different lengths, the longest first, must each be kept.
	start := time.Now()
	var waits []*sent
	for _, d := range []time.Duration{300, 200, 100, 20} {
		req := request("")
		req.Timeout = d * time.Millisecond
		waits = append(waits, send(t, a, "b", req))
	}
	for i, w := range waits {
		if _, err := w.wait(); !errors.Is(err, peer.ErrTimeout) {
			t.Errorf("send %d: got %v, want ErrTimeout", i, err)
		}
		if i == 0 && time.Since(start) < 300*time.Millisecond {
			t.Errorf("timed out after %s of 300 ms", time.Since(start))
		}
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("300 ms took %s", took)
	}
}

func lateReply(t *testing.T, n Net) {
	held := make(chan peer.Done, 1)
	a := n.Start("a", mute)
	n.Start("b", func(_ topology.NodeID, req peer.Request, reply peer.Done) {
		if string(req.Body) == "hold" {
			held <- reply
			return
		}
		reply(req.Body, nil)
	})
	reach(t, a, "b")
	req := request("hold")
	req.Timeout = 50 * time.Millisecond
	s := send(t, a, "b", req)
	if _, err := s.wait(); !errors.Is(err, peer.ErrTimeout) {
		t.Fatalf("got %v, want ErrTimeout", err)
	}
	await(t, held, "the handler")([]byte("too late"), nil)
	// The late reply must not be taken for another's.
	for range 50 {
		mustEcho(t, a, "b", "next")
	}
	if len(s.ch) != 0 {
		t.Error("done was called twice")
	}
}

func noTimeLeft(t *testing.T, n Net) {
	a := n.Start("a", mute)
	n.Start("b", mirror)
	for _, d := range []time.Duration{0, -time.Second} {
		req := request("")
		req.Timeout = d
		if _, err := call(t, a, "b", req); !errors.Is(err, peer.ErrNotTried) {
			t.Errorf("timeout %s: got %v, want ErrNotTried", d, err)
		}
	}
}

func unknownPeer(t *testing.T, n Net) {
	a := n.Start("a", mute)
	if _, err := call(t, a, "nobody", request("")); !errors.Is(err, peer.ErrNotSent) {
		t.Errorf("got %v, want ErrNotSent", err)
	}
}

// doneAfterSend: done is not called on the sender's stack, whatever the
// outcome, so a sender may hold a lock that done takes.
func doneAfterSend(t *testing.T, n Net) {
	a := n.Start("a", mirror)
	n.Start("b", mirror)
	tooLarge := request("")
	tooLarge.Body = make([]byte, peer.MaxMessage+1)
	for _, c := range []struct {
		to  topology.NodeID
		req peer.Request
	}{
		{"a", request("self")},
		{"b", request("other")},
		{"nobody", request("x")},
		{"b", peer.Request{Verb: peer.VerbRead}},
		{"b", tooLarge},
	} {
		var mu sync.Mutex
		done := make(chan struct{})
		mu.Lock()
		a.Send(c.to, c.req, func([]byte, error) {
			mu.Lock()
			defer mu.Unlock()
			close(done)
		})
		mu.Unlock()
		await(t, done, "done")
	}
}

func sendFromDone(t *testing.T, n Net) {
	a := n.Start("a", mirror)
	n.Start("b", mirror)
	for _, to := range []topology.NodeID{"b", "a", "nobody"} {
		done := make(chan int, 1)
		var step func(left int) peer.Done
		step = func(left int) peer.Done {
			return func([]byte, error) {
				if left == 0 {
					done <- left
					return
				}
				a.Send(to, request("again"), step(left-1))
			}
		}
		a.Send(to, request("first"), step(100))
		await(t, done, "the last of a chain of sends")
	}
}

func sendFromHandler(t *testing.T, n Net) {
	var b peer.Transport
	ready := make(chan struct{})
	a := n.Start("a", mirror)
	b = n.Start("b", func(from topology.NodeID, req peer.Request, reply peer.Done) {
		<-ready // closed at once; orders the read of b after its write
		b.Send("c", req, reply)
	})
	close(ready)
	n.Start("c", func(from topology.NodeID, req peer.Request, reply peer.Done) {
		reply(append([]byte(from), req.Body...), nil)
	})
	got, err := call(t, a, "b", request("!"))
	if err != nil || string(got) != "b!" {
		t.Errorf("got %q, %v", got, err)
	}
}

func replyFromElsewhere(t *testing.T, n Net) {
	a := n.Start("a", mute)
	n.Start("b", func(_ topology.NodeID, req peer.Request, reply peer.Done) {
		go reply(req.Body, nil)
	})
	for range 20 {
		mustEcho(t, a, "b", "elsewhere")
	}
}

func peerGoesDown(t *testing.T, n Net) {
	got := make(chan struct{}, 8)
	a := n.Start("a", mute)
	n.Start("b", func(_ topology.NodeID, req peer.Request, reply peer.Done) {
		if req.Verb == peer.VerbPing {
			reply(nil, nil)
			return
		}
		got <- struct{}{}
	})
	reach(t, a, "b")
	waiting := send(t, a, "b", request(""))
	await(t, got, "the request")
	n.Stop("b")
	if _, err := waiting.wait(); !errors.Is(err, peer.ErrLinkLost) {
		t.Errorf("a send that the peer had: got %v, want ErrLinkLost", err)
	}
	// From now on the peer is not reached. The loss may be noticed a moment
	// after the stop, never by a timeout, and ErrNotSent must come to stay.
	for i := 0; ; i++ {
		_, err := call(t, a, "b", request(""))
		if errors.Is(err, peer.ErrNotSent) {
			break
		}
		if !errors.Is(err, peer.ErrLinkLost) || i > 1000 {
			t.Fatalf("a send to a dead peer: got %v", err)
		}
	}
	if _, err := call(t, a, "b", request("")); !errors.Is(err, peer.ErrNotSent) {
		t.Errorf("got %v, want ErrNotSent", err)
	}
	if len(got) != 0 {
		t.Error("the dead peer's handler was called")
	}
}

func peerComesBack(t *testing.T, n Net) {
	a := n.Start("a", mirror)
	n.Start("b", mirror)
	for range 3 {
		mustReachBoth(t, a, n)
		n.Stop("b")
		if _, err := call(t, a, "b", request("")); err == nil {
			t.Fatal("a stopped peer answered")
		}
	}
	mustReachBoth(t, a, n)
}

func mustReachBoth(t *testing.T, a peer.Transport, n Net) {
	t.Helper()
	b := n.Start("b", mirror)
	reach(t, a, "b")
	mustEcho(t, a, "b", "back")
	mustEcho(t, a, "b", string(make([]byte, peer.LargeMessage*2)))
	reach(t, b, "a")
	mustEcho(t, b, "a", "and the other way")
}

func stopWaiting(t *testing.T, n Net) {
	a := n.Start("a", mute)
	n.Start("b", func(_ topology.NodeID, req peer.Request, reply peer.Done) {
		if req.Verb == peer.VerbPing {
			reply(nil, nil)
		}
	})
	reach(t, a, "b")
	var waits []*sent
	for _, to := range []topology.NodeID{"b", "a", "nobody"} {
		for range 50 {
			waits = append(waits, send(t, a, to, request("")))
		}
	}
	n.Stop("a")
	for _, w := range waits {
		if _, err := w.wait(); !errors.Is(err, peer.ErrNotSent) && !errors.Is(err, peer.ErrLinkLost) {
			t.Fatalf("got %v, want ErrNotSent or ErrLinkLost", err)
		}
	}
	if _, err := call(t, a, "b", request("")); !errors.Is(err, peer.ErrNotSent) {
		t.Errorf("a send after the stop: got %v, want ErrNotSent", err)
	}
}

// onceEach: while a peer comes and goes, each send has one outcome (P1), and
// none that ended with ErrNotSent was seen, nor one unseen that was answered
// (P2).
func onceEach(t *testing.T, n Net) {
	const rounds, each, atOnce = 4, 600, 16
	var seen, counts [rounds * each]atomic.Int32
	h := func(_ topology.NodeID, req peer.Request, reply peer.Done) {
		if req.Verb != peer.VerbPing {
			seen[int(req.Body[0])<<8|int(req.Body[1])].Add(1)
		}
		reply(nil, nil)
	}
	type end struct {
		i   int
		err error
	}
	ends := make(chan end, 2*rounds*each) // room for outcomes that come twice
	a := n.Start("a", mute)
	next := 0
	step := func(limit int) {
		if next == limit {
			return
		}
		i := next
		next++
		body := []byte{byte(i >> 8), byte(i)}
		a.Send("b", peer.Request{Verb: peer.VerbApply, Timeout: 2 * time.Second, Body: body}, func(_ []byte, err error) {
			counts[i].Add(1)
			ends <- end{i, err}
		})
	}
	tally := map[string]int{}
	notSent := [rounds * each]bool{}
	for r := range rounds {
		n.Start("b", h)
		reach(t, a, "b")
		limit := (r + 1) * each
		for range atOnce {
			step(limit)
		}
		stopped := make(chan struct{})
		for j := range each {
			if j == each/2 {
				go func() {
					n.Stop("b")
					close(stopped)
				}()
			}
			e := await(t, ends, "an outcome")
			step(limit)
			switch {
			case e.err == nil:
				tally["ok"]++
				if seen[e.i].Load() == 0 {
					t.Errorf("send %d was answered and not seen", e.i)
				}
			case errors.Is(e.err, peer.ErrNotSent):
				tally["not sent"]++
				notSent[e.i] = true
			case errors.Is(e.err, peer.ErrLinkLost), errors.Is(e.err, peer.ErrTimeout):
				tally["unknown"]++
			default:
				t.Errorf("send %d: %v", e.i, e.err)
			}
		}
		await(t, stopped, "the stop")
	}
	for i := range counts {
		if c := counts[i].Load(); c != 1 {
			t.Errorf("send %d had %d outcomes", i, c)
		}
		if notSent[i] && seen[i].Load() != 0 {
			t.Errorf("send %d was not sent and seen", i)
		}
	}
	if tally["ok"] == 0 || tally["not sent"] == 0 {
		t.Errorf("the test did not see both outcomes: %v", tally)
	}
	t.Log(tally)
}
