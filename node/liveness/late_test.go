package liveness

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/topology"
)

// TestLateNodeDoesNotBlameItsPeers: a node that was not run for a while does
// not believe its timeouts, but what it knows for certain.
func TestLateNodeDoesNotBlameItsPeers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := New(Config{Self: "a", Nodes: func() []topology.NodeID { return []topology.NodeID{"b"} }})
		d.look(time.Now(), map[topology.NodeID]bool{})
		beat := func(after time.Duration) {
			time.Sleep(after)
			d.judge()
		}
		timeouts := func() State {
			for range 10 {
				time.Sleep(2 * burstSpan)
				d.Observe("b", peer.ErrTimeout)
				d.judge()
			}
			s := d.State("b")
			d.Observe("b", nil)
			return s
		}
		time.Sleep(time.Second)
		beat(0)
		beat(paceBeat)
		beat(2 * time.Second)
		for range 4 {
			time.Sleep(burstSpan)
			d.Observe("b", peer.ErrTimeout)
		}
		if s := d.State("b"); s != Up {
			t.Errorf("after a pause of this node's, b is %v", s)
		}
		if s := timeouts(); s != Down {
			t.Errorf("when this node runs again, ten timeouts leave b %v", s)
		}
		for range 40 {
			beat(paceBeat)
			d.Observe("b", nil)
		}
		beat(2 * time.Second)
		for range 2 {
			time.Sleep(2 * burstSpan)
			d.Observe("b", peer.ErrLinkLost)
		}
		if s := d.State("b"); s != Down {
			t.Errorf("a link that broke twice leaves b %v", s)
		}
	})
}
