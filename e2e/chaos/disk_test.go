//go:build chaos && linux

package chaos

import (
	"strings"
	"time"

	"github.com/atolldb/atoll/e2e/chaos/machine"
	"github.com/atolldb/atoll/e2e/program"
)

// wipe: a node is killed, loses its disk, and returns under the same name.
func wipe(r *rig) {
	n := r.pick("eu")
	r.fault("wiped disk")
	r.kill(n)
	r.pause(time.Second)
	r.must(n.Wipe())
	r.start(n)
	r.back(n)
	r.pause(2 * time.Second)
}

// fullDisks fills the disks of all nodes, so that no quorum has room: writes
// are refused early, by name, reads go on, nothing crashes, and when there is
// room again writes are taken.
func fullDisks(r *rig) {
	for _, n := range r.Nodes {
		r.fault("full disk")
		r.must(n.Disk.Fill(24 << 20)) // less than four memtables
	}
	r.pause(3 * time.Second)
	if r.traffic.Tally.Reasons()["DISK_FULL"] == 0 {
		r.unmet("disk-full-refused", "no write was refused for want of room; failures: %s", listed(r.traffic.Tally.Reasons()))
	} else {
		r.met("disk-full-refused")
	}
	full := time.Now()
	r.pause(2 * time.Second)
	failed := r.traffic.Tally.FailedBetween(full, time.Now())
	delete(failed, "DISK_FULL")
	if len(failed) > 0 {
		r.unmet("disk-full-honest", "with full disks operations fail with other reasons, too: %s", listed(failed))
	} else {
		r.met("disk-full-honest")
	}
	r.alive()
	// A restart with a full disk: it must not end in a loop of crashes.
	n := r.pick("eu")
	r.fault("kill -9 with a full disk")
	r.kill(n)
	r.start(n)
	r.back(n)
	for _, n := range r.Nodes {
		r.must(n.Disk.Drain())
	}
	drained := time.Now()
	if err := r.writes(60 * time.Second); err != nil {
		r.unmet("disk-full-recovers", "writes fail 60 s after there is room again: %v", err)
	} else {
		r.met("disk-full-recovers")
		r.note("writes are taken %v after there is room again", time.Since(drained).Round(10*time.Millisecond))
	}
	r.alive()
}

// fullDisk fills the disk of one node, which must not keep the others from
// working.
func fullDisk(r *rig) {
	n := r.pick("eu")
	r.fault("full disk")
	r.must(n.Disk.Fill(24 << 20))
	full := time.Now()
	r.pause(5 * time.Second)
	r.noFailures("with one full disk", full.Add(3*time.Second), time.Now())
	r.alive()
	r.must(n.Disk.Drain())
	r.pause(time.Second)
}

// syncError makes every sync of one node fail: its process must end rather
// than go on, and comes back with nothing lost.
func syncError(r *rig) {
	n := r.pick("eu")
	was, _, err := r.Status(r.ctx, n)
	r.must(err)
	r.down[n] = true
	trace, err := machine.Inject(n.Pid(), machine.SyncCalls, "EIO", 1)
	r.must(err)
	r.fault("sync error")
	select {
	case <-n.Exited():
		r.met("sync-error-ends")
		r.note("%s ended; it said: %s", n.ID, lastError(n))
	case <-time.After(15 * time.Second):
		r.unmet("sync-error-ends", "%s goes on 15 s after its syncs began to fail", n.ID)
	}
	trace.Detach()
	r.kill(n)
	r.pause(time.Second)
	r.start(n)
	r.back(n)
	now, _, err := r.Status(r.ctx, n)
	r.must(err)
	if now.GetActor() == was.GetActor() {
		r.unmet("sync-error-actor", "%s mints as the actor that lost a sync", n.ID)
	} else {
		r.met("sync-error-actor")
	}
}

func lastError(n *node) string {
	lines := strings.Split(n.SinceStart(), "\n")
	for i := len(lines) - 1; i >= 0; i-- {
		if strings.Contains(lines[i], "atoll:") || strings.Contains(lines[i], "[ERROR]") {
			return lines[i]
		}
	}
	return program.Tail(n.SinceStart(), 1)
}

// powerCut takes the power from one node: what its disk had not been told to
// keep is gone.
func powerCut(r *rig) { r.cutPower(r.pick("eu")) }

// powerCutAll takes it from all at the same instant.
func powerCutAll(r *rig) { r.cutPower(r.Nodes...) }

func (r *rig) cutPower(nodes ...*node) {
	r.t.Helper()
	r.pause(time.Duration(r.rng.IntN(int(2 * time.Second))))
	// They all stand first, so that nobody acknowledges anything after the instant:
	// what one syncs when its disk was cloned is not on the clone, and if it still
	// answers, that is lost by the test and not by the node.
	for _, n := range nodes {
		r.must(n.Pause())
	}
	for _, n := range nodes {
		r.must(n.Disk.Freeze())
		r.fault("power cut")
	}
	for _, n := range nodes {
		if stands, err := machine.Stands(n.Pid()); err != nil || !stands {
			r.t.Fatalf("%s went on after its power was cut: %v", n.ID, err)
		}
	}
	for _, n := range nodes {
		r.kill(n)
		r.must(n.Disk.Thaw())
	}
	for _, n := range nodes {
		r.start(n)
	}
	r.back(nodes...)
	r.pause(time.Second)
}

// slowDisk makes one node's disk take 10 writes a second: the other two carry
// the region.
func slowDisk(r *rig) {
	n := r.pick("eu")
	undo, err := shared.run.Throttle(r.prefix+"-"+n.ID, n.Pid(), n.Disk, 10)
	r.must(err)
	r.fault("slow disk")
	slow := time.Now()
	r.pause(6 * time.Second)
	r.noFailures("with one slow disk", slow.Add(3*time.Second), time.Now())
	r.must(undo())
	r.pause(2 * time.Second)
}
