package nodetest

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/atolldb/atoll/internal/pause"
	"github.com/atolldb/atoll/node/quorum"
)

// wideLevels are those of clients that write for all regions as well.
var wideLevels = []quorum.Level{quorum.LocalOne, quorum.LocalQuorum, quorum.LocalQuorum, quorum.LocalAll, quorum.Quorum, quorum.EachQuorum}

// SimulateDisasters runs one history in which things happen to whole regions, and
// operators act on them. It must be called inside a testing/synctest bubble.
func SimulateDisasters(t testing.TB, seed uint64, shape Shape, length time.Duration, log hclog.Logger) Report {
	w := New(t, seed, shape, log)
	defer w.Close()
	d := newDisasters(w)
	w.disasters = d
	keys := []string{"k0", "k1", "k2", "k3", "k4", "k5"}
	chance := func(i uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1<<20+i)) }
	d.noise(chance(0))
	ctx, stop := context.WithTimeout(context.Background(), length)
	defer stop()
	d.over = stop
	w.cloud.Observe(d.ferry())
	for _, m := range w.nodes {
		m.back = d.kept
	}
	var with, without sessionBook
	var work sync.WaitGroup
	for r := range w.tops {
		c, s, e := w.client(r, r, keys), w.solo(10+r, r), w.decider(20+r, r)
		c.levels = wideLevels
		for _, run := range []func(context.Context){c.run, s.run, e.run, w.roamer(30+r, true, &with).run} {
			work.Go(func() { run(ctx) })
		}
	}
	watching, unwatch := context.WithCancel(context.Background())
	defer unwatch()
	var watch sync.WaitGroup
	watch.Go(func() { d.watch(watching) })
	for i, run := range []func(context.Context, *rand.Rand){d.strike, d.links, d.operator, d.probe} {
		work.Go(func() {
			// Everything is well for a while, so that there is something to lose.
			if pause.For(ctx, 2*time.Second) {
				run(ctx, chance(1+uint64(i)))
			}
		})
	}
	work.Wait()
	keys = append(append(keys, w.hist.soloKeys()...), sessionKeys(true)...)

	w.heal()
	d.tell("healed")
	calm := time.Now()
	r := Report{Seed: seed}
	problem := func(p string) { r.Problems = append(r.Problems, p) }
	if w.hist.troubled() {
		unwatch()
		watch.Wait()
		r.Problems, r.Story = w.hist.problems, d.story
		return r
	}
	if err := d.restore(context.Background()); err != nil {
		problem("M2: " + err.Error())
	} else if err := d.agreed(); err != nil {
		problem("M2: " + err.Error())
	}
	for region := range w.tops {
		if len(r.Problems) > 0 {
			break
		}
		err := w.putAt(region, "all", quorum.EachQuorum)
		for end := time.Now().Add(10 * time.Second); err != nil && time.Now().Before(end); time.Sleep(time.Second) {
			err = w.putAt(region, "all", quorum.EachQuorum) // links come back
		}
		if err != nil {
			problem("I8: EACH_QUORUM at " + w.name(region) + " when all is well again: " + err.Error())
		}
	}
	unwatch()
	watch.Wait()
	if len(r.Problems) == 0 {
		r.Problems = append(r.Problems, d.settle()...)
	}
	for time.Since(calm) < 10*time.Minute && (w.converged() != "" || w.behind() != "") {
		time.Sleep(time.Second)
	}
	r.Converged = time.Since(calm)
	if w.converged() == "" {
		if left := w.reconciled(); left != "" {
			problem("A1: said to be missing, and is not: " + left)
		}
	}
	if m := w.behind(); m != "" {
		problem("I8: " + m + " answers no read when all is well again")
	}
	var promised []string
	promised, _ = w.judgeSessions(&with, &without)
	r.Problems = append(r.Problems, promised...)
	r.SessionOps, r.SessionBehind = len(with.ops)+with.behind, with.behind
	r.Problems = append(r.Problems, w.verify(keys)...)
	r.Problems = append(r.Problems, d.decided()...)
	r.Problems = append(r.Problems, w.linearizable()...)
	r.Simulated = time.Since(w.start)
	r.Writes, r.Acked, r.Unknown = w.hist.counts()
	r.Gets, r.SiblingReads = w.hist.gets, w.hist.siblings
	r.Replays, r.Doubtful = w.hist.replays, w.hist.doubtful
	r.Serial, r.Homed, r.SerialUnknown = w.serial.counts()
	r.SerialReplays = w.serial.replays
	r.Judged, r.Illegal, r.Undecided = w.serial.judged, w.serial.illegal, w.serial.undecided
	d.mu.Lock()
	d.count["serial writes judged"], d.count["serial writes judged by epoch"] = r.Judged, w.serial.byEpoch
	d.mu.Unlock()
	r.Counts, r.Story, r.Faults = d.count, d.story, countsOf(d.count)
	return r
}
