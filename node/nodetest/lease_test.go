package nodetest

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/hashicorp/go-hclog"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/geo/failover"
	"github.com/atolldb/atoll/internal/pause"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/quorum"
	"github.com/atolldb/atoll/node/regions"
)

var leaseN = flag.Int("lease.n", seeds(6), "number of seeds in which a home is cut off, and failed over by force")

const leaseFor = 6 * time.Second

// homeOps are operations at SERIAL on one key, with the region that decided each.
type homeOps struct {
	mu  sync.Mutex
	ops []porcupine.Operation
}

// homeOp is an operation as it is judged; move is the failover.
type homeOp struct {
	serialOp
	by   string
	move bool
}

// homeState is the value, "*" for one that the failover may have lost, and whether the
// home has moved.
type homeState struct {
	value string
	moved bool
}

// twoHomes is a register whose home moves once, to region b. What the old home has
// decided comes before that, and what the new one has after it; nothing else is known
// of the value that is there then: what had not left the lost region is missing.
var twoHomes = porcupine.Model{
	Init: func() any { return homeState{} },
	Step: func(state, input, _ any) (bool, any) {
		s, op := state.(homeState), input.(*homeOp)
		if op.move {
			return !s.moved, homeState{"*", true}
		}
		if op.outcome != serialOpen && s.moved != (op.by != "a") {
			return false, s
		}
		if s.value == "*" {
			switch {
			case op.read || op.outcome == serialFailed:
				s.value = op.saw
			case op.expect != "":
				s.value = op.expect
			case op.absent:
				s.value = ""
			case op.outcome == serialDone:
				return true, homeState{op.value, s.moved}
			}
		}
		ok, next := register.Step(s.value, &op.serialOp, nil)
		return ok, homeState{next.(string), s.moved}
	},
}

// live works at SERIAL in a region until ctx ends.
func (d *decider) live(ctx context.Context, keys []*homeOps) {
	for pause.For(ctx, time.Duration(20+d.rng.IntN(300))*time.Millisecond) {
		node := d.coordinator()
		if node == nil {
			continue
		}
		i := d.rng.IntN(len(keys))
		name := fmt.Sprint(homedKey, i)
		op := &homeOp{serialOp: serialOp{who: d.id}}
		call := time.Since(d.w.start)
		var err error
		var shown *coord.GetResult
		var where coord.Achieved
		deadline := time.Now().Add(2 * time.Second)
		if d.rng.IntN(3) == 0 {
			op.read = true
			done := make(chan coord.GetResult, 1)
			node.Get(coord.Get{Bucket: homedBucket, Key: []byte(name), Level: quorum.Serial, Deadline: deadline}, func(r coord.GetResult, e error) { err = e; done <- r })
			r := <-done
			shown, where = &r, r.Achieved
		} else {
			d.n++
			op.value = fmt.Sprintf("%s:%d", d.name, d.n)
			p := coord.Put{Bucket: homedBucket, Key: []byte(name), Value: []byte(op.value), Level: quorum.Serial, Deadline: deadline}
			if last, ok := d.last[name]; ok && d.rng.IntN(2) == 0 {
				op.expect, p.Condition = string(last.Value), crdt.Condition{Kind: crdt.IfVersion, Version: last.Dot}
			}
			done := make(chan coord.PutResult, 1)
			node.Put(p, func(r coord.PutResult, e error) { err = e; done <- r })
			r := <-done
			where = r.Achieved
			if err == nil {
				d.last[name] = crdt.Version{Dot: r.Version, Value: []byte(op.value)}
			}
		}
		ret := int64(time.Since(d.w.start))
		var e *coord.Error
		errors.As(err, &e)
		switch {
		case err == nil:
			op.outcome = serialDone
		case e != nil && e.Code == coord.CodeConditionFailed:
			op.outcome, shown = serialFailed, e.Current
			where = e.Current.Achieved
		case op.read, e != nil && e.Outcome == coord.NotApplied:
			continue
		default:
			ret = 1 << 60
		}
		if shown != nil && len(shown.View.Live) > 0 {
			op.saw = string(shown.View.Live[0].Value)
			d.last[name] = shown.View.Live[0]
		}
		if len(where.Regions) > 0 {
			op.by = string(where.Regions[0].Region)
		} else if op.outcome != serialOpen {
			op.by = d.w.name(d.region) // a failed condition is told by who decided, here
			if d.region != homeRegion {
				continue // or elsewhere: it does not say where
			}
		}
		keys[i].mu.Lock()
		keys[i].ops = append(keys[i].ops, porcupine.Operation{ClientId: d.id, Input: op, Call: int64(call), Return: ret})
		keys[i].mu.Unlock()
	}
}

func (w *World) cutOff(region int, cut bool) {
	for r := range w.tops {
		if r == region {
			continue
		}
		if cut {
			w.fabric.Partition(w.ids(region), w.ids(r))
		}
		w.cloud.Cut(w.name(r), w.name(region), cut)
		w.cloud.Cut(w.name(region), w.name(r), cut)
	}
	if !cut {
		w.fabric.HealAll()
	}
}

// lease sets one, and waits until it binds.
func (w *World) lease(t *testing.T) {
	t.Helper()
	var err error
	for range 60 {
		if err = w.ops(1).SetLease(t.Context(), leaseFor, false); err == nil {
			break
		}
		time.Sleep(time.Second)
	}
	for range 60 {
		if m := w.member(w.ids(homeRegion)[0]).running.Load().node.RegionMap().Map; m.Binds(w.name(homeRegion)) && m.Bound() {
			time.Sleep(3 * time.Second) // all have heard, and hold one
			return
		}
		time.Sleep(time.Second)
	}
	t.Fatalf("the lease does not bind: %v", err)
}

// plans checks what the plan of a failover tells of homes.
func (w *World) plans(t *testing.T, want string) {
	t.Helper()
	p, err := w.ops(1).Plan(t.Context(), regions.Ask{Kind: failover.Failover, Region: w.name(homeRegion)})
	for _, c := range p.Checks {
		if c.Name == "homes" && strings.Contains(c.Detail, want) {
			return
		}
	}
	t.Errorf("the plan does not say that %s: %+v, %v", want, p.Checks, err)
}

// decidedIn counts what region a or b has decided between two moments.
func decidedIn(keys []*homeOps, by string, from, to time.Duration) (n int) {
	for _, k := range keys {
		k.mu.Lock()
		for _, o := range k.ops {
			if op := o.Input.(*homeOp); op.by == by && op.outcome != serialOpen && time.Duration(o.Call) > from && time.Duration(o.Return) < to {
				n++
			}
		}
		k.mu.Unlock()
	}
	return n
}

// The home is cut off and lives, clients work on both sides, and another region is made
// the home by force: what the old one has decided comes before anything that the new
// one has, key by key.
func TestLease(t *testing.T) {
	for seed := range uint64(*leaseN) {
		synctest.Test(t, func(t *testing.T) {
			w := New(t, seed+1, Shape{Regions: 2 + int(seed%2), Nodes: 3, Partitions: 8, Settled: true}, hclog.NewNullLogger())
			defer w.Close()
			w.failOverByForce(t)
		})
		if t.Failed() {
			t.Fatalf("seed %d", seed+1)
		}
	}
}

func (w *World) failOverByForce(t *testing.T) {
	const a, b = homeRegion, homeRegion + 1
	now := func() time.Duration { return time.Since(w.start) }
	time.Sleep(15 * time.Second)
	w.plans(t, "TWO HOMES ARE POSSIBLE: there is no lease")
	w.lease(t)
	w.plans(t, "there are never two")
	ctx, stop := context.WithCancel(context.Background())
	var work sync.WaitGroup
	defer func() { stop(); work.Wait() }()
	keys := make([]*homeOps, 8)
	for i := range keys {
		keys[i] = &homeOps{}
	}
	for i := range 6 {
		d := w.decider(i, i%2)
		work.Go(func() { d.live(ctx, keys) })
	}
	time.Sleep(5 * time.Second)
	if decidedIn(keys, "a", 0, now()) == 0 {
		t.Error("a home with a lease decides nothing")
	}

	// It is cut off and nobody takes its place: it stops, and goes on when it is back.
	w.cutOff(a, true)
	time.Sleep(2 * leaseFor)
	stopped := now()
	time.Sleep(5 * time.Second)
	if n := decidedIn(keys, "a", stopped, now()); n > 0 {
		t.Errorf("a home that is cut off has decided %d times after its lease ran out", n)
	}
	w.cutOff(a, false)
	time.Sleep(10 * time.Second)
	if decidedIn(keys, "a", stopped, now()) == 0 {
		t.Error("a home that is back decides nothing")
	}

	w.cutOff(a, true)
	time.Sleep(time.Duration(w.rng.IntN(8000)) * time.Millisecond)
	began := now()
	w.carryOutBy(t, b, regions.Ask{Kind: failover.Failover, Region: w.name(a), Force: true})
	ended := now()
	if d := ended - began; d > 60*time.Second {
		t.Errorf("the failover has taken %v", d)
	}
	time.Sleep(10 * time.Second)
	if decidedIn(keys, "b", ended, now()) == 0 {
		t.Error("the new home decides nothing")
	}
	stop()
	work.Wait()
	for i, k := range keys {
		ops := append(k.ops, porcupine.Operation{ClientId: 99, Input: &homeOp{move: true}, Call: int64(began), Return: int64(ended)})
		if res := porcupine.CheckOperationsTimeout(twoHomes, ops, time.Minute); res != porcupine.Ok {
			t.Errorf("L1: the %d operations on key %d, whose home moved between %v and %v, are %s", len(ops), i, began, ended, res)
		}
	}
}

// A region that is cut off together with a third one keeps its majority: a failover by
// force in the other one does not end, and the home goes on.
func TestLeaseOfMajority(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := New(t, 1, Shape{Regions: 3, Nodes: 3, Partitions: 8, Settled: true}, hclog.NewNullLogger())
		defer w.Close()
		time.Sleep(15 * time.Second)
		w.lease(t)
		w.cutOff(1, true)
		if _, err := w.ops(1).Begin(t.Context(), regions.Ask{Kind: failover.Failover, Region: w.name(homeRegion), Force: true}); err != nil {
			t.Fatal(err)
		}
		for range 10 {
			time.Sleep(6 * time.Second)
			d := w.decider(1, homeRegion)
			var o decided
			p := coord.Put{Bucket: homedBucket, Key: []byte(homedKey), Value: []byte("v"), Level: quorum.Serial, Deadline: time.Now().Add(2 * time.Second)}
			if d.put(d.coordinator(), &serialKey{name: homedKey}, p, &o); o.err != nil {
				t.Errorf("a home with a majority does not decide: %v", o.err)
			}
		}
		if v, err := w.ops(1).View(t.Context()); err != nil || v.Operation.Ended || v.Waits == "" {
			t.Errorf("the failover: %+v, waits for %q, %v", v.Operation, v.Waits, err)
		}
	})
}
