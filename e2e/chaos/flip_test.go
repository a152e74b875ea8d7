//go:build chaos && linux

package chaos

import (
	"errors"
	"time"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/e2e/chaos/machine"
	"github.com/atolldb/atoll/e2e/chaos/traffic"
)

// fileKinds are the files that a bit is flipped in.
var fileKinds = []struct{ name, pattern string }{
	{"sst", "*.sst"},
	{"vlog", "*.vlog"},
	{"memtable log", "*.mem"},
	{"manifest", "MANIFEST"},
	{"format", "FORMAT"},
	{"discard", "DISCARD"},
	{"key registry", "KEYREGISTRY"},
	{"nats block", "*.blk"},
}

// settleTime bounds how long a node takes to be whole again after damage.
const settleTime = 20 * time.Second

// refillTime bounds how long a node takes until it serves that has to fetch
// everything again: what the ballast takes at the slowest rate of repair, 4 MiB a
// second, to which it goes down while clients feel it, comes on top.
const refillTime = readyTime + 30*time.Second

// ballast fills some tables of every node, and is read after each fault.
func (r *rig) ballast() *traffic.Ballast {
	r.t.Helper()
	b := traffic.Load(r.ctx, r.history, r.clients["eu"], 1000, 8000, 3000)
	r.note("%d values of 3 KB loaded, %d failed", b.Len(), b.Tally.Failed())
	return b
}

// scan reads the ballast, with one of three nodes damaged: no read is wrong,
// and none fails.
func (r *rig) scan(name string, b *traffic.Ballast) {
	r.t.Helper()
	if failed := b.Scan(r.ctx, "eu", r.clients["eu"], client.LocalQuorum); len(failed) > 0 {
		r.unmet(name+" readable", "of %d reads at LOCAL_QUORUM some failed: %s", b.Len(), listed(failed))
	} else {
		r.met(name + " readable")
	}
}

// flipStopped flips a bit in each kind of file of a node that was killed, one
// after the other, and starts it.
func flipStopped(r *rig) {
	b := r.ballast()
	for _, k := range fileKinds {
		n := r.pick("eu")
		r.kill(n)
		flip, err := machine.FlipBit(n.DataDir(), k.pattern, r.rng)
		if errors.Is(err, machine.ErrNothing) {
			r.note("no %s of %s to flip a bit in", k.name, n.ID)
			r.start(n)
			r.back(n)
			continue
		}
		r.must(err)
		r.fault("bit flip in a stopped node's " + k.name)
		r.t.Logf("        %s: %v", n.ID, flip)
		r.start(n)
		r.healed("flip-stopped "+k.name, n)
		r.scan("flip-stopped "+k.name, b)
	}
}

// flipRunning flips a bit in a node's files while it runs. It need not notice
// before it reads them again; then it is killed and started.
func flipRunning(r *rig) {
	b := r.ballast()
	for _, k := range fileKinds {
		n := r.pick("eu")
		flip, err := machine.FlipBit(n.DataDir(), k.pattern, r.rng)
		if errors.Is(err, machine.ErrNothing) {
			r.note("no %s of %s to flip a bit in", k.name, n.ID)
			continue
		}
		r.must(err)
		r.fault("bit flip in a running node's " + k.name)
		r.t.Logf("        %s: %v", n.ID, flip)
		r.scan("flip-running "+k.name, b)
		if n.Running() {
			r.kill(n)
		} else {
			r.note("%s ended when its %s was damaged; it said: %s", n.ID, k.name, lastError(n))
		}
		delete(r.down, n)
		r.must(n.Start())
		r.healed("flip-running "+k.name, n)
	}
}

// healed waits until a damaged node serves and is equal to the others, without
// a hand from outside. If that fails, an operator's hand: its disk is wiped, so
// that the next fault finds a whole region, and nothing may be lost by that.
func (r *rig) healed(name string, n *node) {
	r.t.Helper()
	_, err := r.ready(n, refillTime)
	if err == nil {
		if err = r.settleUnderLoad(settleTime); err == nil {
			r.met(name)
			return
		}
	}
	r.unmet(name, "%s does not heal by itself: %v", n.ID, err)
	r.kill(n)
	r.must(n.Wipe())
	r.start(n)
	r.back(n)
	if err := r.settleUnderLoad(settleTime); err != nil {
		r.unmet(name+" wiped", "%s is not whole %v after it was wiped: %v", n.ID, settleTime, err)
	}
}

// settleUnderLoad stops the clients until the region is whole.
func (r *rig) settleUnderLoad(within time.Duration) error {
	r.t.Helper()
	r.rest()
	defer r.resume()
	return r.settle(within)
}
