package grpcpeer_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/peer/grpcpeer"
	"github.com/atolldb/atoll/node/topology"
)

// More requests than a session may have in flight are refused as overloaded,
// and the link works on.
func TestServerOverloaded(t *testing.T) {
	const inFlight, over = 1 << 14, 100
	n := newLoopback(t)
	a := n.Start("a", mirror)
	var mu sync.Mutex
	var held []peer.Done
	n.Start("b", func(_ topology.NodeID, req peer.Request, reply peer.Done) {
		if req.Verb == peer.VerbPing {
			reply(nil, nil)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		held = append(held, reply)
	})
	if err := ping(t, a, "b"); err != nil {
		t.Fatal(err)
	}
	errs := make(chan error, inFlight+over)
	for range inFlight + over {
		a.Send("b", peer.Request{Verb: peer.VerbRead, Timeout: time.Minute}, func(_ []byte, err error) { errs <- err })
	}
	var no *peer.Refusal
	for range over {
		if err := <-errs; !errors.As(err, &no) || no.Code != peer.CodeOverloaded {
			t.Fatalf("got %v, want overloaded", err)
		}
	}
	if st := n.servers["b"].Stats()["a"]; st.Pending != inFlight || st.Refused != over {
		t.Errorf("%+v", st)
	}
	mu.Lock()
	for _, reply := range held {
		reply(nil, nil)
	}
	mu.Unlock()
	for range inFlight {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	if err := ping(t, a, "b"); err != nil {
		t.Error(err)
	}
	if st := n.clients["a"].Stats()["b"]; st.Pending != 0 || !st.Up {
		t.Errorf("%+v", st)
	}
}

// hang is a Dial that never succeeds.
func hang(ctx context.Context, _ string) (net.Conn, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func dialsWith(dial func(context.Context, string) (net.Conn, error)) func(*grpcpeer.Config, *grpcpeer.ServerConfig) {
	return func(c *grpcpeer.Config, _ *grpcpeer.ServerConfig) { c.Dial = dial }
}

// What waits for a link is bounded in bytes, and its time runs out there.
func TestQueueIsBounded(t *testing.T) {
	n := newLoopback(t)
	n.tune = dialsWith(hang)
	a := n.Start("a", mirror)
	n.Start("b", mirror)
	const size = 32 << 10
	const fit = 16 << 20 / size
	errs := make(chan error, fit+10)
	for range fit + 10 {
		a.Send("b", peer.Request{Verb: peer.VerbRead, Timeout: time.Second, Body: make([]byte, size)}, func(_ []byte, err error) { errs <- err })
	}
	for i := range fit + 10 {
		err := <-errs
		if !errors.Is(err, peer.ErrNotSent) || errors.Is(err, peer.ErrNotTried) != (i < 10) {
			t.Fatalf("outcome %d: %v", i, err)
		}
	}
}

// Before Run, nothing is taken, so nothing is forgotten.
func TestBeforeRun(t *testing.T) {
	c := grpcpeer.New(grpcpeer.Config{
		Self: "a", Region: "eu", Partitions: 64, Handler: mirror,
		Addrs: func(topology.NodeID) (string, bool) { return "127.0.0.1:1", true },
	})
	for _, to := range []topology.NodeID{"a", "b"} {
		if err := ping(t, c, to); !errors.Is(err, peer.ErrNotSent) {
			t.Errorf("to %s: %v", to, err)
		}
	}
}

// A handler that replies twice is told off, and the second reply is lost.
func TestSecondReplyIsIgnored(t *testing.T) {
	n := newLoopback(t)
	var log journal
	n.tune = func(_ *grpcpeer.Config, s *grpcpeer.ServerConfig) { s.Logger = log.logger() }
	a := n.Start("a", mirror)
	n.Start("b", func(_ topology.NodeID, _ peer.Request, reply peer.Done) {
		reply([]byte("first"), nil)
		reply([]byte("second"), nil)
	})
	for range 10 {
		got, err := peer.Call(t.Context(), a, "b", peer.Request{Verb: peer.VerbRead, Timeout: time.Minute})
		if err != nil || string(got) != "first" {
			t.Fatalf("got %q, %v", got, err)
		}
	}
	n.Stop("b")
	if c := strings.Count(log.String(), "handler replied twice"); c == 0 {
		t.Error("it was not logged")
	}
}

// A node that is taken off the list has no link any more.
func TestForgottenNode(t *testing.T) {
	n := newLoopback(t)
	a := n.Start("a", mirror)
	n.Start("b", mirror)
	if err := ping(t, a, "b"); err != nil {
		t.Fatal(err)
	}
	n.mu.Lock()
	delete(n.addrs, "b")
	n.mu.Unlock()
	n.Stop("b")
	for len(n.clients["a"].Stats()) > 0 {
		if err := ping(t, a, "b"); !errors.Is(err, peer.ErrNotSent) && !errors.Is(err, peer.ErrLinkLost) {
			t.Fatal(err)
		}
	}
	if err := ping(t, a, "b"); !errors.Is(err, peer.ErrNotSent) {
		t.Errorf("got %v", err)
	}
}

// Stats tell messages from frames, and both ends agree.
func TestStats(t *testing.T) {
	n := newLoopback(t)
	a := n.Start("a", mirror)
	n.Start("b", mirror)
	if err := ping(t, a, "b"); err != nil {
		t.Fatal(err)
	}
	const many = 1000
	errs := make(chan error, many)
	body := bytes.Repeat([]byte("x"), 5000)
	for range many {
		a.Send("b", peer.Request{Verb: peer.VerbRead, Timeout: time.Minute, Body: body}, func(_ []byte, err error) { errs <- err })
	}
	for range many {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	client, server := n.clients["a"].Stats()["b"], n.servers["b"].Stats()["a"]
	if client.MessagesOut != many+1 || client.MessagesIn != many+1 || client.Sessions != 1 {
		t.Errorf("client: %+v", client)
	}
	if client.FramesOut < 5 || client.FramesOut > many/2 {
		t.Errorf("5 MB went in %d frames", client.FramesOut)
	}
	if client.BytesOut < many*5000 || client.BytesOut > many*5100 {
		t.Errorf("%d bytes for %d messages of 5000", client.BytesOut, many)
	}
	if server.MessagesIn != client.MessagesOut || server.MessagesOut != client.MessagesIn || server.FramesIn != client.FramesOut {
		t.Errorf("client %+v, server %+v", client, server)
	}
}
