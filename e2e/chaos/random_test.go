//go:build chaos && linux

package chaos

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/atolldb/atoll/e2e/chaos/machine"
)

// step is a fault of the random mix: it begins, lasts a while, and is ended.
// At most one node of a region is hurt at a time, except by loss; the links
// may be bad meanwhile.
type step struct {
	name  string
	needs machine.Ability
	// begin injects the fault into n and returns what ends it.
	begin func(r *rig, n *node) (end func(), err error)
}

// wipedDisk is the one fault that takes away what was acknowledged.
const wipedDisk = "wiped disk"

var steps = []step{
	{"kill -9", "", func(r *rig, n *node) (func(), error) {
		r.kill(n)
		return func() { r.start(n) }, nil
	}},
	{"restart", "", func(r *rig, n *node) (func(), error) {
		r.down[n] = true
		return func() { r.start(n) }, n.Stop(20 * time.Second)
	}},
	{"SIGSTOP", "", func(r *rig, n *node) (func(), error) {
		return func() { r.must(n.Resume()) }, n.Pause()
	}},
	{wipedDisk, "", func(r *rig, n *node) (func(), error) {
		r.kill(n)
		return func() { r.start(n) }, n.Wipe()
	}},
	{"isolated node", machine.Cutting, func(r *rig, n *node) (func(), error) {
		return func() { r.must(r.net.Heal()) }, errors.Join(r.cutAll(n, true, true))
	}},
	{"one-way cut", machine.Cutting, func(r *rig, n *node) (func(), error) {
		out := r.rng.IntN(2) == 0
		return func() { r.must(r.net.Heal()) }, errors.Join(r.cutAll(n, out, !out))
	}},
	{"30 % loss", machine.Cutting, func(r *rig, _ *node) (func(), error) {
		var errs []error
		for _, a := range r.Nodes {
			for _, b := range r.Nodes {
				if a != b {
					errs = append(errs, r.net.Lose(a.ID, b.ID, 30))
				}
			}
		}
		return func() { r.must(r.net.Heal()) }, errors.Join(errs...)
	}},
	{"full disk", machine.Disks, func(r *rig, n *node) (func(), error) {
		return func() { r.must(n.Disk.Drain()) }, n.Disk.Fill(24 << 20)
	}},
	{"slow disk", machine.Throttling, func(r *rig, n *node) (func(), error) {
		undo, err := shared.run.Throttle(r.prefix+"-"+n.ID, n.Pid(), n.Disk, 10)
		return func() { r.must(undo()) }, err
	}},
	{"power cut", machine.Cloning, func(r *rig, n *node) (func(), error) {
		if err := errors.Join(n.Pause(), n.Disk.Freeze()); err != nil {
			return nil, err
		}
		r.kill(n)
		return func() { r.start(n) }, n.Disk.Thaw()
	}},
	{"sync error", machine.Injecting, func(r *rig, n *node) (func(), error) {
		r.down[n] = true
		trace, err := machine.Inject(n.Pid(), machine.SyncCalls, "EIO", 1)
		if err != nil {
			return nil, err
		}
		return func() {
			trace.Detach()
			r.kill(n)
			r.start(n)
		}, nil
	}},
}

// cutAll cuts a node from all others of all regions.
func (r *rig) cutAll(n *node, out, in bool) error {
	var errs []error
	for _, o := range r.Nodes {
		if o == n {
			continue
		}
		if out {
			errs = append(errs, r.net.Cut(n.ID, o.ID))
		}
		if in {
			errs = append(errs, r.net.Cut(o.ID, n.ID))
		}
	}
	return errors.Join(errs...)
}

// TestRandom injects faults drawn from a seed, for a while, into two regions.
func TestRandom(t *testing.T) {
	parallel(t)
	var able []step
	for _, s := range steps {
		if why := shared.missing[s.needs]; s.needs != "" && why != nil {
			shared.report.add(&result{Scenario: "random: " + s.name, NotRun: fmt.Sprintf("%s: %v", s.needs, why)})
			continue
		}
		able = append(able, s)
	}
	r := newRig(t, fmt.Sprintf("random-%d", *seedFlag), []string{"eu", "us"}, 3)
	r.work()
	for end := time.Now().Add(*randomFlag); time.Now().Before(end); {
		r.round(able)
	}
	r.finish()
}

// round hurts a node in each region, or sometimes in one of them only, all at
// the same time, and ends that.
func (r *rig) round(able []step) {
	r.t.Helper()
	lasts := 500*time.Millisecond + time.Duration(r.rng.IntN(int(5*time.Second)))
	var stops []func()
	var hurt []*node
	wiped := false
	for _, region := range r.Regions() {
		if r.rng.IntN(4) == 0 {
			continue
		}
		s, nodes := able[r.rng.IntN(len(able))], r.Region(region)
		n := nodes[r.rng.IntN(len(nodes))]
		r.fault(s.name)
		r.t.Logf("        %s for %v", n.ID, lasts.Round(time.Millisecond))
		stop, err := s.begin(r, n)
		r.must(err)
		wiped = wiped || s.name == wipedDisk
		stops, hurt = append(stops, stop), append(hurt, n)
	}
	r.pause(lasts)
	for _, stop := range stops {
		stop()
	}
	r.back(hurt...)
	if wiped {
		// Before another fault takes another copy away.
		if err := r.settleUnderLoad(healTime); err != nil {
			r.unmet("healing", "not whole %v after a node was wiped: %v", healTime, err)
		}
	}
	// Some faults meet a region that is still busy with the one before.
	if r.rng.IntN(2) == 0 {
		r.pause(time.Duration(r.rng.IntN(int(3 * time.Second))))
	}
	r.alive()
}
