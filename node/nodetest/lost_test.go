package nodetest

import (
	"context"
	"flag"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/session"
	"github.com/atolldb/atoll/geo/failover"
	"github.com/atolldb/atoll/geo/memlog"
	"github.com/atolldb/atoll/geo/regionmap"
	"github.com/atolldb/atoll/node/api"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/quorum"
	"github.com/atolldb/atoll/node/regions"
)

var lostN = flag.Int("lost.n", seeds(8), "number of seeds in which a region is lost and comes back")

// Three regions; the third one dies in the middle of its fan-out: the first has some
// of what it wrote, the second has not, and some was told of and reached nobody. What
// a failover prints is what is really missing; when it has ended the survivors are
// equal in what they have of the lost region; and when the region has come back what
// came late is what was printed, and everything is equal.
func TestRegionLost(t *testing.T) {
	var missing atomic.Uint64
	eachSeed(t, 1, *lostN, func(t *testing.T, seed uint64) {
		synctest.Test(t, func(t *testing.T) {
			w := New(t, seed, Shape{Regions: 3, Nodes: 3, Partitions: 8, Settled: true, Beat: time.Hour}, hclog.NewNullLogger())
			defer w.Close()
			missing.Add(w.loseRegion(t))
		})
	})
	if missing.Load() == 0 {
		t.Error("nothing was ever missing")
	}
}

// toil has clients of some regions work.
func (w *World) toil(length time.Duration, in ...int) {
	ctx, stop := context.WithTimeout(context.Background(), length)
	defer stop()
	keys := make([]string, 12)
	for i := range keys {
		keys[i] = fmt.Sprint("k", i)
	}
	var work sync.WaitGroup
	for _, r := range in {
		w.probers++
		alone := w.solo(1000+w.probers, r)
		work.Go(func() { w.client(r, r, keys).run(ctx) })
		work.Go(func() { alone.run(ctx) })
	}
	work.Wait()
}

func same(a, b map[string]bool) bool { return len(less(a, b)) == 0 && len(less(b, a)) == 0 }

func (w *World) ops(region int) api.Regions {
	for _, m := range w.all() {
		if up := m.running.Load(); m.region == region && up != nil {
			return up.node.Operations().Regions
		}
	}
	return nil
}

// carryOut begins an operation and waits for its end.
func (w *World) carryOut(t *testing.T, a regions.Ask) failover.Operation {
	t.Helper()
	return w.carryOutBy(t, 0, a)
}

// carryOutBy asks a node of region by.
func (w *World) carryOutBy(t *testing.T, by int, a regions.Ask) failover.Operation {
	t.Helper()
	var err error
	for range 60 {
		if _, err = w.ops(by).Begin(t.Context(), a); err == nil {
			break
		}
		time.Sleep(time.Second)
	}
	if err != nil {
		t.Fatalf("begin %s: %v", a.Kind, err)
	}
	// Whoever drives is lost at once, half of the time: another node goes on.
	if w.rng.IntN(2) == 0 {
		for _, m := range w.all() {
			if up := m.running.Load(); m.region == by && up != nil && m.ear.leads.Load() {
				w.Crash(m)
				defer w.Start(m)
				break
			}
		}
	}
	var v api.RegionsView
	for range 600 {
		if v, err = w.ops(by).View(t.Context()); err == nil && v.Operation != nil && v.Operation.Kind == a.Kind && v.Operation.Ended {
			return *v.Operation
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatalf("%s has not ended: %+v, waits for %q, %v", a.Kind, v.Operation, v.Waits, err)
	return failover.Operation{}
}

func (w *World) loseRegion(t *testing.T) uint64 {
	const a, b, c = 0, 1, 2
	time.Sleep(15 * time.Second)
	w.toil(4*time.Second, a, b, c)
	time.Sleep(5 * time.Second)

	// b is cut off from both: only a gets what c writes.
	for _, other := range []int{a, c} {
		w.fabric.Partition(w.ids(b), w.ids(other))
		w.cloud.Cut(w.name(other), w.name(b), true)
		w.cloud.Cut(w.name(b), w.name(other), true)
	}
	w.toil(2*time.Second, a, b, c)
	// And then nobody does, although a hears of it.
	w.fabric.Partition(w.ids(a), w.ids(c))
	w.cloud.SetFaults(memlog.Faults{Lose: 1, DelayMin: time.Millisecond, DelayMax: 5 * time.Millisecond})
	w.toil(time.Second, c)
	_, token, e := w.say(w.all()[6], coord.Put{Key: []byte("session"), Value: []byte("x"), Level: quorum.LocalQuorum}, session.Begin())
	if e != nil {
		t.Fatal(e)
	}
	for i := range 5 { // of another bucket
		if _, _, e := w.say(w.all()[6], coord.Put{Bucket: homedBucket, Key: fmt.Appendf(nil, "plain %d", i), Value: []byte("x"), Level: quorum.LocalQuorum}, session.Begin()); e != nil {
			t.Fatal(e)
		}
	}
	time.Sleep(1200 * time.Millisecond) // it tells all of its clocks
	had, wrote := w.dotsOf(c, a, b), w.dotsOf(c, c)
	truth := less(wrote, had)
	for _, m := range w.all() {
		if m.region == c {
			w.Crash(m)
		}
	}
	w.fabric.HealAll()
	w.cloud.SetFaults(memlog.Faults{DelayMin: time.Millisecond, DelayMax: 5 * time.Millisecond})
	// Its log is lost with it, for as long.
	w.cloud.Cut(w.name(c), w.name(a), true)
	w.cloud.Cut(w.name(a), w.name(c), true)
	w.cloud.Cut(w.name(a), w.name(b), false)
	w.cloud.Cut(w.name(b), w.name(a), false)

	o := w.carryOut(t, regions.Ask{Kind: failover.Failover, Region: w.name(c)})
	if got := listed(o.Missing); !o.Missing.Whole() || !same(got, truth) {
		t.Errorf("printed as missing: %d; truly missing: %d; printed and there: %v; not printed: %v", len(got), len(truth), less(got, truth), less(truth, got))
	}
	want := w.dotsOf(c, a, b) // whoever drove is back by now
	if !same(want, listed(o.Had)) {
		t.Errorf("survivors have %d of the lost region's writes, and note %d", len(want), len(listed(o.Had)))
	}
	for _, m := range w.all() {
		if m.region == c {
			continue
		}
		r := m.running.Load().node.Replica()
		for _, p := range r.Owned() {
			mine := map[string]bool{}
			for _, run := range r.Clock(p).All() {
				for n := run.Lo; n <= run.Hi; n++ {
					mine[fmt.Sprint(p, crdt.Dot{Actor: run.Actor, N: n})] = true
				}
			}
			for d := range want {
				if strings.HasPrefix(d, fmt.Sprint(p, " ")) && !mine[d] {
					t.Errorf("not levelled: %s lacks %s, which another survivor has", m.id, d)
				}
			}
		}
	}

	time.Sleep(time.Second)
	look := coord.Put{Key: []byte("session"), Level: quorum.LocalOne}
	if _, _, err := w.say(w.all()[0], look, token); err == nil || err.Code != coord.CodeSessionLost {
		t.Errorf("a session that knows what is missing is told %v", err)
	}

	// Levels of all regions go on, and the lost one takes nothing when it is back,
	// until it is counted again.
	w.toil(2*time.Second, a, b)
	if err := w.putAt(a, "far", quorum.EachQuorum); err != nil {
		t.Errorf("EACH_QUORUM after the failover: %v", err)
	}
	for _, other := range []int{a, b} {
		w.cloud.Cut(w.name(other), w.name(c), false)
		w.cloud.Cut(w.name(c), w.name(other), false)
	}
	for _, m := range w.all() {
		w.Start(m)
	}
	time.Sleep(15 * time.Second)
	if err := w.putAt(c, "near", quorum.LocalQuorum); err == nil || err.Code != coord.CodeRegionFenced || err.Outcome != coord.NotApplied {
		t.Errorf("a fenced region answers a write with %v", err)
	}
	o = w.carryOut(t, regions.Ask{Kind: failover.Failback, Region: w.name(c)})
	if got := listed(o.Missing); !o.Missing.Whole() || !same(got, truth) {
		t.Errorf("came late: %d; printed before: %d", len(got), len(truth))
	}
	if want := []failover.BucketWrites{{Bucket: coord.DefaultBucket, Writes: uint64(len(truth) - 5)}, {Bucket: homedBucket, Writes: 5}}; !slices.Equal(o.Missing.Buckets, want) {
		t.Errorf("came late by bucket: %v, not %v", o.Missing.Buckets, want)
	}
	time.Sleep(2 * time.Second)
	for _, m := range w.all() {
		if k := m.running.Load().node.RegionMap(); k.Contested || k.Map.State(w.name(c)) != regionmap.Active {
			t.Errorf("%s knows that %s is %s, contested: %v", m.id, w.name(c), k.Map.State(w.name(c)), k.Contested)
		}
	}
	for _, r := range []int{a, b, c} {
		if err := w.putAt(r, "all", quorum.EachQuorum); err != nil {
			t.Errorf("EACH_QUORUM at %s after the failback: %v", w.name(r), err)
		}
	}
	if _, _, err := w.say(w.all()[0], look, token); err != nil {
		t.Errorf("a session that knows what came back is told %v", err)
	}
	w.toil(2*time.Second, a, b, c)
	for began := time.Now(); w.converged() != "" && time.Since(began) < 3*time.Minute; {
		time.Sleep(time.Second)
	}
	keys := w.hist.soloKeys()
	for i := range 12 {
		keys = append(keys, fmt.Sprint("k", i))
	}
	for _, p := range w.verify(keys) {
		t.Error(p)
	}
	return uint64(len(truth))
}
