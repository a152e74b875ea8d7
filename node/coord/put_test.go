package coord_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/quorum"
	"github.com/atolldb/atoll/node/storage/memstore"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/topology/memtopo"
)

func put(k, v string) coord.Put { return coord.Put{Key: []byte(k), Value: []byte(v)} }
func get(k string) coord.Get    { return coord.Get{Key: []byte(k)} }

// A write is acknowledged when as many owners as its level needs have it, and
// not before (K2); a read waits for as many.
func TestLevels(t *testing.T) {
	for _, c := range []struct {
		level quorum.Level
		count int // w or r
		need  int
	}{
		{quorum.Default, 0, 2},
		{quorum.LocalOne, 0, 1},
		{quorum.LocalTwo, 0, 2},
		{quorum.LocalThree, 0, 3},
		{quorum.LocalQuorum, 0, 2},
		{quorum.LocalAll, 0, 3},
		{quorum.LocalAll, 1, 1},
		{quorum.LocalOne, 3, 3},
	} {
		for silent := range 3 {
			t.Run(fmt.Sprintf("%v %d with %d silent", c.level, c.count, silent), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r := newRegion(t, 3)
					owners := r.owners("default", "k")
					a := owners[0]
					for _, o := range owners[3-silent:] {
						a.wire.answers(peer.VerbApply, o.id, time.Hour, peer.ErrTimeout)
						a.wire.answers(peer.VerbRead, o.id, time.Hour, peer.ErrTimeout)
					}
					p := put("k", "v")
					p.Level, p.W = c.level, c.count
					res, err := a.put(t, p)
					if met := 3-silent >= c.need; met != (err == nil) {
						t.Fatalf("put: %+v, %v", res, err)
					}
					if err == nil {
						who := res.Achieved
						if len(who.Replicas) < c.need || who.Needed != c.need || who.Level != c.level || who.Coordinator != a.id || who.Degraded {
							t.Errorf("achieved %+v", who)
						}
						if err := hasAll(t, r, who.Replicas, "k", res.Version); err != nil {
							t.Error(err)
						}
					} else if err.Code != coord.CodeDeadline || err.Outcome != coord.Unknown || err.Needed != c.need || err.Acks != 3-silent {
						t.Errorf("put: %+v", err)
					}
					g := get("k")
					g.Level, g.R = c.level, c.count
					got, err := a.get(t, g)
					if met := 3-silent >= c.need; met != (err == nil) {
						t.Fatalf("get: %+v, %v", got, err)
					}
					if err == nil {
						if who := got.Achieved; len(who.Replicas) != c.need || who.Needed != c.need || who.Level != c.level || who.Coordinator != a.id {
							t.Errorf("achieved %+v", who)
						}
						if !slices.Equal(live(got.View), []string{"v"}) {
							t.Errorf("shows %q", live(got.View))
						}
					} else if err.Outcome != coord.NotApplied || err.Code != coord.CodeDeadline || err.Needed != c.need || err.Acks != 3-silent {
						t.Errorf("get: %+v", err)
					}
				})
			})
		}
	}
}

func hasAll(t *testing.T, r *region, who []topology.NodeID, k string, d crdt.Dot) error {
	for i, id := range who {
		if slices.Contains(who[:i], id) {
			return fmt.Errorf("%s is named twice", id)
		}
		if r.nodes[id].held(t, "default", k).Find(d) == nil {
			return fmt.Errorf("%s is named and does not have %v", id, d)
		}
	}
	return nil
}

// An acknowledgement waits for the sync of each owner that it counts.
func TestAckIsAfterTheSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegionOn(t, 3, memtopo.New(1), memstore.Config{SyncMin: 50 * time.Millisecond})
		a := r.owners("default", "k")[0]
		began := time.Now()
		p := put("k", "v")
		p.Level = quorum.LocalAll
		a.mustPut(t, p)
		// 50 ms, of which the trip to the others (1 ms) is a part of the overlap.
		if took := time.Since(began); took < 50*time.Millisecond || took > 60*time.Millisecond {
			t.Errorf("took %v", took)
		}
	})
}

// A delete without a context covers what a quorum read sees, and no more.
func TestDeleteWithoutContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t, 4)
		out, owners := r.outsider("default", "k"), r.owners("default", "k")
		// The minter does not have the value; the other two do.
		owners[1].wire.answers(peer.VerbApply, owners[0].id, time.Millisecond, peer.ErrNotSent)
		r.believe(owners[0].id, true)
		out.mustPut(t, put("k", "v"))
		r.believe(owners[0].id, false)
		if n := len(owners[0].held(t, "default", "k").Versions); n != 0 {
			t.Fatalf("the first owner has %d versions", n)
		}
		res := out.mustPut(t, coord.Put{Key: []byte("k"), Delete: true})
		if res.Version.Actor != owners[0].replica.Actor() {
			t.Errorf("minted by %v", res.Version.Actor)
		}
		all := get("k")
		all.Level = quorum.LocalAll
		if got := out.mustGet(t, all); len(got.View.Live) != 0 || len(got.Context) == 0 {
			t.Errorf("shows %q", live(got.View))
		}
		// A delete with an older context leaves what came since.
		before := out.mustGet(t, get("k")).Context
		out.mustPut(t, put("k", "unseen"))
		out.mustPut(t, coord.Put{Key: []byte("k"), Delete: true, Context: before})
		if got := out.mustGet(t, all); !slices.Equal(live(got.View), []string{"unseen"}) {
			t.Errorf("shows %q", live(got.View))
		}
		// Deleting what is not there is fine.
		out.mustPut(t, coord.Put{Key: []byte("absent"), Delete: true})
		if got := out.mustGet(t, get("absent")); len(got.View.Live) != 0 {
			t.Errorf("shows %q", live(got.View))
		}
		// Without a quorum to read from, nothing is done.
		r.kill(owners[1].id)
		r.kill(owners[2].id)
		if _, err := out.put(t, coord.Put{Key: []byte("k"), Delete: true}); err == nil || err.Outcome != coord.NotApplied {
			t.Errorf("%+v", err)
		}
	})
}

func TestTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t, 4)
		out := r.outsider("default", "k")
		p := put("k", "v")
		p.TTL = 1500 * time.Millisecond
		out.mustPut(t, p)
		time.Sleep(1400 * time.Millisecond)
		if got := out.mustGet(t, get("k")); !slices.Equal(live(got.View), []string{"v"}) {
			t.Errorf("shows %q before it expires", live(got.View))
		}
		time.Sleep(100 * time.Millisecond)
		got := out.mustGet(t, get("k"))
		if len(got.View.Live) != 0 || len(got.Context) == 0 {
			t.Errorf("shows %q after it has expired", live(got.View))
		}
	})
}

func TestBucketsAndOverwrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t, 4)
		out := r.outsider("lww", "k")
		for i := range 3 {
			p := put("k", fmt.Sprint(i))
			p.Bucket = "lww"
			out.mustPut(t, p)
		}
		r.settle()
		for _, o := range r.owners("lww", "k") {
			if rec := o.held(t, "lww", "k"); len(rec.Versions) != 1 {
				t.Errorf("%s keeps %d versions", o.id, len(rec.Versions))
			}
		}
		g := get("k")
		g.Bucket = "lww"
		if got := out.mustGet(t, g); !slices.Equal(live(got.View), []string{"2"}) {
			t.Errorf("the last writer's bucket shows %q", live(got.View))
		}
		// Two minters that do not see each other: the later stamp wins.
		owners := r.owners("lww", "k")
		r.fabric.Partition([]topology.NodeID{owners[0].id}, []topology.NodeID{owners[1].id, owners[2].id})
		p := put("k", "here")
		p.Bucket, p.Level = "lww", quorum.LocalOne
		owners[0].mustPut(t, p)
		time.Sleep(time.Second)
		r.believe(owners[0].id, true)
		p.Value = []byte("there, later")
		owners[1].mustPut(t, p)
		r.believe(owners[0].id, false)
		r.fabric.HealAll()
		g.Level = quorum.LocalAll
		got := out.mustGet(t, g)
		if !slices.Equal(live(got.View), []string{"there, later"}) {
			t.Errorf("shows %q", live(got.View))
		}
		// The same key elsewhere is another key.
		if got := out.mustGet(t, get("k")); len(got.View.Live) != 0 {
			t.Errorf("the default bucket shows %q", live(got.View))
		}
		out.mustPut(t, put("k", "a"))
		out.mustPut(t, put("k", "b"))
		p = put("k", "c")
		p.Overwrite = true
		out.mustPut(t, p)
		if got := out.mustGet(t, get("k")); !slices.Equal(live(got.View), []string{"c"}) {
			t.Errorf("after an overwrite: %q", live(got.View))
		}
	})
}

func TestSiblingLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t, 4)
		out := r.outsider("default", "k")
		for i := range coord.MaxSiblings {
			out.mustPut(t, put("k", fmt.Sprint(i)))
		}
		_, err := out.put(t, put("k", "one too many"))
		if err == nil || err.Code != coord.CodeTooManySiblings || err.Outcome != coord.NotApplied ||
			err.Field != "siblings" || !strings.Contains(err.Limit, "256") || !strings.Contains(err.Seen, "257") || !strings.Contains(err.Detail, "context") {
			t.Errorf("%+v", err)
		}
		got := out.mustGet(t, get("k"))
		if len(got.View.Live) != coord.MaxSiblings || out.Stats().Siblings.Load() != 1 {
			t.Errorf("%d siblings", len(got.View.Live))
		}
		p := put("k", "resolved")
		p.Context = got.Context
		out.mustPut(t, p)
		if got := out.mustGet(t, get("k")); !slices.Equal(live(got.View), []string{"resolved"}) {
			t.Errorf("shows %q", live(got.View))
		}
		// The limit in bytes.
		big := put("big", string(make([]byte, 1<<20)))
		for err = nil; err == nil; {
			_, err = out.put(t, big)
		}
		if err.Code != coord.CodeTooManySiblings || err.Outcome != coord.NotApplied || !strings.Contains(err.Limit, "bytes") || !strings.Contains(err.Seen, "bytes") {
			t.Errorf("%+v", err)
		}
		big.Overwrite = true
		out.mustPut(t, big)
	})
}
