package nodetest

import (
	"context"
	"flag"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/atolldb/atoll/internal/pause"
	"github.com/atolldb/atoll/node/api"
)

var accountN = flag.Int("account.n", seeds(6), "number of seeds in which what is missing is counted")

// The pending writes that regions tell of are those that are missing, by brute
// force, whatever was cut, healed and restarted: of puts, deletes, overwrites,
// expiring values and commits by consensus.
func TestAccounts(t *testing.T) {
	var counted atomic.Uint64
	eachSeed(t, 1, *accountN, func(t *testing.T, seed uint64) {
		synctest.Test(t, func(t *testing.T) {
			regions := 3 - int(seed%2)
			if seed%20 == 4 {
				regions = 4 // twelve links
			}
			shape := Shape{Regions: regions, Nodes: 3 + int((seed-1)/2%2), Partitions: 8, Settled: true}
			w := New(t, seed, shape, hclog.NewNullLogger())
			defer w.Close()
			time.Sleep(15 * time.Second)
			cut := make([][]linkState, shape.Regions)
			for i := range cut {
				cut[i] = make([]linkState, shape.Regions)
			}
			for round := range 5 {
				w.recut(cut, round)
				w.busy(8 * time.Second)
				time.Sleep(20 * time.Second)
				for a := range cut {
					for b := range cut {
						if a != b {
							counted.Add(w.missing(a, b))
						}
					}
				}
				for _, p := range w.accounts(cut) {
					t.Errorf("seed %d, round %d, cuts %v: %s", seed, round, cut, p)
				}
			}
		})
	})
	t.Logf("%d missing writes counted", counted.Load())
	if counted.Load() == 0 {
		t.Error("nothing was ever missing")
	}
}

// recut changes what is cut: everything is whole in the last round, and everything
// is cut in the first.
func (w *World) recut(cut [][]linkState, round int) {
	w.fabric.HealAll()
	for a := range cut {
		for b := range cut {
			if a == b {
				continue
			}
			cut[a][b].log = round == 0 || round < 4 && w.rng.IntN(3) == 0
			w.cloud.Cut(w.name(a), w.name(b), cut[a][b].log)
			if a < b {
				cut[a][b].nodes = round == 0 || round < 4 && w.rng.IntN(2) == 0
				if cut[a][b].nodes {
					w.fabric.Partition(w.ids(a), w.ids(b))
				}
			}
		}
	}
}

// busy has clients of all regions work, and one node crash and return.
func (w *World) busy(length time.Duration) {
	ctx, stop := context.WithTimeout(context.Background(), length)
	defer stop()
	keys := make([]string, 12)
	for i := range keys {
		keys[i] = fmt.Sprint("k", i)
	}
	var work sync.WaitGroup
	for r := range w.tops {
		work.Go(func() { w.client(r, r, keys).run(ctx) })
		work.Go(func() { w.decider(100+r, r).run(ctx) })
	}
	if w.rng.IntN(2) == 0 {
		m := w.someNode()
		w.Crash(m)
		pause.For(ctx, time.Duration(w.rng.IntN(4000))*time.Millisecond)
		w.Start(m)
	}
	work.Wait()
}

// A region that compares itself with another finds it equal; it finds a record that
// one disk has lost without a word when it looks at the disks, and only then; and
// what is on its way it calls behind, with how much.
func TestVerify(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shape := Shape{Regions: 2, Nodes: 3, Partitions: 8, Settled: true}
		w := New(t, 7, shape, hclog.NewNullLogger())
		defer w.Close()
		time.Sleep(15 * time.Second)
		w.busy(8 * time.Second)
		time.Sleep(20 * time.Second)
		links := w.nodes[0].running.Load().node.Operations().Links
		ask := func(s api.VerifyScope) api.Verified {
			s.A, s.B = "a", "b"
			v, err := links.Verify(t.Context(), s)
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
		for _, deep := range []bool{false, true} {
			if v := ask(api.VerifyScope{Deep: deep, Wait: 5 * time.Second}); v.Equal != 8 || v.Partitions != 8 || len(v.Others) != 0 {
				t.Fatalf("deep %v: at rest: %+v", deep, v)
			}
		}

		w.loseRecord(w.nodes[4])
		if v := ask(api.VerifyScope{}); v.Equal != 8 {
			t.Errorf("kept digests: %+v", v)
		}
		v := ask(api.VerifyScope{Deep: true})
		if v.Equal != 7 || len(v.Others) != 1 || v.Others[0].Kind != api.Differs || fmt.Sprint(v.Others[0].Nodes) != fmt.Sprint([]string{string(w.nodes[4].id)}) {
			t.Errorf("a record is lost at %s: %+v", w.nodes[4].id, v)
		}
		time.Sleep(30 * time.Second) // a pass of the scrub mends it
		if v := ask(api.VerifyScope{Deep: true}); v.Equal != 8 {
			t.Errorf("mended: %+v", v)
		}

		w.fabric.Partition(w.ids(0), w.ids(1))
		w.cloud.Cut("a", "b", true)
		w.cloud.Cut("b", "a", true)
		w.busy(3 * time.Second)
		inB, inA := w.missing(0, 1), w.missing(1, 0)
		w.fabric.HealAll()
		// Repair takes a beat, and this no time at all.
		var told [2]uint64
		for _, o := range ask(api.VerifyScope{}).Others {
			if o.Kind != api.Behind {
				t.Errorf("what is on its way: %+v", o)
			}
			told[0] += o.MissingInA
			told[1] += o.MissingInB
		}
		if told != [2]uint64{inA, inB} || inA == 0 || inB == 0 {
			t.Errorf("%d missing in a, %d in b; told %v", inA, inB, told)
		}
		w.cloud.Cut("a", "b", false)
		w.cloud.Cut("b", "a", false)
		if v := ask(api.VerifyScope{Wait: 30 * time.Second}); v.Equal != 8 {
			t.Errorf("waited for it: %+v", v)
		}

		w.Stop(w.nodes[5])
		v = ask(api.VerifyScope{})
		if len(v.Others) != 8 || v.Others[0].Kind != api.Silent {
			t.Errorf("an owner is down: %+v", v)
		}
		w.Start(w.nodes[5])
		w.fabric.HealAll()
		if _, err := links.Verify(t.Context(), api.VerifyScope{A: "a", B: "nowhere"}); err == nil {
			t.Error("compared with a region that is not there")
		}
	})
}
