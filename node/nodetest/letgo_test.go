package nodetest

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/geo/failover"
	"github.com/atolldb/atoll/geo/memlog"
	"github.com/atolldb/atoll/geo/regionmap"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/peer/memnet"
	"github.com/atolldb/atoll/node/quorum"
	"github.com/atolldb/atoll/node/regions"
)

// A region that comes back loses all its disks while its failback waits for what it had
// not sent. The failback ends by itself, and says exactly what was lost; also when
// another node drives it by then.
func TestFailbackLosesDisks(t *testing.T) {
	lost := 0
	for seed := range uint64(max(*lostN/2, 2)) {
		synctest.Test(t, func(t *testing.T) {
			w := New(t, seed+1, Shape{Regions: 3, Nodes: 3, Partitions: 8, Settled: true, Beat: time.Hour}, hclog.NewNullLogger())
			defer w.Close()
			lost += w.loseDisksInFailback(t)
		})
		if t.Failed() {
			t.Fatalf("seed %d", seed+1)
		}
	}
	if lost == 0 {
		t.Error("nothing was ever lost")
	}
}

func (w *World) loseDisksInFailback(t *testing.T) int {
	const a, b, c = 0, 1, 2
	time.Sleep(15 * time.Second)
	w.toil(3*time.Second, a, b, c)
	time.Sleep(5 * time.Second)
	// Nobody gets what it writes then, and it is lost.
	link := func(cut bool) {
		for _, other := range []int{a, b} {
			w.cloud.Cut(w.name(other), w.name(c), cut)
			w.cloud.Cut(w.name(c), w.name(other), cut)
		}
	}
	w.fabric.Partition(w.ids(c), append(w.ids(a), w.ids(b)...))
	w.cloud.SetFaults(memlog.Faults{Lose: 1, DelayMin: time.Millisecond, DelayMax: 5 * time.Millisecond})
	w.toil(2*time.Second, c)
	w.crashRegion(c)
	link(true)
	w.fabric.HealAll()
	w.cloud.SetFaults(memlog.Faults{DelayMin: time.Millisecond, DelayMax: 5 * time.Millisecond})
	w.carryOut(t, regions.Ask{Kind: failover.Failover, Region: w.name(c)})

	for _, m := range w.all() {
		w.Start(m)
	}
	time.Sleep(5 * time.Second)
	w.fabric.SetAll(memnet.Faults{MaxDelay: 40 * time.Millisecond})
	own := w.dotsOf(c, c)
	var err error
	for range 60 {
		if _, err = w.ops(a).Begin(t.Context(), regions.Ask{Kind: failover.Failback, Region: w.name(c)}); err == nil {
			break
		}
		time.Sleep(time.Second)
	}
	if err != nil {
		t.Fatal(err)
	}
	for w.operation(a) != "failback catching-up" {
		time.Sleep(time.Millisecond)
	}
	w.crashRegion(c)
	w.emptyRegion(c)
	truth := less(own, w.dotsOf(c, a, b))
	var driver *member
	if w.rng.IntN(2) == 0 {
		for _, m := range w.all() {
			if up := m.running.Load(); m.region == a && up != nil && m.ear.leads.Load() {
				driver = m
				w.Crash(m)
				break
			}
		}
	}
	link(false)
	w.makeAnew(t.Context(), c)
	for _, id := range w.ids(c) {
		w.Start(w.member(id))
	}
	time.Sleep(3 * time.Second)
	if driver != nil {
		w.Start(driver)
	}
	var o *failover.Operation
	for range 1200 {
		v, err := w.ops(a).View(t.Context())
		if o = v.Operation; err == nil && o.Ended {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	if !o.Ended || o.Kind != failover.Failback || o.Aborted {
		t.Fatalf("it has not ended: %s", w.operation(a))
	}
	if got := listed(o.Lost); o.Lost.Counted != (len(truth) > 0) || !same(got, truth) {
		t.Errorf("said to be lost: %d; lost: %d; said and there: %v; not said: %v", len(got), len(truth), less(got, truth), less(truth, got))
	}
	time.Sleep(2 * time.Second)
	for _, m := range w.all() {
		if k := m.running.Load().node.RegionMap(); k.Contested || k.Map.State(w.name(c)) != regionmap.Active {
			t.Errorf("%s knows that %s is %s", m.id, w.name(c), k.Map.State(w.name(c)))
		}
	}
	for _, r := range []int{a, b, c} {
		if err := w.putAt(r, "all", quorum.EachQuorum); err != nil {
			t.Errorf("EACH_QUORUM at %s after the failback: %v", w.name(r), err)
		}
	}
	for began := time.Now(); w.converged() != "" && time.Since(began) < 3*time.Minute; {
		time.Sleep(time.Second)
	}
	if why := w.converged(); why != "" {
		t.Error(why)
	}
	return len(truth)
}

// operation is where the one under way is, as a region's nodes know.
func (w *World) operation(region int) string {
	for _, m := range w.all() {
		if up := m.running.Load(); m.region == region && up != nil {
			if o, err := failover.Current(up.node.RegionMap().Map); err == nil && o != nil {
				return fmt.Sprintf("%s %s", o.Kind, o.At().Name)
			}
		}
	}
	return ""
}

func (w *World) crashRegion(r int) {
	for _, id := range w.ids(r) {
		if m := w.member(id); m.running.Load() != nil {
			w.Crash(m)
		}
	}
}

// emptyRegion wipes all that a region that is down has kept.
func (w *World) emptyRegion(r int) {
	held := map[partitionDot]bool{}
	for other := range w.tops {
		for p := range hashring.Partition(w.shape.Partitions) {
			w.eachDot(other, p, func(dot crdt.Dot) { held[partitionDot{p, dot}] = true })
		}
	}
	w.hist.lose(r, held)
	for _, id := range w.ids(r) {
		m := w.member(id)
		if err := m.disk.Wipe(); err != nil {
			w.t.Fatal(err)
		}
		m.kept.Store(nil)
		m.registry.Forget()
	}
	w.stores[r].Forget()
	w.cloud.Recreate(w.name(r))
}
