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

// noFailures says that no operation that began in a span of time failed.
func (r *rig) noFailures(what string, from, to time.Time) {
	r.t.Helper()
	failed := r.traffic.Tally.FailedBetween(from, to)
	switch late := r.metronome.worst(from, to); {
	case len(failed) == 0:
		r.met("available")
	case late > 0:
		r.note("%s operations failed (%s), but this machine is too busy to judge: the test itself was %v late", what, listed(failed), late)
	default:
		r.unmet("available", "%s operations failed: %s", what, listed(failed))
	}
}

// rollingRestart stops each node in order and starts it again: clients notice
// nothing.
func rollingRestart(r *rig) {
	began := time.Now()
	for _, n := range r.Nodes {
		r.fault("restart")
		r.down[n] = true
		r.must(n.Stop(30 * time.Second))
		r.start(n)
		r.back(n)
	}
	r.pause(time.Second)
	r.noFailures("during a rolling restart", began, time.Now())
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
