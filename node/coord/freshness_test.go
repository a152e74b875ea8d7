package coord_test

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/quorum"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/wire"
)

// An answer is as fresh as the freshest of the states that are joined in it; what
// is older than allowed is not given, or waited for.
func TestStaleness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t, 4)
		west, err := topology.Static("west", 2, []topology.Member{{ID: "w1", Rack: "r", Weight: 1}}, hashring.Rules{Partitions: 8, Replicas: 1})
		if err != nil {
			t.Fatal(err)
		}
		asOf := map[topology.NodeID]*atomic.Uint64{}
		for _, m := range r.nodes {
			at := &atomic.Uint64{}
			asOf[m.id] = at
			m.Regions = func() []*topology.Topology { return []*topology.Topology{west} }
			m.replica.SetFresh(func(hashring.Partition) []wire.Fresh {
				if at.Load() == 0 {
					return nil
				}
				return []wire.Fresh{{Region: 2, AsOf: at.Load()}}
			})
		}
		owners, out := r.owners("default", "k"), r.outsider("default", "k")
		owners[0].mustPut(t, put("k", "v"))
		r.settle()
		ago := func(m *member, d time.Duration) { asOf[m.id].Store(uint64(time.Now().Add(-d).UnixMilli())) }
		bound := func(level quorum.Level, d time.Duration) coord.Get {
			g := get("k")
			g.Level, g.MaxStaleness, g.Deadline = level, d, time.Now().Add(2*time.Second)
			return g
		}
		for _, m := range []*member{owners[0], out} {
			if _, err := m.get(t, bound(quorum.LocalQuorum, time.Hour)); err == nil || err.Code != coord.CodeStale || err.Seen != "unknown" {
				t.Errorf("nothing was ever heard: %v", err)
			}
		}
		ago(owners[0], 10*time.Second)
		ago(owners[1], time.Second)
		ago(owners[2], time.Second)
		if _, err := owners[0].get(t, bound(quorum.LocalOne, 2*time.Second)); err == nil || err.Code != coord.CodeStale ||
			err.Field != "max_staleness_ms" || err.Limit != "2000" || err.Seen != "10000" || len(err.MissingFrom) != 1 || err.MissingFrom[0] != "west" {
			t.Errorf("this owner is 10 s old: %+v", err)
		}
		g := bound(quorum.LocalQuorum, 2*time.Second)
		g.Freshness = true
		got := owners[0].mustGet(t, g)
		if f := got.Achieved.Freshness; len(f) != 1 || f[0].Region != "west" || f[0].CompleteAsOf != int64(asOf[owners[1].id].Load()) {
			t.Errorf("receipt %+v", f)
		}
		if got := owners[0].mustGet(t, bound(quorum.LocalQuorum, 2*time.Second)); got.Achieved.Freshness != nil {
			t.Error("a receipt that nobody asked for")
		}
		// It is waited for until the deadline, and no longer than needed.
		g = bound(quorum.LocalOne, 500*time.Millisecond)
		g.WaitFresh = true
		began := time.Now()
		o := out.startGet(t, g)
		time.Sleep(time.Second)
		for _, m := range owners {
			ago(m, 0)
		}
		if _, err := o.wait(); err != nil || o.at.Sub(began) > 1200*time.Millisecond {
			t.Errorf("after %v: %v", o.at.Sub(began), err)
		}
		time.Sleep(time.Second)
		g.Deadline = time.Now().Add(time.Second)
		o = out.startGet(t, g)
		if _, err := o.wait(); err == nil || err.Code != coord.CodeStale {
			t.Errorf("%v", err)
		}
		if n := out.Stats().TooOld.Load(); n == 0 {
			t.Error("not counted")
		}
	})
}
