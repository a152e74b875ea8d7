package coord_test

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/quorum"
	"github.com/atolldb/atoll/node/topology"
)

// miss writes a value that one owner does not get.
func (r *region) miss(owner *member, k, v string) coord.PutResult {
	r.t.Helper()
	for _, m := range r.nodes {
		m.wire.answers(peer.VerbApply, owner.id, time.Millisecond, peer.ErrNotSent)
	}
	res := r.owners("default", k)[0].mustPut(r.t, put(k, v))
	r.settle()
	for _, m := range r.nodes {
		m.wire.mu.Lock()
		m.wire.answer = nil
		m.wire.mu.Unlock()
		m.wire.reset()
	}
	return res
}

// A read that meets different records shows the join, and gives it to those
// that lacked some of it.
func TestReadRepair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t, 4)
		owners := r.owners("default", "k")
		out := r.outsider("default", "k")
		all := get("k")
		all.Level = quorum.LocalAll
		for i, m := range []*member{out, owners[2], owners[1]} {
			version := r.miss(owners[2], "k", "v").Version
			got := m.mustGet(t, all)
			if len(got.View.Live) != i+1 {
				t.Fatalf("via %s: %q", m.id, live(got.View))
			}
			r.settle()
			if owners[2].held(t, "default", "k").Find(version) == nil {
				t.Errorf("via %s: not repaired", m.id)
			}
			if n := m.Stats().ReadRepairs.Load(); n != 1 || m.wire.count(peer.VerbApply) > 1 {
				t.Errorf("via %s: %d repairs, %d sent", m.id, n, m.wire.count(peer.VerbApply))
			}
			m.wire.reset()
			m.mustGet(t, all)
			r.settle()
			if m.wire.count(peer.VerbApply) > 0 || m.Stats().ReadRepairs.Load() != 1 {
				t.Errorf("via %s: repaired again", m.id)
			}
		}
	})
}

// Siblings that no owner has all of come together, and all owners get all.
func TestReadRepairBothWays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t, 3)
		owners := r.owners("default", "k")
		r.fabric.Partition([]topology.NodeID{owners[0].id}, []topology.NodeID{owners[1].id, owners[2].id})
		p := put("k", "a")
		p.Level = quorum.LocalOne
		owners[0].mustPut(t, p)
		r.believe(owners[0].id, true)
		owners[1].mustPut(t, put("k", "b"))
		r.believe(owners[0].id, false)
		r.fabric.HealAll()
		all := get("k")
		all.Level = quorum.LocalAll
		got := owners[2].mustGet(t, all)
		if !slices.Equal(live(got.View), []string{"a", "b"}) {
			t.Fatalf("shows %q", live(got.View))
		}
		r.settle()
		for _, o := range owners {
			if n := len(o.held(t, "default", "k").Versions); n != 2 {
				t.Errorf("%s has %d versions", o.id, n)
			}
		}
		// The context covers both.
		p = put("k", "c")
		p.Context = got.Context
		owners[2].mustPut(t, p)
		if got := owners[1].mustGet(t, all); !slices.Equal(live(got.View), []string{"c"}) {
			t.Errorf("shows %q", live(got.View))
		}
	})
}

// A quorum read asks as many owners as it needs, itself first, and one more
// after a while, or at once for one that fails.
func TestHedging(t *testing.T) {
	t.Run("nothing is wrong", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newRegion(t, 4)
			owners := r.owners("default", "k")
			owners[0].mustPut(t, put("k", "v"))
			got := owners[1].mustGet(t, get("k"))
			if n := owners[1].wire.count(peer.VerbRead); n != 1 || !slices.Contains(got.Achieved.Replicas, owners[1].id) {
				t.Errorf("asked %d others, %+v", n, got.Achieved)
			}
			g := get("k")
			g.Level = quorum.LocalOne
			if owners[1].mustGet(t, g); owners[1].wire.count(peer.VerbRead) != 1 {
				t.Error("one is enough, and it asked another")
			}
			out := r.outsider("default", "k")
			if out.mustGet(t, get("k")); out.wire.count(peer.VerbRead) != 2 || out.Stats().Hedges.Load() != 0 {
				t.Errorf("asked %d", out.wire.count(peer.VerbRead))
			}
		})
	})
	t.Run("one is slow", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newRegion(t, 4)
			out := r.outsider("default", "k")
			out.mustPut(t, put("k", "v"))
			slow := r.owners("default", "k")[1]
			out.wire.answers(peer.VerbRead, slow.id, time.Second, peer.ErrTimeout)
			began := time.Now()
			o := out.startGet(t, get("k"))
			got, err := o.wait()
			if took := o.at.Sub(began); err != nil || took > 30*time.Millisecond {
				t.Errorf("after %v: %v", took, err)
			}
			if slices.Contains(got.Achieved.Replicas, slow.id) || out.wire.count(peer.VerbRead) > 3 {
				t.Errorf("%+v", got.Achieved)
			}
		})
	})
	t.Run("one fails", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newRegion(t, 4)
			out := r.outsider("default", "k")
			out.mustPut(t, put("k", "v"))
			r.settle()
			bad := r.owners("default", "k")[1]
			bad.disk.CorruptValue(recordKey(coord.FullKey("default", []byte("k"))))
			for _, m := range []*member{out, bad} {
				began := time.Now()
				o := m.startGet(t, get("k"))
				got, err := o.wait()
				if took := o.at.Sub(began); err != nil || took > 10*time.Millisecond {
					t.Errorf("via %s after %v: %v", m.id, took, err)
				}
				if slices.Contains(got.Achieved.Replicas, bad.id) || !slices.Equal(live(got.View), []string{"v"}) {
					t.Errorf("via %s: %+v", m.id, got)
				}
			}
			g := get("k")
			g.Level = quorum.LocalOne
			if got := bad.mustGet(t, g); !slices.Equal(live(got.View), []string{"v"}) {
				t.Errorf("%+v", got)
			}
			g.Level = quorum.LocalAll
			if _, err := out.get(t, g); err == nil || err.Code != coord.CodeUnavailable || err.Acks > 2 || !strings.Contains(err.Detail, "corrupt") {
				t.Errorf("%+v", err)
			}
		})
	})
	t.Run("garbage instead of a record", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newRegion(t, 4)
			out := r.outsider("default", "k")
			out.mustPut(t, put("k", "v"))
			bad := r.owners("default", "k")[1]
			out.wire.mu.Lock()
			out.wire.answer = func(to topology.NodeID, req peer.Request) (time.Duration, []byte, error, bool) {
				return time.Millisecond, []byte("garbage"), nil, to == bad.id && req.Verb == peer.VerbRead
			}
			out.wire.mu.Unlock()
			if got := out.mustGet(t, get("k")); slices.Contains(got.Achieved.Replicas, bad.id) || !slices.Equal(live(got.View), []string{"v"}) {
				t.Errorf("%+v", got)
			}
		})
	})
}

// An answer that comes after the read has ended is dropped.
func TestLateAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t, 4)
		out := r.outsider("default", "k")
		out.mustPut(t, put("k", "v"))
		for i, o := range r.owners("default", "k") {
			out.wire.answers(peer.VerbRead, o.id, time.Duration(3+i)*time.Second, nil)
		}
		o := out.startGet(t, get("k"))
		if _, err := o.wait(); err == nil || err.Code != coord.CodeDeadline || err.Acks != 0 {
			t.Errorf("%+v", err)
		}
		time.Sleep(10 * time.Second) // K1 is checked by o
	})
}

// A context is for its key, and made by this deployment: TestBadInput. Here:
// absent keys have none, deleted ones do.
func TestContexts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t, 4)
		out := r.outsider("default", "k")
		if got := out.mustGet(t, get("k")); got.Context != nil || len(got.View.Live) > 0 {
			t.Errorf("absent: %+v", got)
		}
		first := out.mustPut(t, put("k", "v"))
		p := put("k", "w")
		p.Context = first.Context
		second := out.mustPut(t, p)
		if got := out.mustGet(t, get("k")); !slices.Equal(live(got.View), []string{"w"}) {
			t.Errorf("a write that follows the answer to a write leaves %q", live(got.View))
		}
		full := coord.FullKey("default", []byte("k"))
		c, err := crdt.DecodeContext(crdt.Keys{secret}, full, second.Context)
		if err != nil || !c.Seen.Covers(first.Version) || !c.Seen.Covers(second.Version) || c.Stamp != second.Stamp {
			t.Errorf("%+v, %v", c, err)
		}
		out.mustPut(t, coord.Put{Key: []byte("k"), Delete: true})
		if got := out.mustGet(t, get("k")); len(got.Context) == 0 || len(got.View.Live) > 0 {
			t.Errorf("deleted: %+v", got)
		}
	})
}

func TestFullKey(t *testing.T) {
	for _, c := range [][2]string{{"b", "k"}, {"bucket", "key\x00with\x00nuls"}, {"b", ""}} {
		b, k := coord.SplitKey(coord.FullKey(c[0], []byte(c[1])))
		if b != c[0] || string(k) != c[1] {
			t.Errorf("%q: %q %q", c, b, k)
		}
	}
	if b, k := coord.SplitKey([]byte("no nul")); b != "" || string(k) != "no nul" {
		t.Errorf("%q %q", b, k)
	}
}
