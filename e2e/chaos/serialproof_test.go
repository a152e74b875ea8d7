//go:build chaos && linux

package chaos

import (
	"flag"
	"testing"
	"time"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/e2e/chaos/machine"
)

var proofFlag = flag.Int("chaos.proof", 0, "operations at serial levels that serial-proof has porcupine judge, at least; 0 does not run it")

const (
	// proofKeys are worked on at a time, at each level, by so many clients each.
	proofKeys, proofClients = 10, 4
	proofEvery              = time.Millisecond
)

// TestSerialProof is TestSerial and TestSerialRegions with as many operations as two
// regions of real processes do in minutes: clients of one region at LOCAL_SERIAL, those
// of both at SERIAL, under one fault after the other, until there are enough. Keys are
// many and their histories short, so that the checker comes to an end.
func TestSerialProof(t *testing.T) {
	if *proofFlag == 0 {
		t.Skip("NOT RUN: takes minutes (make serial-proof-processes); TestSerial and TestSerialRegions are a small part of it")
	}
	r := newRig(t, "serial-proof", []string{"eu", "us"}, 3)
	var local, homed []*decider
	for place := range proofKeys {
		for i := range proofClients {
			local = append(local, &decider{region: "eu", places: []int{place}, every: proofEvery})
			homed = append(homed, &decider{region: r.Regions()[i%2], places: []int{place}, every: proofEvery})
		}
	}
	all := []*decisions{r.decideBy(client.LocalSerial, "", local), r.decideBy(client.Serial, homedBucket, homed)}
	told := func() (n int) {
		for _, b := range all {
			b.mu.Lock()
			n += b.told
			b.mu.Unlock()
		}
		return n
	}
	for round := 0; told() < *proofFlag && !t.Failed(); round++ {
		r.killBriefly("eu")
		isolate(r)
		r.cutRegions()
		r.jump("eu")
		if round%2 == 0 {
			n := r.newcomer("eu")
			r.back(n)
			r.change(nil, "join of one", "node", "join", n.ID)
			r.killBriefly("eu")
			r.change(nil, "drain of one", "node", "drain", n.ID)
			r.leaves(n)
		} else {
			r.freeze("eu")
			r.killBriefly("us")
		}
		t.Logf("%5.1f s  %d operations", time.Since(r.began).Seconds(), told())
	}
	r.judgeSerial(all...)
}

func (r *rig) cutRegions() {
	r.apart()
	r.pause(4 * time.Second)
	r.must(r.net.Heal())
}

// jump has the clock of a process be wrong for some seconds, ahead or behind.
func (r *rig) jump(region string) {
	if shared.missing[machine.Skewing] != nil {
		return
	}
	n := r.pick(region)
	by := 3 * time.Second
	if r.rng.IntN(2) == 0 {
		by = -by
	}
	r.fault("clock jumps")
	r.must(machine.SkewClock(n.Pid(), by))
	r.pause(4 * time.Second)
	r.must(machine.SkewClock(n.Pid(), 0))
	r.pause(2 * time.Second)
}
