package nodetest

import (
	"context"
	"flag"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/geo/failover"
	"github.com/atolldb/atoll/geo/regionmap"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/cas"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/peer/memnet"
	"github.com/atolldb/atoll/node/quorum"
	"github.com/atolldb/atoll/node/regions"
	"github.com/atolldb/atoll/node/replica"
)

var movesN = flag.Int("moves.n", seeds(6), "number of seeds in which a home moves by a switchover")

// A home moves by a switchover while clients of all regions work at SERIAL, nodes of it
// crash and messages are lost: all that they did, before and after, is linearizable,
// and nothing that was undecided in the old home shows later.
func TestHomeMoves(t *testing.T) {
	ops, left := 0, 0
	for seed := range uint64(*movesN) {
		synctest.Test(t, func(t *testing.T) {
			w := New(t, seed+1, Shape{Regions: 2, Nodes: 3, Partitions: 8, Settled: true}, hclog.NewNullLogger())
			defer w.Close()
			left += w.moveHome(t)
			n, _, _ := w.serial.counts()
			ops += n
			for _, p := range append(w.linearizable(), w.hist.problems...) {
				t.Error(p)
			}
		})
		if t.Failed() {
			t.Fatalf("seed %d", seed+1)
		}
	}
	t.Logf("%d operations, %d proposals were undecided when the region was fenced", ops, left)
	if left == 0 {
		t.Error("nothing was ever undecided when a region was switched over")
	}
}

func (w *World) moveHome(t *testing.T) (left int) {
	const a, b = homeRegion, homeRegion + 1
	time.Sleep(15 * time.Second)
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var work sync.WaitGroup
	for i := range 6 {
		d := w.decider(i, i%2)
		d.homely = true
		work.Go(func() { d.run(ctx) })
	}
	w.fabric.SetAll(memnet.Faults{MinDelay: time.Millisecond, MaxDelay: 30 * time.Millisecond, Drop: 0.15})
	for began := time.Now(); time.Since(began) < 4*time.Second; {
		time.Sleep(time.Duration(w.rng.IntN(700)) * time.Millisecond)
		m := w.member(w.ids(a)[w.rng.IntN(w.shape.Nodes)])
		w.Crash(m)
		time.Sleep(time.Duration(w.rng.IntN(100)) * time.Millisecond)
		w.Start(m)
	}
	fenced := make(chan int, 1)
	go func() { // what is undecided when all of the old home refuse
		for {
			n, aware := 0, true
			for _, m := range w.all() {
				if up := m.running.Load(); m.region == a && up != nil {
					aware = aware && up.node.RegionMap().Map.State(w.name(a)) == regionmap.Fenced
					n += up.node.Replica().SerialPendingCount()
				}
			}
			if aware || ctx.Err() != nil {
				fenced <- n
				return
			}
			time.Sleep(time.Millisecond)
		}
	}()
	w.carryOutBy(t, b, regions.Ask{Kind: failover.Switchover, Region: w.name(a), Force: true})
	left = <-fenced
	w.fabric.SetAll(calmLinks)
	// Local reads there finish what they find undecided.
	for _, name := range w.serial.names() {
		w.decider(99, a).settles(name)
	}
	time.Sleep(3 * time.Second)
	w.carryOutBy(t, b, regions.Ask{Kind: failover.Failback, Region: w.name(a)})
	time.Sleep(5 * time.Second)
	stop()
	work.Wait()
	w.readAll(t)
	return left
}

// readAll reads all keys at SERIAL in all regions, which has to work.
func (w *World) readAll(t *testing.T) {
	t.Helper()
	for _, name := range w.serial.names() {
		for r := range w.tops {
			d := w.decider(100+r, r)
			k, op := w.serial.keys[name], &serialOp{who: d.id, read: true, call: time.Since(w.start)}
			w.serial.begin(k, op)
			var err error
			done := make(chan coord.GetResult, 1)
			d.coordinator().Get(coord.Get{Bucket: homedBucket, Key: []byte(name), Level: quorum.Serial, Deadline: time.Now().Add(5 * time.Second)},
				func(res coord.GetResult, e error) { err = e; done <- res })
			if res := <-done; err != nil {
				t.Errorf("%s cannot be read in %s: %v; %s", name, w.name(r), err, k.tell())
			} else {
				w.serial.end(k, op, time.Since(w.start), serialDone, d.shown(k, &res))
			}
		}
	}
}

// propose has some owners in the home region accept a write of which nobody will tell
// them whether it was decided: its proposer is gone.
func (w *World) propose(t *testing.T, key, value string, at ...*member) {
	t.Helper()
	full := coord.FullKey(homedBucket, []byte(key))
	ballot := cas.At(time.Now().UnixMilli()) | 7
	dot := crdt.Dot{Actor: crdt.BallotActor(homeRegion+1, 1), N: uint64(ballot)}
	v := crdt.Version{Dot: dot, Value: []byte(value), Stamp: hlc.Stamp(time.Now().UnixMilli() << 16)}
	for _, m := range at {
		done := make(chan error, 1)
		m.running.Load().node.Replica().Serial(replica.SerialStep{
			Key: full, KeyHash: hashring.KeyHash(full), Home: 1,
			Message: cas.Message{Verb: cas.Accept, Proposal: cas.Proposal{Ballot: ballot, Dot: dot, Record: crdt.Record{Versions: []crdt.Version{v}}}},
			Done: func(a replica.SerialAnswer, err error) {
				if err == nil && a.Verdict != cas.OK {
					err = fmt.Errorf("verdict %d", a.Verdict)
				}
				done <- err
			},
		})
		if err := <-done; err != nil {
			t.Fatalf("%s does not accept: %v", m.id, err)
		}
	}
}

// What one owner of the old home has accepted, or two, shows in the new one before
// anything is decided there, or never.
func TestUndecidedMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := New(t, 1, Shape{Regions: 2, Nodes: 3, Partitions: 8, Settled: true}, hclog.NewNullLogger())
		defer w.Close()
		const a, b = homeRegion, homeRegion + 1
		time.Sleep(15 * time.Second)
		owners := w.all()[:3]
		keys := map[string]int{}
		for n := 1; n <= 2; n++ {
			for i := range 3 {
				key := fmt.Sprintf("%s of %d, %d", homedKey, n, i)
				keys[key] = n
				w.propose(t, key, "old", slices.Concat(owners, owners)[i:i+n]...)
			}
		}
		w.carryOutBy(t, b, regions.Ask{Kind: failover.Switchover, Region: w.name(a)})
		time.Sleep(2 * time.Second) // all know
		d := w.decider(1, b)
		d.homely = true
		for key, n := range keys {
			k := &serialKey{name: key}
			read := func() string {
				op := &serialOp{read: true}
				d.read(d.coordinator(), k, op)
				if op.outcome != serialDone {
					t.Errorf("%s cannot be read", key)
				}
				return op.saw
			}
			if saw := read(); n == 2 && saw != "old" {
				t.Errorf("%s, which a majority has accepted, shows %q in the new home", key, saw)
			}
			var o decided
			if d.put(d.coordinator(), k, coord.Put{Bucket: homedBucket, Key: []byte(key), Value: []byte("new"), Level: quorum.Serial, Deadline: time.Now().Add(2 * time.Second)}, &o); o.err != nil {
				t.Errorf("write %s in the new home: %v", key, o.err)
			}
			// Who reads in the old home finishes what is undecided there.
			w.decider(2, a).settles(key)
			time.Sleep(2 * time.Second)
			if saw := read(); saw != "new" {
				t.Errorf("%s shows %q after it was written in the new home", key, saw)
			}
		}
		for _, p := range w.hist.problems {
			t.Error(p)
		}
	})
}

// settles reads from all owners of its region.
func (d *decider) settles(key string) {
	done := make(chan struct{})
	d.coordinator().Get(coord.Get{Bucket: homedBucket, Key: []byte(key), Level: quorum.LocalAll, Deadline: time.Now().Add(5 * time.Second)},
		func(coord.GetResult, error) { close(done) })
	<-done
}
