package coord_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/geo"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/quorum"
	"github.com/atolldb/atoll/node/topology"
)

// learn has m ask a peer for its topology, in a round trip of 2 ms.
func (r *region) learn(m *member) func(topology.NodeID, func()) {
	return func(from topology.NodeID, then func()) {
		time.AfterFunc(2*time.Millisecond, func() {
			m.replica.Adopt(r.nodes[from].replica.Topology(), func(error) { then() })
		})
	}
}

// move puts a move of the key's partition under way, or in another stage, and
// returns the topology by which it is. Nobody knows it yet.
func (r *region) move(k string, slot int, from, to topology.NodeID, stage topology.Stage) *topology.Topology {
	p := r.partition("default", k)
	t := r.top.Clone()
	t.Epoch++
	if t.Since == nil {
		t.Since = slices.Repeat([]topology.Epoch{1}, t.Table.Partitions())
	}
	t.Since[p] = t.Epoch
	t.Tasks = []topology.Task{{ID: 1, Kind: topology.KindRebalance, Moves: 1, Begun: 1}}
	t.Moves = []topology.Move{{ID: 1, Task: 1, Partition: p, Slot: slot, From: from, To: to, Stage: stage, Began: t.Epoch}}
	r.top = t
	return t
}

// adopt has members go by a topology.
func (r *region) adopt(t *topology.Topology, members ...*member) {
	r.t.Helper()
	for _, m := range members {
		m.replica.Adopt(t, func(err error) {
			if err != nil {
				r.t.Error(err)
			}
		})
	}
	r.settle()
}

func (r *region) all() []*member {
	var out []*member
	for _, m := range r.top.Members {
		out = append(out, r.nodes[m.ID])
	}
	return out
}

// A slot that moves counts when both its nodes have the write; reads go to the
// one that serves it. Of five nodes a, b and c own the key, d takes over from a.
func TestWritesWhileASlotMoves(t *testing.T) {
	for _, c := range []struct {
		level  quorum.Level
		silent string
		met    bool
	}{
		{quorum.LocalQuorum, "", true},
		{quorum.LocalQuorum, "d", true}, // b and c are two slots
		{quorum.LocalQuorum, "b", true}, // a with d, and c
		{quorum.LocalQuorum, "bd", false},
		{quorum.LocalQuorum, "bc", false},
		{quorum.LocalOne, "bc", true},
		{quorum.LocalOne, "bd", true},
		{quorum.LocalOne, "bcd", false},
		{quorum.LocalAll, "", true},
		{quorum.LocalAll, "d", false},
	} {
		for _, stage := range []topology.Stage{topology.Copying, topology.Switched} {
			t.Run(fmt.Sprintf("%v at %v, %q silent", c.level, stage, c.silent), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r := newRegion(t, 4)
					owners := r.owners("default", "k")
					d := r.outsider("default", "k")
					r.adopt(r.move("k", 0, owners[0].id, d.id, topology.Copying), r.all()...)
					r.catchUp(d)
					minter := owners[0]
					if stage == topology.Switched {
						r.adopt(r.move("k", 0, owners[0].id, d.id, topology.Switched), r.all()...)
						minter = d
					}
					named := map[rune]*member{'a': owners[0], 'b': owners[1], 'c': owners[2], 'd': d}
					for _, name := range c.silent {
						m := named[name]
						if m == minter {
							m = owners[0] // the other one of the slot
						}
						minter.wire.answers(peer.VerbApply, m.id, time.Hour, peer.ErrTimeout)
					}
					p := put("k", "v")
					p.Level = c.level
					res, err := minter.put(t, p)
					if c.met != (err == nil) {
						t.Fatalf("%+v, %v", res, err)
					}
					if err != nil && (err.Outcome != coord.Unknown || err.Code != coord.CodeDeadline) {
						t.Errorf("%+v", err)
					}
					if err == nil && (res.Version.Actor != minter.replica.Actor() || len(res.Achieved.Hinted) > 0 || res.Achieved.Degraded) {
						t.Errorf("%+v", res)
					}
					g := get("k")
					g.Level = quorum.LocalAll
					got := owners[1].mustGet(t, g)
					if !slices.Contains(got.Achieved.Replicas, minter.id) || len(got.Achieved.Replicas) != 3 || !slices.Equal(live(got.View), []string{"v"}) {
						t.Errorf("read of %v shows %q", got.Achieved.Replicas, live(got.View))
					}
					time.Sleep(2 * time.Hour)
				})
			})
		}
	}
}

// The node of a slot that is being added, or goes away, gets every write and
// counts for those only who want everybody.
func TestExtraTakesWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t, 4)
		owners := r.owners("default", "k")
		d := r.outsider("default", "k")
		r.adopt(r.move("k", 3, "", d.id, topology.Copying), r.all()...)
		a := owners[0]
		p := put("k", "v")
		p.Level = quorum.LocalAll
		if res := a.mustPut(t, p); res.Achieved.Needed != 4 || len(res.Achieved.Replicas) != 4 {
			t.Errorf("%+v", res.Achieved)
		}
		a.wire.answers(peer.VerbApply, d.id, time.Hour, peer.ErrTimeout)
		if _, err := a.put(t, p); err == nil || err.Acks != 3 || err.Needed != 4 {
			t.Errorf("without the fourth: %+v", err)
		}
		for _, p := range []coord.Put{put("k", "v"), {Key: []byte("k"), W: 3}} {
			if res := a.mustPut(t, p); slices.Contains(res.Achieved.Replicas, d.id) {
				t.Errorf("%+v", res.Achieved)
			}
		}
		// It acknowledges, which is no slot.
		a.wire.clear()
		for _, o := range owners[1:] {
			a.wire.answers(peer.VerbApply, o.id, time.Hour, peer.ErrTimeout)
		}
		if res, err := a.put(t, put("k", "v")); err == nil || err.Acks != 1 {
			t.Errorf("%+v, %+v", res, err)
		}
		r.kill(d.id)
		if _, err := a.put(t, p); err == nil || err.Outcome != coord.NotApplied || !strings.Contains(err.Detail, string(d.id)) {
			t.Errorf("everybody is wanted and one is known to be down: %+v", err)
		}
		time.Sleep(2 * time.Hour)
	})
}

// Whoever is behind learns, and the operation goes on: it is the coordinator,
// the minter, or one of those that are asked.
func TestTopologiesThatDiffer(t *testing.T) {
	for _, stage := range []topology.Stage{topology.Copying, topology.Switched} {
		for _, who := range []string{"coordinator", "minter", "all but the new owner", "only the new owner", "old owner"} {
			t.Run(fmt.Sprint(stage, ", behind: ", who), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r := newRegion(t, 5)
					owners := r.owners("default", "k")
					var outs []*member
					for _, m := range r.all() {
						if !m.replica.Owns(r.partition("default", "k")) {
							outs = append(outs, m)
						}
					}
					out, d := outs[0], outs[1]
					owners[0].mustPut(t, put("k", "before"))
					if stage == topology.Switched {
						r.adopt(r.move("k", 0, owners[0].id, d.id, topology.Copying), r.all()...)
						owners[0].mustPut(t, put("k", "more"))
						r.copyTo(d, owners[1], "k")
						r.catchUp(d)
					}
					next := r.move("k", 0, owners[0].id, d.id, stage)
					behind := map[string][]*member{
						"coordinator":           {out},
						"minter":                {owners[0], owners[1]},
						"all but the new owner": {out, owners[0], owners[1], owners[2]},
						"only the new owner":    {d},
						"old owner":             {owners[0]},
					}[who]
					for _, m := range r.all() {
						if !slices.Contains(behind, m) {
							r.adopt(next, m)
						}
					}
					if who == "only the new owner" || who == "old owner" {
						// Nobody tells it but the sender of what it got.
						time.AfterFunc(30*time.Millisecond, func() { behind[0].replica.Adopt(next, func(error) {}) })
					}
					p := put("k", "now")
					p.Level, p.Overwrite = quorum.LocalAll, true
					res, err := out.put(t, p)
					if err != nil {
						t.Fatalf("put: %v", err)
					}
					takers := append(owners, d)
					if stage == topology.Copying && who == "all but the new owner" {
						takers = owners // as if the move had not begun: nobody has met d
					}
					if n := len(res.Achieved.Replicas); n != len(takers) {
						t.Errorf("put: %+v", res.Achieved)
					}
					r.settle()
					for _, m := range takers {
						if m.held(t, "default", "k").Find(res.Version) == nil {
							t.Errorf("%s does not have it", m.id)
						}
					}
					g := get("k")
					g.Level = quorum.LocalAll
					if got := out.mustGet(t, g); !slices.Equal(live(got.View), []string{"now"}) {
						t.Errorf("get: %q of %v", live(got.View), got.Achieved.Replicas)
					}
					if err := out.applyRemote(oneEntry("k")); err != nil {
						t.Errorf("from another region: %v", err)
					}
				})
			})
		}
	}
}

// Who meets a newer topology begins anew, at once, with those who have the
// partition now.
func TestLearns(t *testing.T) {
	for name, run := range map[string]func(t *testing.T, out, gone, d *member){
		"read": func(t *testing.T, out, gone, d *member) {
			g := get("k")
			g.Level = quorum.LocalAll
			got := out.mustGet(t, g)
			if !slices.Contains(got.Achieved.Replicas, d.id) || slices.Contains(got.Achieved.Replicas, gone.id) {
				t.Errorf("%+v", got.Achieved)
			}
		},
		"write": func(t *testing.T, out, _, d *member) {
			if res := out.mustPut(t, put("k", "w")); res.Version.Actor != d.replica.Actor() {
				t.Errorf("%+v", res)
			}
		},
		"from another region": func(t *testing.T, out, _, d *member) {
			if err := out.applyRemote(oneEntry("k")); err != nil {
				t.Error(err)
			}
			if d.held(t, "default", "k").Find(remoteDot(1)) == nil {
				t.Error("the new owner does not have it")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRegion(t, 5)
				owners, out := r.owners("default", "k"), r.outsider("default", "k")
				var d *member
				for _, m := range r.all() {
					if !slices.Contains(owners, m) && m != out {
						d = m
					}
				}
				owners[0].mustPut(t, put("k", "v"))
				know := append(slices.Clone(owners), d)
				r.adopt(r.move("k", 0, owners[0].id, d.id, topology.Copying), know...)
				r.copyTo(d, owners[0], "k")
				r.catchUp(d)
				r.adopt(r.move("k", 0, owners[0].id, d.id, topology.Switched), know...)
				began := time.Now()
				run(t, out, owners[0], d)
				if took := time.Since(began); took > 9*time.Millisecond {
					t.Errorf("took %v", took)
				}
				if e := out.replica.Topology().Epoch; e != r.top.Epoch {
					t.Errorf("the coordinator goes by epoch %d", e)
				}
			})
		})
	}
}

// What is refused as stale and never clears up ends, soon and honestly.
func TestStaleForGood(t *testing.T) {
	for _, code := range []peer.Code{peer.CodeStaleEpoch, peer.CodeNotOwner} {
		t.Run(fmt.Sprint("code ", code), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRegion(t, 4)
				out, owners := r.outsider("default", "k"), r.owners("default", "k")
				no := &peer.Refusal{Code: code, Detail: "no"}
				for _, verb := range []peer.Verb{peer.VerbRead, peer.VerbForward, peer.VerbApply} {
					out.wire.answers(verb, "", time.Millisecond, no)
					owners[0].wire.answers(verb, "", time.Millisecond, no)
				}
				if _, err := out.get(t, get("k")); err == nil || err.Code != coord.CodeUnavailable {
					t.Errorf("get: %+v", err)
				}
				if n := out.wire.count(peer.VerbRead); n > 20 {
					t.Errorf("asked %d times", n)
				}
				if _, err := out.put(t, put("k", "v")); err == nil || err.Code != coord.CodeUnavailable || err.Outcome != coord.NotApplied {
					t.Errorf("put: %+v", err)
				}
				if n := out.wire.count(peer.VerbForward); n > 20 {
					t.Errorf("forwarded %d times", n)
				}
				if _, err := owners[0].put(t, put("k", "v")); err == nil || err.Code != coord.CodeUnavailable || err.Outcome != coord.Unknown {
					t.Errorf("put at the owner: %+v", err)
				}
				if n := owners[0].wire.count(peer.VerbApply); n > 20 {
					t.Errorf("applied %d times", n)
				}
				if err := out.applyRemote(oneEntry("k")); err == nil {
					t.Error("applied")
				}
			})
		})
	}
}

// A topology that changes again and again ends nobody's patience but the
// bound's: each refusal comes with a newer epoch.
func TestTopologyThatRunsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t, 4)
		out, owners := r.outsider("default", "k"), r.owners("default", "k")
		for _, m := range []*member{out, owners[0]} {
			m.wire.mu.Lock()
			m.wire.answer = func(to topology.NodeID, req peer.Request) (time.Duration, []byte, error, bool) {
				r.mu.Lock()
				defer r.mu.Unlock()
				next := r.top.Clone()
				next.Epoch++
				r.top = next
				r.nodes[to].replica.Adopt(next, func(error) {})
				return time.Millisecond, nil, &peer.Refusal{Code: peer.CodeStaleEpoch}, true
			}
			m.wire.mu.Unlock()
		}
		if _, err := out.get(t, get("k")); err == nil || err.Code != coord.CodeUnavailable {
			t.Errorf("get: %+v", err)
		}
		if _, err := out.put(t, put("k", "v")); err == nil || err.Outcome != coord.NotApplied {
			t.Errorf("put: %+v", err)
		}
		if _, err := owners[0].put(t, put("k", "v")); err == nil || err.Outcome != coord.Unknown {
			t.Errorf("put at the owner: %+v", err)
		}
		if n := len(out.wire.requests()) + len(owners[0].wire.requests()); n > 150 {
			t.Errorf("%d requests", n)
		}
	})
}

func oneEntry(k string) []geo.Entry { return []geo.Entry{remote(k, 1, "west")} }

func remoteDot(n uint64) crdt.Dot { return crdt.Dot{Actor: stranger, N: n} }
