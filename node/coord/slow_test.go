package coord_test

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/node/liveness"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/topology"
)

// slow is what all nodes think of a node.
func (r *region) slow(id topology.NodeID, _ liveness.Kind) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.late[id]
}

// TestSlowServersAreAskedLast: a node that is slow neither mints nor is read
// while others can, wherever the operation comes in (but for reads of its own);
// it gets every write all the same, and mints when nobody else can.
func TestSlowServersAreAskedLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t, 4)
		r.mu.Lock()
		r.late = map[topology.NodeID]bool{"n2": true}
		r.mu.Unlock()
		slow := r.nodes["n2"]
		minted, owned := 0, 0
		for i := range 20 {
			k := fmt.Sprint("key ", i)
			owners := r.owners("default", k)
			if !slices.Contains(owners, slow) {
				continue
			}
			owned++
			for _, m := range r.nodes {
				p := put(k, "v")
				p.Overwrite = true
				res, err := m.put(t, p)
				if err != nil {
					t.Fatal(err)
				}
				if res.Version.Actor == slow.replica.Actor() {
					minted++
				}
				got, err := m.get(t, get(k))
				if err != nil {
					t.Fatal(err)
				}
				if m != slow && slices.Contains(got.Achieved.Replicas, slow.id) {
					t.Errorf("%s read from the slow node", m.id)
				}
			}
			r.settle()
			if n := len(slow.held(t, "default", k).Versions); n != 1 {
				t.Errorf("the slow node has %d versions of %s", n, k)
			}
		}
		if minted > 0 || owned == 0 {
			t.Errorf("the slow node minted %d writes of %d keys", minted, owned)
		}

		k := "key 0"
		for i := 1; !slices.Contains(r.owners("default", k), slow); i++ {
			k = fmt.Sprint("key ", i)
		}
		for _, o := range r.owners("default", k) {
			if o != slow {
				o.replica.SetSkewed(true) // refuses to mint
			}
		}
		res, err := r.outsider("default", k).put(t, put(k, "v"))
		if err != nil || res.Version.Actor != slow.replica.Actor() {
			t.Errorf("when only the slow node can mint: %+v, %v", res, err)
		}
	})
}

// TestShortTimeoutsSayNothing: what was given less time than an answer may take
// is not held against a peer.
func TestShortTimeoutsSayNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t, 3)
		k := "k"
		owners := r.owners("default", k)
		a := owners[0]
		var timeouts atomic.Int64
		a.Observe = func(_ topology.NodeID, err error) {
			if errors.Is(err, peer.ErrTimeout) {
				timeouts.Add(1)
			}
		}
		for _, o := range owners[1:] {
			a.wire.answers(peer.VerbRead, o.id, 50*time.Millisecond, peer.ErrTimeout)
		}
		for _, c := range []struct {
			time time.Duration
			want bool
		}{{100 * time.Millisecond, false}, {time.Second, true}} {
			timeouts.Store(0)
			g := get(k)
			g.Deadline = time.Now().Add(c.time)
			if _, err := a.get(t, g); err == nil {
				t.Fatal("read without the others")
			}
			time.Sleep(2 * time.Second)
			if got := timeouts.Load() > 0; got != c.want {
				t.Errorf("timeouts after %v are told: %v", c.time, got)
			}
		}
	})
}
