package handoff_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/node/topology"
)

// The leader is drained. Its process goes on; it may not go on leading.
func TestWhoHasLeftDoesNotLead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 4, 0, 3)
		w.until("somebody leads", time.Minute, func(*topology.Topology) bool { return w.leader() != nil })
		gone := w.leader()
		w.commit(topology.Drain{Nodes: []topology.NodeID{gone.id}})
		w.settle(5 * time.Minute)
		w.pass(time.Minute)
		if m := w.stored().Member(gone.id); m.State != topology.Left {
			t.Fatalf("%s is %s", gone.id, m.State)
		}
		if m := w.leader(); m == nil || m == gone {
			t.Errorf("after %s left, %v leads", gone.id, m)
		}
	})
}
