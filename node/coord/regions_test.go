package coord_test

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/quorum"
	"github.com/atolldb/atoll/node/storage/memstore"
	"github.com/atolldb/atoll/node/topology"
)

// newRegions starts so many regions of n nodes on one network, without a stream
// between them: what coord does not carry over stays where it is.
func newRegions(t *testing.T, count, n int) []*region {
	fabric := testFabric()
	var all []*region
	for i := range count {
		name := string(rune('a' + i))
		all = append(all, layOut(t, topology.Region(name), topology.RegionID(i+1), name, n, fabric))
	}
	for i, r := range all {
		r.others = slices.Delete(slices.Clone(all), i, i+1)
		r.startAll(memstore.Config{})
	}
	for _, r := range all {
		for _, m := range r.nodes {
			r.catchUp(m)
		}
	}
	return all
}

// cut takes all links between two regions, and everybody notices or nobody does.
func cut(a, b *region) {
	a.fabric.Partition(a.ids(), b.ids())
}

func (r *region) ids() (out []topology.NodeID) {
	for id := range r.nodes {
		out = append(out, id)
	}
	slices.Sort(out)
	return out
}

// lose takes all nodes of a region off the network.
func (r *region) lose(noticed bool) {
	for _, id := range r.ids() {
		r.fabric.Down(id)
		r.believe(id, noticed)
	}
}

// copies is how many owners of a region have a value of a key.
func (r *region) copies(t *testing.T, k, value string) (n int) {
	t.Helper()
	for _, o := range r.owners("default", k) {
		for _, v := range o.held(t, "default", k).Versions {
			if string(v.Value) == value {
				n++
			}
		}
	}
	return n
}

func leveled(k, v string, l quorum.Level) coord.Put {
	p := put(k, v)
	p.Level = l
	return p
}

func states(a coord.Achieved) string {
	s := ""
	for _, g := range a.Regions {
		s += fmt.Sprintf("%s:%s ", g.Region, [...]string{"", "reached", "failed", "unknown"}[g.State])
	}
	return s
}

// An acknowledged write is where its level says, before anything else carries it,
// through an owner and through a node that forwards it.
func TestWritesReachRegions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := newRegions(t, 3, 4)
		a := all[0]
		for i, c := range []struct {
			level    quorum.Level
			regions  int
			others   int // with inEach owners
			inEach   int
			reached  quorum.Level
			describe string
		}{
			{quorum.LocalQuorum, 0, 0, 0, quorum.LocalQuorum, ""},
			{quorum.LocalQuorum, 1, 0, 0, quorum.LocalQuorum, ""},
			{quorum.Quorum, 0, 1, 2, quorum.Quorum, ""},
			{quorum.EachQuorum, 0, 2, 2, quorum.EachQuorum, "a:reached b:reached c:reached "},
			{quorum.All, 0, 2, 3, quorum.All, "a:reached b:reached c:reached "},
			{quorum.LocalQuorum, 2, 1, 2, quorum.Quorum, ""},
			{quorum.LocalAll, 3, 2, 3, quorum.All, "a:reached b:reached c:reached "},
		} {
			for _, via := range []string{"owner", "outsider"} {
				k := fmt.Sprint("k", i, via)
				m := a.owners("default", k)[0]
				if via == "outsider" {
					m = a.outsider("default", k)
				}
				p := leveled(k, "v", c.level)
				p.Regions = c.regions
				o := m.startPut(t, p)
				res, err := o.wait()
				if err != nil {
					t.Fatalf("%v: %v", c, err)
				}
				met := 0
				for _, r := range all[1:] {
					if n := r.copies(t, k, "v"); n >= c.inEach && n > 0 {
						met++
					}
				}
				if met < c.others {
					t.Errorf("%v via %s: acknowledged with %d other regions", c, via, met)
				}
				if res.Achieved.Reached < c.reached || c.describe != "" && states(res.Achieved) != c.describe {
					t.Errorf("%v via %s: %+v", c, via, res.Achieved)
				}
				if c.others == 0 && met > 0 {
					t.Errorf("%v via %s: a local level left the region", c, via)
				}
				a.settle()
			}
		}
	})
}

// What was never sent before it was durable: no region has what its minter lacks.
func TestRegionsGetWhatIsDurable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := newRegions(t, 2, 3)
		a := all[0].owners("default", "k")[0]
		a.mustPut(t, leveled("k", "v", quorum.EachQuorum))
		first := -1
		for i, m := range a.wire.requests() {
			if m.verb == peer.VerbRegionApply && first < 0 {
				first = i
			}
			if m.verb == peer.VerbApply && first >= 0 {
				t.Error("the region was asked before the own owners")
			}
		}
		if first < 0 {
			t.Fatal("nothing was sent")
		}
	})
}

// A write that is not where it should be in time, or cannot get there, is
// PARTIAL: it holds here, the error says who has it, and nothing is taken back.
func TestPartial(t *testing.T) {
	for name, c := range map[string]struct {
		level   quorum.Level
		arrange func(all []*region)
		states  string
		acks    int
		atOnce  bool // and not at the deadline
	}{
		"one owner too few there": {quorum.EachQuorum, func(all []*region) {
			for _, o := range all[1].owners("default", "k")[:2] {
				all[1].fabric.Down(o.id)
				all[1].believe(o.id, true)
			}
		}, "a:reached b:unknown c:reached ", 2, false},
		"a region is silent": {quorum.EachQuorum, func(all []*region) { cut(all[0], all[2]) }, "a:reached b:reached c:unknown ", 2, false},
		"all others are silent": {quorum.Quorum, func(all []*region) {
			cut(all[0], all[1])
			cut(all[0], all[2])
		}, "a:reached b:unknown c:unknown ", 1, false},
		"all of everything": {quorum.All, func(all []*region) {
			o := all[2].owners("default", "k")[1]
			all[2].fabric.Down(o.id)
		}, "a:reached b:reached c:unknown ", 2, false},
		"a region goes down meanwhile": {quorum.EachQuorum, func(all []*region) {
			cut(all[0], all[2])
			time.AfterFunc(300*time.Millisecond, func() { all[2].lose(true) })
		}, "a:reached b:reached c:failed ", 2, true},
	} {
		for _, via := range []string{"owner", "outsider"} {
			t.Run(name+" via "+via, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					all := newRegions(t, 3, 4)
					m := all[0].owners("default", "k")[0]
					if via == "outsider" {
						m = all[0].outsider("default", "k")
					}
					c.arrange(all)
					began := time.Now()
					_, err := m.put(t, leveled("k", "v", c.level))
					took := time.Since(began)
					if err == nil || err.Code != coord.CodePartial || err.Outcome != coord.Applied || err.Applied == nil {
						t.Fatalf("%+v", err)
					}
					if states(err.Applied.Achieved) != c.states || err.Acks != c.acks || err.Lacks != coord.LackRegions {
						t.Errorf("%s, %d of %d: %v", states(err.Applied.Achieved), err.Acks, err.Needed, err)
					}
					if err.Applied.Version == (crdt.Dot{}) || len(err.Applied.Context) == 0 {
						t.Errorf("nothing to go on with: %+v", err.Applied)
					}
					if took >= patience || c.atOnce != (took < patience/2) {
						t.Errorf("it took %v", took)
					}
					if got := m.mustGet(t, get("k")); !slices.Equal(live(got.View), []string{"v"}) {
						t.Errorf("it does not hold: %v", live(got.View))
					}
				})
			})
		}
	}
}

// A write that is known to be impossible is refused before it is minted; and one
// that fails here is the error that it would be without regions.
func TestRegionsRefusedEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := newRegions(t, 3, 3)
		a := all[0].owners("default", "k")[0]
		all[1].lose(true)
		if _, err := a.put(t, leveled("k", "v", quorum.EachQuorum)); err == nil || err.Code != coord.CodeUnavailable || err.Outcome != coord.NotApplied || err.Needed != 3 || err.Acks != 2 || err.Lacks != coord.LackRegions {
			t.Errorf("each quorum without a region: %+v", err)
		}
		g := get("k")
		g.Level = quorum.EachQuorum
		if _, err := a.get(t, g); err == nil || err.Code != coord.CodeUnavailable || err.Lacks != coord.LackRegions {
			t.Errorf("a read: %+v", err)
		}
		if n := all[0].copies(t, "k", "v") + all[2].copies(t, "k", "v"); n != 0 {
			t.Errorf("%d owners have what was not applied", n)
		}
		a.mustPut(t, leveled("k", "w", quorum.Quorum))
		// Too few owners here: not applied, whatever other regions could do.
		for _, o := range all[0].owners("default", "k")[1:] {
			all[0].kill(o.id)
		}
		if _, err := a.put(t, leveled("k", "x", quorum.Quorum)); err == nil || err.Code != coord.CodeUnavailable || err.Outcome != coord.NotApplied || err.Lacks != coord.LackOwners {
			t.Errorf("without a quorum here: %+v", err)
		}
	})
}

// Regions that are not there are bad input.
func TestRegionsBadInput(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := newRegions(t, 2, 3)
		m := all[0].nodes["an1"]
		for _, n := range []int{3, 64, -1} {
			p := put("k", "v")
			p.Regions = n
			g := get("k")
			g.Regions = n
			_, err := m.put(t, p)
			_, gerr := m.get(t, g)
			for _, e := range []*coord.Error{err, gerr} {
				if e == nil || e.Code != coord.CodeInvalid || e.Field != "regions" || e.Limit != "1..2" || e.Seen != fmt.Sprint(n) {
					t.Errorf("regions %d: %+v", n, e)
				}
			}
		}
		if n := all[0].copies(t, "k", "v"); n != 0 {
			t.Errorf("stored by %d", n)
		}
	})
}

// A read sees what its level says, and leaves the regions that it asked equal.
func TestReadsReachRegions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := newRegions(t, 3, 4)
		read := func(r *region, k string, l quorum.Level) []string {
			g := get(k)
			g.Level = l
			res := r.outsider("default", k).mustGet(t, g)
			if l.Regional() && res.Achieved.Reached < l {
				t.Errorf("%v: %+v", l, res.Achieved)
			}
			return live(res.View)
		}
		for _, l := range []quorum.Level{quorum.EachQuorum, quorum.All} {
			k := "lone" + l.String()
			all[1].outsider("default", k).mustPut(t, put(k, "v"))
			if got := read(all[0], k, quorum.LocalAll); len(got) != 0 {
				t.Fatalf("a local read sees another region: %v", got)
			}
			if got := read(all[0], k, l); !slices.Equal(got, []string{"v"}) {
				t.Errorf("%v sees %v", l, got)
			}
			all[0].settle()
			for _, r := range all {
				if n := r.copies(t, k, "v"); n != 3 {
					t.Errorf("%v: %d owners of %s have it after the read", l, n, r.top.Region)
				}
			}
		}
		// A quorum of quorums meets another one wherever that was.
		all[1].outsider("default", "q").mustPut(t, leveled("q", "v", quorum.Quorum))
		for _, r := range all {
			if got := read(r, "q", quorum.Quorum); !slices.Equal(got, []string{"v"}) {
				t.Errorf("quorum at %s: %v", r.top.Region, got)
			}
		}
		// Absent everywhere is an answer too.
		if got := read(all[0], "none", quorum.All); len(got) != 0 {
			t.Errorf("%v", got)
		}
		// One region more or less does not matter to a quorum of three.
		all[2].lose(true)
		if got := read(all[0], "q", quorum.Quorum); !slices.Equal(got, []string{"v"}) {
			t.Errorf("without c: %v", got)
		}
	})
}

// A read across regions ends in time, and says which one was missing.
func TestReadsDoNotWaitForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := newRegions(t, 2, 3)
		m := all[0].nodes["an1"]
		cut(all[0], all[1])
		g := get("k")
		g.Level = quorum.Quorum
		began := time.Now()
		_, err := m.get(t, g)
		if took := time.Since(began); err == nil || err.Code != coord.CodeDeadline || err.Needed != 2 || err.Acks != 1 || took >= patience {
			t.Errorf("%v: %+v", took, err)
		}
	})
}

// One node of a region that does not answer does not matter: another one is
// asked, and a region that was away for a moment is asked again.
func TestErrandsGoElsewhere(t *testing.T) {
	for name, arrange := range map[string]func(all []*region, k string){
		"the first is silent": func(all []*region, k string) {
			id := all[1].owners("default", k)[0].id
			for _, m := range all[0].nodes {
				m.wire.answers(peer.VerbRegionApply, id, time.Hour, peer.ErrTimeout)
			}
		},
		"no owner can be reached": func(all []*region, k string) {
			for _, o := range all[1].owners("default", k) {
				for _, m := range all[0].nodes {
					m.wire.answers(peer.VerbRegionApply, o.id, 1, peer.ErrNotSent)
				}
			}
		},
		"a short cut": func(all []*region, _ string) {
			cut(all[0], all[1])
			time.AfterFunc(700*time.Millisecond, all[0].fabric.HealAll)
		},
		"too few owners for a moment": func(all []*region, k string) {
			for _, o := range all[1].owners("default", k)[:2] {
				all[1].kill(o.id)
				time.AfterFunc(700*time.Millisecond, func() {
					all[1].fabric.Up(o.id)
					all[1].believe(o.id, false)
				})
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				all := newRegions(t, 2, 5)
				arrange(all, "k")
				res := all[0].outsider("default", "k").mustPut(t, leveled("k", "v", quorum.EachQuorum))
				if res.Achieved.Reached != quorum.EachQuorum || all[1].copies(t, "k", "v") < 2 {
					t.Errorf("%+v", res.Achieved)
				}
				time.Sleep(2 * time.Hour)
			})
		})
	}
}

// What does not decode, or asks for what cannot be, is refused.
func TestRegionRequestsBadInput(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := newRegions(t, 2, 3)
		m := all[0].nodes["an1"]
		for verb, bodies := range map[peer.Verb][][]byte{
			peer.VerbRegionApply: {nil, {4, 0}, {99, 0, 1, 1, 'k', 0, 0}, {4, 9, 1, 1, 'k', 0, 0}},
			peer.VerbRegionRead:  {nil, {4, 0, 0, 0}, {99, 0, 1, 'k', 0}, {4, 9, 1, 'k', 0}},
		} {
			for _, body := range bodies {
				done := make(chan error, 1)
				m.wire.Transport.Send("bn1", peer.Request{Verb: verb, Timeout: time.Second, Body: body}, func(_ []byte, err error) { done <- err })
				if err := <-done; err == nil {
					t.Errorf("verb %d, %x: accepted", verb, body)
				}
			}
		}
	})
}
