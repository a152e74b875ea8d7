//go:build chaos && linux

package chaos

import (
	"time"
)

// longPause is longer than every time after which somebody does without a node, or a
// node without others: requests, the lease of who leads changes (10 s), what a node
// serves without news (20 s), and when the others hold it for dead (30 s).
const longPause = 35 * time.Second

// pauseOne: SIGSTOP for longer than every timeout, then SIGCONT: the node
// wakes up in a world that has gone on, with requests in its hands.
func pauseOne(r *rig) {
	n := r.pick("eu")
	r.fault("SIGSTOP")
	r.must(n.Pause())
	paused := time.Now()
	r.pause(max(longPause, *pauseFlag))
	r.noFailures("during a pause", paused.Add(3*time.Second), time.Now())
	r.must(n.Resume())
	r.pause(3 * time.Second)
}

// isolate cuts a node off from all other nodes, both ways; clients still reach
// it, and it must not pretend.
func isolate(r *rig) {
	n := r.pick("eu")
	r.fault("isolated node")
	for _, o := range r.Nodes {
		if o != n {
			r.must(r.net.Cut(n.ID, o.ID))
			r.must(r.net.Cut(o.ID, n.ID))
		}
	}
	r.pause(5 * time.Second)
	r.must(r.net.Heal())
	r.pause(2 * time.Second)
}

// oneWay cuts one direction between a node and all others, then the other one.
func oneWay(r *rig) {
	n := r.pick("eu")
	for _, out := range []bool{true, false} {
		for _, o := range r.Nodes {
			switch {
			case o == n:
			case out:
				r.must(r.net.Cut(n.ID, o.ID))
			default:
				r.must(r.net.Cut(o.ID, n.ID))
			}
		}
		if out {
			r.fault("one-way cut (nothing leaves a node)")
		} else {
			r.fault("one-way cut (nothing reaches a node)")
		}
		r.pause(4 * time.Second)
		r.must(r.net.Heal())
		r.pause(time.Second)
	}
}

// bridge cuts two nodes from each other, while both reach the third.
func bridge(r *rig) {
	a := r.pick("eu")
	b := r.pick("eu")
	for b == a {
		b = r.pick("eu")
	}
	r.fault("cut between two nodes")
	r.must(r.net.Cut(a.ID, b.ID))
	r.must(r.net.Cut(b.ID, a.ID))
	began := time.Now()
	r.pause(5 * time.Second)
	r.noFailures("with a bridge left", began.Add(3*time.Second), time.Now())
	r.must(r.net.Heal())
	r.pause(time.Second)
}

// flaky loses 30 % of the packets between all nodes, both ways.
func flaky(r *rig) {
	r.fault("30 % loss between all nodes")
	for _, a := range r.Nodes {
		for _, b := range r.Nodes {
			if a != b {
				r.must(r.net.Lose(a.ID, b.ID, 30))
			}
		}
	}
	r.pause(6 * time.Second)
	r.must(r.net.Heal())
	r.pause(time.Second)
}

// apart lets no packet pass between the two regions, until the network is healed.
func (r *rig) apart() {
	r.fault("regions cut")
	for _, a := range r.Region("eu") {
		for _, b := range r.Region("us") {
			r.must(r.net.Cut(a.ID, b.ID))
			r.must(r.net.Cut(b.ID, a.ID))
		}
	}
}

// cutRegions cuts two regions from each other, and kills a node of each while
// they are apart: each goes on by itself.
func cutRegions(r *rig) {
	r.apart()
	cut := time.Now()
	r.pause(4 * time.Second)
	r.noFailures("with regions apart", cut, time.Now())
	for _, region := range r.Regions() {
		n := r.pick(region)
		r.fault("kill -9")
		r.kill(n)
		r.start(n)
		r.back(n)
	}
	r.must(r.net.Heal())
	r.pause(2 * time.Second)
}
