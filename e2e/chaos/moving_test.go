//go:build chaos && linux

package chaos

import (
	"testing"
	"time"

	"github.com/atolldb/atoll/e2e/chaos/traffic"
)

// TestMembershipUnderFaults: nodes join, leave and are replaced while nodes are killed,
// paused, cut off and lose power, the one that is replaced, too. The moves are slowed down, so that faults
// meet them half done.
func TestMembershipUnderFaults(t *testing.T) {
	parallel(t)
	r := newRig(t, "membership-under-faults", []string{"eu"}, 3)
	b := traffic.Load(r.ctx, r.history, r.clients["eu"], 1000, 4000, 3000)
	r.note("%d records loaded, %d failed", b.Len(), b.Tally.Failed())
	r.work()
	var n4, n5 *node
	for _, change := range []struct {
		what string
		do   func() []string
		goes func() *node // who is no member any more then, nil for nobody
	}{
		{"join", func() []string { n4 = r.newcomer("eu"); r.back(n4); return []string{"join", n4.ID} }, nil},
		{"second join", func() []string { n5 = r.newcomer("eu"); r.back(n5); return []string{"join", n5.ID} }, nil},
		{"drain", func() []string { return []string{"drain", n4.ID} }, func() *node { return n4 }},
		{"replace", func() []string { n6 := r.newcomer("eu"); r.back(n6); return []string{"replace", n5.ID, "--by", n6.ID} }, func() *node { return n5 }},
	} {
		args := change.do()
		_, err := r.atoll(30*time.Second, "eu", "pace", "--bytes", "512KiB", "--concurrent", "4")
		r.must(err)
		_, err = r.atoll(time.Minute, "eu", append(append([]string{"node"}, args...), "--yes")...)
		r.must(err)
		r.fault(change.what)
		before := r.moved()
		for range 3 {
			r.hurt()
		}
		if during := r.moved(); during == before {
			r.note("%s: no move was done between the faults", change.what)
		}
		_, err = r.atoll(30*time.Second, "eu", "pace", "--bytes", "64MiB", "--concurrent", "16")
		r.must(err)
		if _, err := r.awaitTask("eu", 2*time.Minute); err != nil {
			r.unmet("change-ends under faults", "%s: %v", change.what, err)
		} else {
			r.met("change-ends under faults")
		}
		if change.goes != nil {
			r.leaves(change.goes())
		}
	}
	r.finish()
}

// moved is how many moves of the last task are done.
func (r *rig) moved() uint32 {
	task, err := r.lastTask("eu")
	if err != nil {
		return 0
	}
	return task.GetDone() + task.GetSwitched()
}

// hurt injects one fault that takes no copy away into one node, for a while.
func (r *rig) hurt() {
	r.t.Helper()
	var able []step
	for _, s := range steps {
		if s.name != wipedDisk && (s.needs == "" || shared.missing[s.needs] == nil) {
			able = append(able, s)
		}
	}
	s, n := able[r.rng.IntN(len(able))], r.pick("eu")
	r.fault(s.name)
	lasts := 500*time.Millisecond + time.Duration(r.rng.IntN(int(2500*time.Millisecond)))
	r.t.Logf("        %s for %v", n.ID, lasts.Round(time.Millisecond))
	stop, err := s.begin(r, n)
	r.must(err)
	r.pause(lasts)
	stop()
	r.back(n)
	r.alive()
}
