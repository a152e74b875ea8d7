//go:build chaos && linux

package chaos

import (
	"testing"
	"time"

	"github.com/atolldb/atoll/e2e/chaos/machine"
)

// scenario is one kind of fault.
type scenario struct {
	name string
	// needs of the machine; without them the scenario is NOT RUN.
	needs []machine.Ability
	// regions, one ("eu") unless said otherwise, of three nodes each.
	regions []string
	faults  func(r *rig)
}

var scenarios = []scenario{
	{name: "kill-one", faults: killOne},
	{name: "rolling-restart", faults: rollingRestart},
	{name: "kill-all", faults: killAll},
	{name: "pause", faults: pauseOne},
	{name: "isolate", faults: isolate},
	{name: "one-way", faults: oneWay},
	{name: "bridge", faults: bridge},
	{name: "flaky", needs: cutting, faults: flaky},
	{name: "wipe", faults: wipe},
	{name: "put-back", faults: putBack},
	{name: "full-disk", needs: []machine.Ability{machine.Disks}, faults: fullDisk},
	{name: "full-disks", needs: []machine.Ability{machine.Disks}, faults: fullDisks},
	{name: "sync-error", needs: []machine.Ability{machine.Injecting}, faults: syncError},
	{name: "flip-stopped", faults: flipStopped},
	{name: "flip-running", faults: flipRunning},
	{name: "power-cut", needs: []machine.Ability{machine.Cloning}, faults: powerCut},
	{name: "power-cut-all", needs: []machine.Ability{machine.Cloning}, faults: powerCutAll},
	{name: "slow-disk", needs: []machine.Ability{machine.Disks, machine.Throttling}, faults: slowDisk},
	{name: "regions-cut", needs: cutting, regions: []string{"eu", "us"}, faults: cutRegions},
	{name: "jetstream-faults", regions: []string{"eu", "us"}, faults: jetstreamFaults},
}

var cutting = []machine.Ability{machine.Cutting}

// parallel runs a test beside others, unless latencies are held to bars.
func parallel(t *testing.T) {
	if !*barsFlag {
		t.Parallel()
	}
}

func TestChaos(t *testing.T) {
	parallel(t)
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			parallel(t)
			for _, a := range s.needs {
				if why := shared.missing[a]; why != nil {
					shared.report.add(&result{Scenario: s.name, NotRun: string(a) + ": " + why.Error()})
					t.Skipf("NOT RUN: %s: %v", a, why)
				}
			}
			regions := s.regions
			if regions == nil {
				regions = []string{"eu"}
			}
			r := newRig(t, s.name, regions, 3)
			r.work()
			for range *timesFlag {
				s.faults(r)
			}
			r.finish()
		})
	}
}

// readyTime bounds how long a restarted node takes until it serves.
const readyTime = 30 * time.Second

// back waits for nodes that were started, and says how long they took.
func (r *rig) back(nodes ...*node) {
	r.t.Helper()
	for _, n := range nodes {
		if took, err := r.ready(n, readyTime); err != nil {
			r.unmet("ready", "%s does not serve %v after its start: %v", n.ID, readyTime, err)
		} else {
			r.t.Logf("%5.1f s  %s serves after %v", time.Since(r.began).Seconds(), n.ID, took.Round(10*time.Millisecond))
		}
	}
}
