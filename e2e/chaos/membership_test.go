//go:build chaos && linux

package chaos

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/atolldb/atoll/e2e/chaos/traffic"
	adminv1 "github.com/atolldb/atoll/proto/atoll/admin/v1"
)

// The bars of a change of members under load, beside: no operation fails.
const (
	maxSlower  = 1.5  // p99 against before
	maxExtra   = 1.05 // bytes received against those of the least copies
	changeTime = 5 * time.Minute
	phaseTime  = 10 * time.Second
)

// TestMembershipUnderLoad: a fourth and a fifth node join a region that has
// -chaos.records records and is under a steady load; then one is drained.
func TestMembershipUnderLoad(t *testing.T) {
	parallel(t)
	r, s, stop := loaded(t, "membership-under-load", 3)
	n4, n5 := r.newcomer("eu"), r.newcomer("eu")
	r.back(n4, n5)
	s.Begin(phaseBefore)
	r.pause(phaseTime)

	r.change(s, "join of two", "node", "join", n4.ID, n5.ID)
	s.Begin("between")
	r.pause(2 * time.Second)
	r.balanced("eu", 5)

	n := r.Region("eu")[1]
	r.change(s, "drain of one", "node", "drain", n.ID)
	s.Begin("leaving")
	r.leaves(n)
	s.Begin("after")
	r.pause(phaseTime / 2)
	r.balanced("eu", 4)
	stop()
	r.phases(s)
	r.finish()
}

// TestReplaceUnderLoad: a node is killed, and another takes its place.
func TestReplaceUnderLoad(t *testing.T) {
	parallel(t)
	r, s, stop := loaded(t, "replace-under-load", 4)
	s.Begin(phaseBefore)
	r.pause(phaseTime)
	dead := r.Region("eu")[3]
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

const (
	phaseBefore = "before"
	phaseKilled = "killed" // its first seconds are those of detection
)

// loaded makes a region with records under a steady load, and some clients
// that add to sets beside it.
func loaded(t *testing.T, name string, nodes int) (r *rig, s *traffic.Steady, stop func()) {
	r = newRig(t, name, []string{"eu"}, nodes)
	b := traffic.Load(r.ctx, r.history, r.clients["eu"], 1000, *recordsFlag, 300)
	r.note("%d records loaded, %d failed", b.Len(), b.Tally.Failed())
	r.rate = 50
	r.work()
	s = traffic.NewSteady(traffic.SteadyConfig{
		Client: r.clients["eu"], Rate: *steadyFlag, Keys: 2000, Size: 300, Ballast: b, As: 2000,
		Seed: *seedFlag, History: r.history,
	})
	if *paceFlag != "" {
		_, err := r.atoll(30*time.Second, "eu", "pace", "--bytes", *paceFlag)
		r.must(err)
	}
	s.Begin("warming up")
	stop = r.steady(s)
	t.Cleanup(stop)
	return r, s, stop
}

// phases checks what the steady load met with.
func (r *rig) phases(s *traffic.Steady) {
	r.t.Helper()
	var before time.Duration
	for _, p := range s.Phases() {
		r.note("%v", p)
		if p.Name == phaseBefore {
			before = p.Latency(99)
		}
		if before == 0 || p.Name == phaseKilled {
			continue
		}
		if p.Failed > 0 {
			r.unmet("change-available", "%d operations failed in phase %q: %s", p.Failed, p.Name, listed(p.Reasons))
		} else {
			r.met("change-available")
		}
		slower := float64(p.Latency(99)) / float64(before)
		if *barsFlag && slower > maxSlower {
			r.unmet("change-latency", "p99 of %v in phase %q, %v before: %.2f times", p.Latency(99), p.Name, before, slower)
		}
	}
}

// steady runs a load until the function is called; that waits for its end.
func (r *rig) steady(s *traffic.Steady) (stop func()) {
	done := make(chan struct{})
	ctx, cancel := context.WithCancel(r.ctx)
	go func() {
		s.Run(ctx)
		close(done)
	}()
	return func() {
		cancel()
		<-done
	}
}

var leastCopies = regexp.MustCompile(`copies / least possible: .* = ([0-9.]+)`)

// change lets an operator change the region, in a phase of its own, and checks
// what it cost.
func (r *rig) change(s *traffic.Steady, what string, args ...string) *adminv1.Task {
	r.t.Helper()
	r.fault(what)
	if s != nil {
		s.Begin(what)
	}
	out, err := r.atoll(time.Minute, "eu", append(args, "--yes")...)
	r.must(err)
	began := time.Now()
	task, err := r.awaitTask("eu", changeTime)
	if err != nil {
		r.unmet("change-ends", "%s: %v", what, err)
		return nil
	}
	r.met("change-ends")
	copies := 1.0
	if m := leastCopies.FindStringSubmatch(out); m != nil {
		copies, err = strconv.ParseFloat(m[1], 64)
		r.must(err)
	}
	bytes := float64(task.GetReceived()) / float64(max(task.GetSize(), 1))
	r.note("%s took %v: %d moves, %d copies of %d bytes, %d bytes received: %.3f of the least copies, %.3f of their bytes",
		what, time.Since(began).Round(100*time.Millisecond), task.GetMoves(), task.GetCopies(), task.GetSize(), task.GetReceived(), copies, bytes)
	if copies*bytes > maxExtra {
		r.unmet("change-bytes", "%s moved %.3f times the least bytes", what, copies*bytes)
	} else {
		r.met("change-bytes")
	}
	return task
}

// leaves says that a node is no member any more, and stops it.
func (r *rig) leaves(n *node) {
	r.t.Helper()
	m, err := r.member(r.ctx, n.Region, n.ID)
	r.must(err)
	if m != nil {
		r.unmet("change-leaves", "%s is still a member, in state %v", n.ID, m.GetState())
	}
	r.down[n] = true
	r.must(n.Stop(30 * time.Second))
	r.Forget(n)
}

// balanced says that all nodes own the same number of partitions, but one.
func (r *rig) balanced(region string, members int) {
	r.t.Helper()
	_, all, err := r.Status(r.ctx, r.Region(region)[0])
	r.must(err)
	least, most, text := ^uint32(0), uint32(0), ""
	for _, n := range all.GetNodes() {
		owned := n.GetPartitionsOwned()
		least, most = min(least, owned), max(most, owned)
		text += fmt.Sprintf(" %s %d", n.GetId(), owned)
	}
	r.note("partitions owned:%s", text)
	if len(all.GetNodes()) != members || most-least > 1 {
		r.unmet("change-balance", "%d members, who own%s", len(all.GetNodes()), text)
	} else {
		r.met("change-balance")
	}
}
