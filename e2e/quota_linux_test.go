//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// Who asks a node for an operation needs about as much processor as the node: so a
// process that asks for five times what nodes can do needs nodes that have a part of
// a processor only.

const (
	cpuV1, cpuV2 = "/sys/fs/cgroup/cpu", "/sys/fs/cgroup"
	// quotaPeriod is short beside deadlines: a node stands still for less than that.
	quotaPeriod = 10 * time.Millisecond
)

// limit gives all nodes together that part of one processor until the test ends. It
// needs a control group of its own, and says why it got none.
func (r *region) limit(share float64) error {
	r.t.Helper()
	period := int(quotaPeriod / time.Microsecond)
	quota := int(share * float64(period))
	parent, set := cpuV2, map[string]string{"cpu.max": fmt.Sprintf("%d %d", quota, period)}
	if _, err := os.Stat(filepath.Join(cpuV1, "cpu.cfs_quota_us")); err == nil {
		parent, set = cpuV1, map[string]string{"cpu.cfs_period_us": strconv.Itoa(period), "cpu.cfs_quota_us": strconv.Itoa(quota)}
	}
	group := filepath.Join(parent, "atoll-e2e-"+strconv.Itoa(os.Getpid()))
	if err := os.Mkdir(group, 0o755); err != nil {
		return err
	}
	move := func(to string) (err error) {
		for _, p := range r.procs {
			if p.Running() {
				err = errors.Join(err, os.WriteFile(filepath.Join(to, "cgroup.procs"), []byte(strconv.Itoa(p.Pid())), 0o600))
			}
		}
		return err
	}
	var err error
	for name, value := range set {
		err = errors.Join(err, os.WriteFile(filepath.Join(group, name), []byte(value), 0o600))
	}
	if err == nil {
		err = move(group)
	}
	if err != nil {
		_ = move(parent) // those that were moved
		return errors.Join(err, os.Remove(group))
	}
	r.t.Cleanup(func() {
		_ = move(parent) // a process may be gone
		if err := os.Remove(group); err != nil {
			r.t.Errorf("remove the control group: %v", err)
		}
	})
	return nil
}

// keptTo begins to measure what the nodes take of a processor. The func that it
// returns fails the test if that is more than they were given: a limit that does
// nothing proves nothing.
func (r *region) keptTo(share float64) func() {
	r.t.Helper()
	from := r.usage()
	return func() {
		r.t.Helper()
		now := r.usage()
		used := float64(now.nodes-from.nodes) / float64(now.at.Sub(from.at))
		if r.t.Logf("the nodes used %.3f processors of %.2f", used, share); used > 1.2*share {
			r.t.Errorf("the nodes used %.3f processors, although they were given %.2f", used, share)
		}
	}
}
