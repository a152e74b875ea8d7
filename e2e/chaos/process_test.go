//go:build chaos && linux

package chaos

import (
	"time"

	"github.com/atolldb/atoll/e2e/chaos/deployment"
)

type node = deployment.Node

// killOne: kill -9 of two nodes, one after the other, each while it works.
func killOne(r *rig) {
	for range 2 {
		n := r.pick("eu")
		r.fault("kill -9")
		r.kill(n)
		killed := time.Now()
		r.pause(4 * time.Second)
		r.noFailures("after a kill", killed.Add(3*time.Second), time.Now())
		r.start(n)
		r.back(n)
	}
}

// noFailures says that no operation failed in a span of time.
func (r *rig) noFailures(what string, from, to time.Time) {
	r.t.Helper()
	if failed := r.traffic.Tally.FailedBetween(from, to); len(failed) > 0 {
		r.unmet("available", "%s operations failed: %s", what, listed(failed))
	} else {
		r.met("available")
	}
}

// killAll: kill -9 of all nodes at once.
func killAll(r *rig) {
	r.fault("kill -9 of all")
	for _, n := range r.Nodes {
		r.kill(n)
	}
	for _, n := range r.Nodes {
		r.start(n)
	}
	r.back(r.Nodes...)
	r.pause(time.Second)
}
