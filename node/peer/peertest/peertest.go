// Package peertest is the conformance suite of peer.Transport: what the memory
// fabric and the real adapter must both do, or what is shown on the one says
// nothing of the other.
//
// It tests P1, P2 and P4 of package peer, refusals, timeouts, loss and return
// of a peer, and sends to oneself. P3 promises nothing, so there is nothing to
// test.
package peertest

import (
	"context"
	"testing"
	"time"

	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/topology"
)

// Net is a network under test, of one test.
type Net interface {
	// Start runs a node and returns its transport. Nodes find each other by
	// id. A stopped node may be started again.
	Start(id topology.NodeID, h peer.Handler) peer.Transport
	// Stop ends a node without farewell, as a crash does, and returns when its
	// own sends have got their outcome.
	Stop(id topology.NodeID)
}

// Factory makes a Net without nodes; it is taken down by t.Cleanup.
type Factory func(t *testing.T) Net

// In runs a test body in its surroundings: testing/synctest.Test, or Plain.
type In func(t *testing.T, body func(*testing.T))

// Plain is an In that adds nothing.
func Plain(t *testing.T, body func(*testing.T)) { body(t) }

// Run runs the whole suite.
func Run(t *testing.T, in In, factory Factory) {
	for name, test := range map[string]func(*testing.T, Net){
		"echo":                    echo,
		"empty body":              emptyBody,
		"request fields arrive":   requestFields,
		"thousands at once":       thousands,
		"refusals round trip":     refusals,
		"other errors":            otherErrors,
		"no reply":                noReply,
		"late reply":              lateReply,
		"no time left":            noTimeLeft,
		"too large a request":     tooLargeRequest,
		"too large a reply":       tooLargeReply,
		"large both ways":         largeBothWays,
		"large requests beside":   largeRequestsBeside,
		"large replies beside":    largeRepliesBeside,
		"self":                    self,
		"unknown peer":            unknownPeer,
		"done comes after send":   doneAfterSend,
		"send from done":          sendFromDone,
		"send from handler":       sendFromHandler,
		"reply from elsewhere":    replyFromElsewhere,
		"peer goes down":          peerGoesDown,
		"peer comes back":         peerComesBack,
		"stop with sends waiting": stopWaiting,
		"once each under loss":    onceEach,
	} {
		t.Run(name, func(t *testing.T) {
			in(t, func(t *testing.T) { test(t, factory(t)) })
		})
	}
}

// patience is how long a test waits for what must come before it says so.
const patience = 30 * time.Second

func mirror(_ topology.NodeID, req peer.Request, reply peer.Done) { reply(req.Body, nil) }

// mute never replies.
func mute(topology.NodeID, peer.Request, peer.Done) {}

func request(body string) peer.Request {
	return peer.Request{Verb: peer.VerbApply, Epoch: 1, Timeout: patience, Body: []byte(body)}
}

// outcome is what a Done was given.
type outcome struct {
	reply []byte
	err   error
}

// sent is a Send of which the test awaits the outcome.
type sent struct {
	t  *testing.T
	ch chan outcome
}

func send(t *testing.T, tr peer.Transport, to topology.NodeID, req peer.Request) *sent {
	s := &sent{t: t, ch: make(chan outcome, 2)}
	tr.Send(to, req, func(reply []byte, err error) { s.ch <- outcome{reply, err} })
	return s
}

func (s *sent) wait() ([]byte, error) {
	s.t.Helper()
	select {
	case o := <-s.ch:
		return o.reply, o.err
	case <-time.After(2 * patience):
		s.t.Fatal("done was never called")
		return nil, nil
	}
}

func call(t *testing.T, tr peer.Transport, to topology.NodeID, req peer.Request) ([]byte, error) {
	t.Helper()
	return send(t, tr, to, req).wait()
}

func mustEcho(t *testing.T, tr peer.Transport, to topology.NodeID, body string) {
	t.Helper()
	got, err := call(t, tr, to, request(body))
	if err != nil {
		t.Fatalf("echo to %s: %v", to, err)
	}
	if string(got) != body {
		t.Fatalf("echo to %s: got %d bytes, want %d", to, len(got), len(body))
	}
}

func await[T any](t *testing.T, ch <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(patience):
		t.Fatalf("waited in vain for %s", what)
		panic("unreachable")
	}
}

// reach asks until the peer answers. A ping waits for a fresh attempt to dial
// where an adapter dials, so this is no busy loop.
func reach(t *testing.T, tr peer.Transport, to topology.NodeID) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		_, err := peer.Call(ctx, tr, to, peer.Request{Verb: peer.VerbPing, Timeout: time.Second})
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("%s was not reached again: %v", to, err)
		}
	}
}
