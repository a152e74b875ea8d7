package coord_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/quorum"
	"github.com/atolldb/atoll/node/repair"
	"github.com/atolldb/atoll/node/topology"
)

// stop stops a node in order, and all know that it is down.
func (r *region) stop(m *member) {
	r.believe(m.id, true)
	r.fabric.Down(m.id)
	m.stop()
	if err := <-m.ended; err != nil {
		r.t.Error(err)
	}
}

// restart starts a node that was stopped, on its disk, and all know it.
func (r *region) restart(m *member) *member {
	r.start(m.id, m.disk)
	r.settle()
	r.believe(m.id, false)
	return r.nodes[m.id]
}

// TestWalkThroughOneReplicaDown is docs/walkthrough-one-replica-down.md: N=3,
// W=2, R=2, and one replica is down. The steps have the numbers of the page.
func TestWalkThroughOneReplicaDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t, 4)
		owners, out := r.owners("default", "cart"), r.outsider("default", "cart")
		a, b, c := owners[0], owners[1], owners[2]
		ids := []topology.NodeID{a.id, b.id, c.id}

		// Keys with the same owners, one for each way of reading below: a read
		// repairs what it meets, and the next one shall meet c as it came back.
		var keys []string
		for i := 0; len(keys) < 16; i++ {
			k := fmt.Sprint("cart", i)
			if slices.Equal(r.top.Takers(r.partition("default", k)), ids) {
				keys = append(keys, k)
			}
		}
		// 1. All three have a first value.
		for _, k := range keys {
			p := put(k, "before")
			p.Level = quorum.LocalAll
			a.mustPut(t, p)
		}

		// 2. One replica goes down.
		r.stop(c)

		// 3. A write at W=2 succeeds, with two acknowledgements, through any node.
		for i, k := range keys {
			via := []*member{a, b, out}[i%3]
			p := put(k, "after")
			p.W, p.Overwrite = 2, true
			res, err := via.put(t, p)
			if err != nil {
				t.Fatalf("step 3: put via %s: %v", via.id, err)
			}
			if who := res.Achieved; !slices.Equal(slices.Sorted(slices.Values(who.Replicas)), slices.Sorted(slices.Values(ids[:2]))) || !who.Degraded || who.Needed != 2 {
				t.Errorf("step 3: achieved %+v", who)
			}
		}
		// W=3 is refused before anything is written.
		if _, err := a.put(t, func() coord.Put { p := put(keys[0], "three"); p.W = 3; return p }()); err == nil {
			t.Error("step 3: a write at W=3 was acknowledged")
		}

		// 4. It comes back with what it had: it is stale, and does not know it.
		c = r.restart(c)
		for _, k := range keys {
			for _, v := range c.held(t, "default", k).Versions {
				if string(v.Value) != "before" {
					t.Fatalf("step 4: c has %q", v.Value)
				}
			}
		}

		// 5. Every read at R=2 sees the write: of any two replicas, by any node.
		next := 0
		for _, set := range [][]*member{{a, b}, {a, c}, {b, c}} {
			for _, via := range []*member{a, b, c, out} {
				if via != out && !slices.Contains(set, via) {
					continue // an owner always asks itself
				}
				k := keys[next]
				next++
				for _, id := range ids {
					if !slices.ContainsFunc(set, func(m *member) bool { return m.id == id }) {
						via.wire.answers(peer.VerbRead, id, time.Millisecond, peer.ErrNotSent)
					}
				}
				g := get(k)
				g.R = 2
				got, err := via.get(t, g)
				if err != nil || !slices.Equal(live(got.View), []string{"after"}) {
					t.Errorf("step 5: %s asks %s and %s: %q, %v", via.id, set[0].id, set[1].id, live(got.View), err)
				}
				who := slices.Sorted(slices.Values(got.Achieved.Replicas))
				if want := slices.Sorted(slices.Values([]topology.NodeID{set[0].id, set[1].id})); !slices.Equal(who, want) {
					t.Errorf("step 5: asked %v, want %v", who, want)
				}
				via.wire.clear()
				// The read has repaired the stale one, if it met it.
				r.settle()
				if fresh := len(c.held(t, "default", k).Versions) == 1 && string(c.held(t, "default", k).Versions[0].Value) == "after"; fresh != slices.Contains(set, c) {
					t.Errorf("step 5: after %s asked %s and %s, c is fresh: %t", via.id, set[0].id, set[1].id, fresh)
				}
			}
		}
		if next != 9 {
			t.Errorf("%d ways of reading", next)
		}

		// 6. A read at R=1 may miss it: R + W = N.
		last := keys[15]
		g := get(last)
		g.R = 1
		if got := c.mustGet(t, g); !slices.Equal(live(got.View), []string{"before"}) {
			t.Errorf("step 6: c alone shows %q", live(got.View))
		}

		// 7. c compares clocks with the others and fetches what it missed,
		// whether anybody reads it or not.
		ctx, cancel := context.WithCancel(context.Background())
		fixer := repair.New(repair.Config{Self: c.id}, repair.Deps{
			Replica: c.replica, Transport: c.wire, Topology: c.replica.Topology, Alive: r.alive,
			Rand: rand.New(rand.NewPCG(1, 2)), Log: hclog.NewNullLogger(),
		})
		ended := make(chan error, 1)
		go func() { ended <- fixer.Run(ctx) }()
		began := time.Now()
		missing := func() (n int) {
			for _, k := range keys {
				if vs := c.held(t, "default", k).Versions; len(vs) != 1 || string(vs[0].Value) != "after" {
					n++
				}
			}
			return n
		}
		if missing() == 0 {
			t.Error("step 7: there is nothing left to fetch")
		}
		for missing() > 0 {
			time.Sleep(100 * time.Millisecond)
			if time.Since(began) > 10*time.Second {
				t.Fatalf("step 7: c misses %d keys after %v", missing(), time.Since(began))
			}
		}
		t.Logf("caught up after %v", time.Since(began).Round(100*time.Millisecond))
		if got := c.mustGet(t, g); !slices.Equal(live(got.View), []string{"after"}) {
			t.Errorf("step 7: c alone shows %q", live(got.View))
		}
		cancel()
		<-ended
	})
}
