package coord_test

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/quorum"
	"github.com/atolldb/atoll/node/topology"
)

func sloppy(k, v string) coord.Put {
	p := put(k, v)
	p.Sloppy = true
	return p
}

// outsiders are the nodes that do not own the key.
func (r *region) outsiders(k string) []*member {
	var out []*member
	for _, m := range r.all() {
		if !m.replica.Owns(r.partition("default", k)) {
			out = append(out, m)
		}
	}
	return out
}

// kept is for whom a node keeps hints.
func (m *member) kept() (owners []topology.NodeID) {
	for _, o := range m.hints.Owed() {
		for range o.Count {
			owners = append(owners, o.Owner)
		}
	}
	return owners
}

// Where too few owners can acknowledge, a sloppy write is acknowledged by nodes
// that stand in, and says so; a strict one is not begun. It takes one owner.
func TestSloppyWrite(t *testing.T) {
	for name, c := range map[string]struct {
		arrange func(r *region, a *member, gone []*member)
		within  time.Duration
	}{
		"known to be down": {func(r *region, _ *member, gone []*member) {
			for _, m := range gone {
				r.kill(m.id)
			}
		}, 10 * time.Millisecond},
		"not reachable": {func(_ *region, a *member, gone []*member) {
			for _, m := range gone {
				a.wire.answers(peer.VerbApply, m.id, time.Millisecond, peer.ErrNotSent)
			}
		}, 10 * time.Millisecond},
		"refusing": {func(_ *region, a *member, gone []*member) {
			for _, m := range gone {
				a.wire.answers(peer.VerbApply, m.id, time.Millisecond, &peer.Refusal{Code: peer.CodeFull})
			}
		}, 10 * time.Millisecond},
		"silent": {func(_ *region, a *member, gone []*member) {
			for _, m := range gone {
				a.wire.answers(peer.VerbApply, m.id, time.Hour, peer.ErrTimeout)
			}
		}, 210 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRegion(t, 5)
				owners, outs := r.owners("default", "k"), r.outsiders("k")
				a := owners[0]
				c.arrange(r, a, owners[1:])
				if res, err := a.put(t, put("k", "strict")); err == nil {
					t.Errorf("strict: %+v", res)
				}
				for _, m := range []*member{a, outs[0]} {
					began := time.Now()
					o := m.startPut(t, sloppy("k", "v"))
					res, err := o.wait()
					if err != nil {
						t.Fatalf("via %s: %v", m.id, err)
					}
					if took := o.at.Sub(began); took > c.within {
						t.Errorf("via %s: took %v", m.id, took)
					}
					who := res.Achieved
					if !who.Degraded || !slices.Equal(who.Replicas, []topology.NodeID{a.id}) || len(who.Hinted) != 1 || who.Needed != 2 || who.Coordinator != a.id {
						t.Errorf("via %s: %+v", m.id, who)
					}
					by := r.nodes[who.Hinted[0]]
					if !slices.Contains(outs, by) || len(by.kept()) != 1 {
						t.Errorf("via %s: %s keeps hints for %v", m.id, by.id, by.kept())
					}
					if a.held(t, "default", "k").Find(res.Version) == nil {
						t.Error("the owner does not have it")
					}
				}
				time.Sleep(2 * time.Hour)
			})
		})
	}
}

// A sloppy write is a strict one as long as enough owners acknowledge.
func TestSloppyIsStrictWherePossible(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t, 5)
		owners := r.owners("default", "k")
		r.kill(owners[2].id)
		res := owners[0].mustPut(t, sloppy("k", "v"))
		if len(res.Achieved.Hinted) > 0 || len(res.Achieved.Replicas) != 2 || owners[0].wire.count(peer.VerbHint) > 0 || owners[0].Stats().Hints.Load() > 0 {
			t.Errorf("%+v", res.Achieved)
		}
		// Everybody is wanted, and one stands in for the one that is away.
		p := sloppy("k", "w")
		p.Level = quorum.LocalAll
		res = owners[0].mustPut(t, p)
		if len(res.Achieved.Hinted) != 1 || len(res.Achieved.Replicas) != 2 || !res.Achieved.Degraded {
			t.Errorf("%+v", res.Achieved)
		}
		if kept := r.nodes[res.Achieved.Hinted[0]].kept(); !slices.Equal(kept, []topology.NodeID{owners[2].id}) {
			t.Errorf("it keeps hints for %v", kept)
		}
	})
}

// A bucket can be sloppy, wherever its writes come in.
func TestSloppyBucket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t, 5)
		owners := r.owners("loose", "k")
		r.kill(owners[0].id)
		r.kill(owners[1].id)
		for _, m := range []*member{owners[2], r.outsider("loose", "k")} {
			p := put("k", "v")
			p.Bucket = "loose"
			if res := m.mustPut(t, p); len(res.Achieved.Hinted) != 1 || !res.Achieved.Degraded {
				t.Errorf("via %s: %+v", m.id, res.Achieved)
			}
		}
	})
}

// A stand-in that refuses does not vote: another one is asked; when there is
// none the write fails, and says honestly how.
func TestStandInsThatRefuse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t, 5)
		owners, outs := r.owners("default", "k"), r.outsiders("k")
		a := owners[0]
		r.kill(owners[1].id)
		r.kill(owners[2].id)
		first := a.mustPut(t, sloppy("k", "v")).Achieved.Hinted[0]
		a.wire.answers(peer.VerbHint, first, time.Millisecond, &peer.Refusal{Code: peer.CodeFull})
		if res := a.mustPut(t, sloppy("k", "v")); len(res.Achieved.Hinted) != 1 || res.Achieved.Hinted[0] == first {
			t.Errorf("%+v", res.Achieved)
		}
		a.wire.answers(peer.VerbHint, "", time.Millisecond, &peer.Refusal{Code: peer.CodeFull})
		if _, err := a.put(t, sloppy("k", "v")); err == nil || err.Code != coord.CodeUnavailable || err.Outcome != coord.Unknown || err.Acks != 1 {
			t.Errorf("%+v", err)
		}
		a.wire.clear()
		// One stand-in is left, and two are needed.
		for _, m := range outs[1:] {
			r.kill(m.id)
		}
		p := sloppy("k", "v")
		p.Level = quorum.LocalAll
		a.wire.reset()
		if _, err := a.put(t, p); err == nil || err.Outcome != coord.NotApplied || len(a.wire.requests()) > 0 {
			t.Errorf("%+v", err)
		}
		a.mustPut(t, sloppy("k", "v"))
		// Without an owner nobody mints.
		r.kill(a.id)
		if _, err := outs[0].put(t, sloppy("k", "v")); err == nil || err.Outcome != coord.NotApplied {
			t.Errorf("%+v", err)
		}
	})
}

// An owner that answers late counts all the same, and once, whether stand-ins
// are silent or refuse meanwhile.
func TestLateOwnerOfASloppyWrite(t *testing.T) {
	for name, no := range map[string]struct {
		after time.Duration
		err   error
	}{
		"silent":  {time.Hour, peer.ErrTimeout},
		"refuses": {time.Millisecond, &peer.Refusal{Code: peer.CodeFull}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRegion(t, 5)
				owners := r.owners("default", "k")
				a := owners[0]
				a.wire.answers(peer.VerbHint, "", no.after, no.err)
				a.wire.answers(peer.VerbApply, owners[1].id, time.Hour, peer.ErrTimeout)
				a.wire.answers(peer.VerbApply, owners[2].id, 500*time.Millisecond, nil)
				o := a.startPut(t, sloppy("k", "v"))
				began := time.Now()
				res, err := o.wait()
				if err != nil || o.at.Sub(began) != 500*time.Millisecond || len(res.Achieved.Hinted) > 0 ||
					!slices.Equal(res.Achieved.Replicas, []topology.NodeID{a.id, owners[2].id}) {
					t.Errorf("after %v: %+v, %v", o.at.Sub(began), res.Achieved, err)
				}
				time.Sleep(2 * time.Hour)
			})
		})
	}
}

// While a slot moves, somebody stands in for each of its nodes that is away.
func TestSloppyWhileASlotMoves(t *testing.T) {
	for _, gone := range []string{"d", "b", "bd", "bcd", "a", "abc"} {
		t.Run(fmt.Sprintf("%q away", gone), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRegion(t, 8)
				owners, outs := r.owners("default", "k"), r.outsiders("k")
				d := outs[0]
				r.adopt(r.move("k", 0, owners[0].id, d.id, topology.Copying), r.all()...)
				named := map[rune]*member{'a': owners[0], 'b': owners[1], 'c': owners[2], 'd': d}
				var away []topology.NodeID
				for _, name := range gone {
					r.kill(named[name].id)
					away = append(away, named[name].id)
				}
				slices.Sort(away)
				p := sloppy("k", "v")
				p.Level = quorum.LocalAll
				res, err := outs[1].put(t, p)
				if gone == "abc" {
					// d may not mint.
					if err == nil || err.Outcome != coord.NotApplied {
						t.Errorf("%+v, %+v", res, err)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				var kept []topology.NodeID
				for _, id := range res.Achieved.Hinted {
					kept = append(kept, r.nodes[id].kept()...)
				}
				slices.Sort(kept)
				if !slices.Equal(kept, away) || len(res.Achieved.Replicas)+len(res.Achieved.Hinted) != 4 {
					t.Errorf("%+v: hints for %v", res.Achieved, kept)
				}
			})
		})
	}
}

// A stand-in that knows a newer topology does not vote by the old one: the write
// learns it, and goes to those who have the key now.
func TestStandInThatKnowsMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t, 6)
		owners, outs := r.owners("default", "k"), r.outsiders("k")
		a, d := owners[0], outs[0]
		r.kill(owners[1].id)
		r.kill(owners[2].id)
		// d takes over from b.
		r.adopt(r.move("k", 1, owners[1].id, d.id, topology.Copying), outs...)
		res := a.mustPut(t, sloppy("k", "v"))
		if a.replica.Topology().Epoch != r.top.Epoch || len(res.Achieved.Hinted) == 0 {
			t.Errorf("%+v at epoch %d", res.Achieved, a.replica.Topology().Epoch)
		}
		if d.held(t, "default", "k").Find(res.Version) == nil {
			t.Error("the next owner does not have it")
		}
		if slices.Contains(res.Achieved.Hinted, d.id) {
			t.Errorf("who takes writes stands in: %+v", res.Achieved)
		}
	})
}
