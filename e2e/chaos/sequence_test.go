//go:build chaos && linux

package chaos

import (
	"testing"
	"time"
)

// TestMembershipInTurn: one region, one load and one history through all that
// can become of its members: two join, one is drained and stopped, one is
// killed and replaced. What a change leaves behind may show only in the next.
func TestMembershipInTurn(t *testing.T) {
	parallel(t)
	r, s, stop := loaded(t, "membership-in-turn", 3)
	n4, n5 := r.newcomer("eu"), r.newcomer("eu")
	r.back(n4, n5)
	r.change(s, "join of two", "node", "join", n4.ID, n5.ID)

	drained := r.Region("eu")[1]
	r.change(s, "drain of one", "node", "drain", drained.ID)
	s.Begin("leaving")
	r.leaves(drained)

	dead := r.Region("eu")[3] // the region's metadata stay on two of three
	s.Begin(phaseKilled)
	r.fault("kill -9")
	r.kill(dead)
	r.pause(4 * time.Second)
	n := r.newcomer("eu")
	r.back(n)
	r.change(s, "replace of a dead one", "node", "replace", dead.ID, "--by", n.ID)
	r.leaves(dead)
	s.Begin("after")
	r.pause(phaseTime / 2)
	r.balanced("eu", 4)
	stop()
	r.phases(s)
	r.finish()
}
