package grpcpeer_test

import (
	"errors"
	"testing"
	"time"

	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/peer/grpcpeer"
	"github.com/atolldb/atoll/node/topology"
)

// A reply that comes after its request was given up shows that the peer is there; one
// that comes in time is told as the outcome alone.
func TestLateReply(t *testing.T) {
	late := make(chan topology.NodeID, 8)
	n := newLoopback(t)
	n.tune = func(c *grpcpeer.Config, _ *grpcpeer.ServerConfig) {
		c.Late = func(id topology.NodeID) { late <- id }
	}
	held := make(chan peer.Done, 1)
	n.Start("b", func(_ topology.NodeID, req peer.Request, reply peer.Done) {
		if req.Verb == peer.VerbPing {
			reply(nil, nil)
			return
		}
		held <- reply
	})
	a := n.Start("a", func(_ topology.NodeID, _ peer.Request, reply peer.Done) { reply(nil, nil) })
	if _, err := peer.Call(t.Context(), a, "b", peer.Request{Verb: peer.VerbPing, Timeout: time.Minute}); err != nil {
		t.Fatal(err)
	}
	outcome := make(chan error, 1)
	a.Send("b", peer.Request{Verb: peer.VerbRead, Timeout: 300 * time.Millisecond}, func(_ []byte, err error) { outcome <- err })
	reply := <-held
	if err := <-outcome; !errors.Is(err, peer.ErrTimeout) {
		t.Fatal(err)
	}
	if len(late) > 0 {
		t.Error("late before there was a reply")
	}
	reply([]byte("at last"), nil)
	if id := <-late; id != "b" {
		t.Errorf("%s is late", id)
	}
}
