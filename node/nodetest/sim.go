package nodetest

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/atolldb/atoll/geo/memlog"
	"github.com/atolldb/atoll/node/peer/memnet"
)

// Report of one simulated history.
type Report struct {
	Seed          uint64
	Simulated     time.Duration
	Writes, Acked int
	Unknown, Gets int
	SiblingReads  int
	Faults        string
	// Conceded losses; see World.lost.
	Conceded  int
	Problems  []string
	Converged time.Duration // after the last fault
}

func (r Report) String() string {
	return fmt.Sprintf("seed %d: %v simulated, %d writes (%d acknowledged, %d unknown), %d reads (%d with siblings), converged in %v; faults: %s",
		r.Seed, r.Simulated.Round(time.Second), r.Writes, r.Acked, r.Unknown, r.Gets, r.SiblingReads, r.Converged.Round(time.Millisecond), r.Faults)
}

// Simulate runs one history of the given length. It must be called inside a
// testing/synctest bubble.
func Simulate(t testing.TB, seed uint64, shape Shape, length time.Duration, log hclog.Logger) Report {
	w := New(t, seed, shape, log)
	defer w.Close()
	keys := make([]string, 3+w.rng.IntN(8))
	for i := range keys {
		keys[i] = fmt.Sprint("k", i)
	}
	ctx, stop := context.WithTimeout(context.Background(), length)
	defer stop()
	var work sync.WaitGroup
	for i := range 3 * shape.Regions {
		c := w.client(i, i%shape.Regions, keys)
		work.Go(func() { c.run(ctx) })
	}
	work.Go(func() { w.chaos(ctx) })
	work.Wait()

	w.heal()
	calm := time.Now()
	time.Sleep(15 * time.Second) // a pass of the scrub: silent losses show
	for time.Since(calm) < 10*time.Minute && w.converged() != "" {
		time.Sleep(time.Second)
	}
	converged := time.Since(calm)
	for time.Since(calm) < 15*time.Minute && w.leftovers() != "" {
		time.Sleep(time.Second)
	}
	r := Report{Seed: seed, Converged: converged, Faults: w.faults.String()}
	r.Problems = w.verify(keys)
	if left := w.leftovers(); left != "" {
		r.Problems = append(r.Problems, "I9: "+left)
	}
	r.Simulated = time.Since(w.start)
	r.Writes, r.Acked, r.Unknown = w.hist.counts()
	r.Gets, r.SiblingReads = w.hist.gets, w.hist.siblings
	r.Conceded = w.hist.conceded
	return r
}

// heal ends all faults and starts whoever is down.
func (w *World) heal() {
	w.fabric.HealAll()
	w.fabric.SetAll(memnet.Faults{MaxDelay: 2 * time.Millisecond})
	w.cloud.SetFaults(memlog.Faults{DelayMin: time.Millisecond, DelayMax: 5 * time.Millisecond})
	for a := range w.tops {
		for b := range w.tops {
			if a != b {
				w.cloud.Cut(w.name(a), w.name(b), false)
			}
		}
	}
	for _, s := range w.stores {
		s.SetDown(false)
	}
	for _, m := range w.all() {
		w.Start(m)
	}
}
