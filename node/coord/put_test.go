package coord_test

import (
	"errors"
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
	"github.com/atolldb/atoll/node/replica"
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

// A write goes once to the first live owner, which mints it.
func TestForward(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t, 4)
		out, owners := r.outsider("default", "k"), r.owners("default", "k")
		first := out.mustPut(t, put("k", "v"))
		if first.Version.Actor != owners[0].replica.Actor() || first.Achieved.Coordinator != owners[0].id {
			t.Errorf("%+v: minted by %v", first, first.Version.Actor)
		}
		if n := out.wire.count(peer.VerbForward); n != 1 || out.Stats().Forwards.Load() != 1 {
			t.Errorf("forwarded %d times", n)
		}
		// An owner that is not the first forwards, too.
		p := put("k", "w")
		p.Context = first.Context
		second := owners[2].mustPut(t, p)
		if second.Version.Actor != first.Version.Actor || owners[2].wire.count(peer.VerbApply) > 0 {
			t.Errorf("%+v", second)
		}
		r.kill(owners[0].id)
		third := out.mustPut(t, put("k", "x"))
		if third.Version.Actor != owners[1].replica.Actor() || !third.Achieved.Degraded {
			t.Errorf("%+v", third)
		}
		got := out.mustGet(t, get("k"))
		if !slices.Equal(live(got.View), []string{"w", "x"}) || !got.Achieved.Degraded {
			t.Errorf("%q, %+v", live(got.View), got.Achieved)
		}
	})
}

// The next owner is asked only if the first one surely did nothing (K4), and
// the client is told which it was (K3).
func TestForwardThatFails(t *testing.T) {
	refuse := func(c peer.Code) error { return &peer.Refusal{Code: c, Detail: "because"} }
	for name, c := range map[string]struct {
		err  error
		goes bool
	}{
		"not sent":    {peer.ErrNotSent, true},
		"not tried":   {peer.ErrNotTried, true},
		"overloaded":  {refuse(peer.CodeOverloaded), true},
		"stopping":    {refuse(peer.CodeStopping), true},
		"expired":     {refuse(peer.CodeExpired), true},
		"stale epoch": {refuse(peer.CodeStaleEpoch), true},
		"timeout":     {peer.ErrTimeout, false},
		"link lost":   {peer.ErrLinkLost, false},
		"unknown":     {refuse(peer.CodeUnknown), false},
		"internal":    {refuse(peer.CodeInternal), false},
		"anything":    {errors.New("anything"), false},
		"no reply":    {nil, false}, // an empty body
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRegion(t, 4)
				out, owners := r.outsider("default", "k"), r.owners("default", "k")
				out.wire.answers(peer.VerbForward, owners[0].id, time.Millisecond, c.err)
				res, err := out.put(t, put("k", "v"))
				if c.goes {
					if err != nil || res.Version.Actor != owners[1].replica.Actor() {
						t.Errorf("%+v, %v", res, err)
					}
				} else if err == nil || err.Outcome != coord.Unknown {
					t.Errorf("%+v, %+v", res, err)
				}
				if n := out.wire.count(peer.VerbForward, owners[1].id); (n == 1) != c.goes || n > 1 {
					t.Errorf("forwarded %d times to the second", n)
				}
			})
		})
	}
}

// An owner that may not mint, or cannot, passes a write on; if none can, the
// client hears why, and that nothing was done.
func TestOwnersThatCannotMint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		registry := memtopo.New(1)
		registry.SetDown(true)
		r := newRegionOn(t, 4, registry, memstore.Config{})
		out, owners := r.outsider("default", "k"), r.owners("default", "k")
		for _, m := range []*member{out, owners[0], owners[2]} {
			_, err := m.put(t, put("k", "v"))
			if err == nil || err.Code != coord.CodeUnavailable || err.Outcome != coord.NotApplied || !strings.Contains(err.Detail, "no actor") {
				t.Errorf("via %s: %+v", m.id, err)
			}
		}
		if n := out.wire.count(peer.VerbForward); n != 3 {
			t.Errorf("asked %d owners", n)
		}
		r.settle()
		for _, o := range owners {
			if len(o.held(t, "default", "k").Versions) > 0 {
				t.Errorf("%s has what was not applied", o.id)
			}
		}
		registry.SetDown(false)
		time.Sleep(3 * time.Second)
		// One that cannot read what it has passes on as well.
		out.mustPut(t, put("k", "v"))
		r.settle()
		full := coord.FullKey("default", []byte("k"))
		owners[0].disk.CorruptValue(recordKey(full))
		for _, m := range []*member{out, owners[0]} {
			p := put("k", "w")
			p.Overwrite = true
			if res, err := m.put(t, p); err != nil || res.Version.Actor != owners[1].replica.Actor() {
				t.Errorf("via %s: %+v, %v", m.id, res, err)
			}
		}
	})
}

// With too few live owners nothing is begun.
func TestEarlyRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t, 4)
		out, owners := r.outsider("default", "k"), r.owners("default", "k")
		r.kill(owners[1].id)
		r.kill(owners[2].id)
		for _, m := range []*member{out, owners[0]} {
			m.wire.reset()
			_, err := m.put(t, put("k", "v"))
			if err == nil || err.Code != coord.CodeUnavailable || err.Outcome != coord.NotApplied ||
				err.Needed != 2 || err.Acks != 1 || err.RetryAfterMs == 0 ||
				!strings.Contains(err.Detail, string(owners[1].id)) || !strings.Contains(err.Detail, string(owners[2].id)) {
				t.Errorf("via %s: %+v", m.id, err)
			}
			if len(m.wire.sent) > 0 {
				t.Errorf("via %s: sent %+v", m.id, m.wire.sent)
			}
		}
		if len(owners[0].held(t, "default", "k").Versions) > 0 {
			t.Error("it was written all the same")
		}
		p := put("k", "v")
		p.Level = quorum.LocalOne
		if res := out.mustPut(t, p); !res.Achieved.Degraded || res.Achieved.Needed != 1 {
			t.Errorf("%+v", res)
		}
		r.kill(owners[0].id)
		if _, err := out.put(t, p); err == nil || err.Outcome != coord.NotApplied {
			t.Errorf("%+v", err)
		}
		if _, err := out.get(t, get("k")); err == nil || err.Code != coord.CodeUnavailable || err.Needed != 2 {
			t.Errorf("%+v", err)
		}
	})
}

// A write that reached too few owners may still take effect: it is never
// called "not applied".
func TestTooFewAcks(t *testing.T) {
	for name, err := range map[string]error{
		"not sent": peer.ErrNotSent,
		"refused":  &peer.Refusal{Code: peer.CodeFull},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRegion(t, 3)
				a := r.owners("default", "k")[0]
				a.wire.answers(peer.VerbApply, "", time.Millisecond, err)
				began := time.Now()
				_, e := a.put(t, put("k", "v"))
				if e == nil || e.Code != coord.CodeUnavailable || e.Outcome != coord.Unknown {
					t.Errorf("%+v", e)
				}
				if took := time.Since(began); took > 10*time.Millisecond {
					t.Errorf("found out only after %v", took)
				}
				if a.Stats().Missed.Load() != 2 {
					t.Errorf("%d missed", a.Stats().Missed.Load())
				}
			})
		})
	}
}

// A sync that failed leaves open what became of the write, also when others may
// have it by then.
func TestFailedSync(t *testing.T) {
	for name, err := range map[string]error{"peers are silent": peer.ErrTimeout, "peers never got it": peer.ErrNotSent} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRegion(t, 3)
				a := r.owners("default", "k")[0]
				a.wire.answers(peer.VerbApply, "", time.Hour, err)
				a.disk.FailNextSync()
				began := time.Now()
				_, e := a.put(t, put("k", "v"))
				if e == nil || e.Outcome != coord.Unknown || e.Code != coord.CodeInternal || time.Since(began) > time.Second {
					t.Errorf("after %v: %+v", time.Since(began), e)
				}
				time.Sleep(2 * time.Hour)
			})
		})
	}
}

// An owner that is behind helps to no quorum of reads and mints nothing; it is
// passed over.
func TestBehindOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegionOn(t, 3, memtopo.New(1), memstore.Config{}, func(c *replica.Config) { c.Replicated = true })
		owners := r.owners("default", "k")
		catchUp := func(m *member) {
			for _, p := range m.replica.Owned() {
				m.replica.CaughtUp(p)
			}
			r.settle()
		}
		if _, err := owners[1].put(t, put("k", "v")); err == nil || err.Code != coord.CodeUnavailable || err.Outcome != coord.NotApplied || !strings.Contains(err.Detail, "catching up") {
			t.Errorf("all are behind: %+v", err)
		}
		catchUp(owners[1])
		res := owners[0].mustPut(t, put("k", "v"))
		if res.Version.Actor != owners[1].replica.Actor() {
			t.Errorf("minted by %v", res.Version.Actor)
		}
		if _, err := owners[1].get(t, get("k")); err == nil || err.Code != coord.CodeUnavailable {
			t.Errorf("a read of two of which one is behind: %+v", err)
		}
		if _, _, err := owners[1].export(t, ""); err == nil {
			t.Error("an export over one owner")
		}
		catchUp(owners[2])
		for _, m := range owners {
			got := m.mustGet(t, get("k"))
			if !slices.Equal(live(got.View), []string{"v"}) || slices.Contains(got.Achieved.Replicas, owners[0].id) {
				t.Errorf("via %s: %q of %v", m.id, live(got.View), got.Achieved.Replicas)
			}
		}
		if keys, _, err := owners[0].export(t, ""); len(keys) != 1 || err != nil {
			t.Errorf("exports %q, %v", keys, err)
		}
	})
}

// The client is answered at its deadline, once, whatever comes later (K1): a
// disk that stalls, peers that are silent, a node that then finds out that it
// cannot mint and would pass the write on.
func TestDeadline(t *testing.T) {
	for name, arrange := range map[string]func(r *region, a *member){
		"silent peers": func(_ *region, a *member) { a.wire.answers(peer.VerbApply, "", 3*time.Second, peer.ErrTimeout) },
		"late peers":   func(_ *region, a *member) { a.wire.answers(peer.VerbApply, "", 3*time.Second, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRegion(t, 3)
				a := r.owners("default", "k")[0]
				arrange(r, a)
				began := time.Now()
				o := a.startPut(t, put("k", "v"))
				_, err := o.wait()
				if err == nil || err.Code != coord.CodeDeadline || err.Outcome != coord.Unknown || o.at.Sub(began) != patience {
					t.Errorf("after %v: %+v", o.at.Sub(began), err)
				}
				time.Sleep(10 * time.Second)
			})
		})
	}
	t.Run("stalled disk, then no actor", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newRegionOn(t, 3, memtopo.New(1), memstore.Config{SyncMin: 5 * time.Second})
			time.Sleep(20 * time.Second)
			a := r.owners("default", "k")[0]
			// The first write takes 5 s to sync; the second one waits behind it,
			// and is decided after the actor has ended.
			first := a.startPut(t, put("k", "first"))
			synctest.Wait()
			r.registry.SetDown(true)
			amnesia := crdt.Context{Seen: crdt.VV(nil).With(crdt.Dot{Actor: a.replica.Actor(), N: 99})}
			full := coord.FullKey("default", []byte("k"))
			p := put("k", "second")
			p.Context = crdt.AppendContext(nil, secret, keyHash(full), amnesia)
			second := a.startPut(t, p)
			third := a.startPut(t, put("k", "third"))
			for _, o := range []*once[coord.PutResult]{first, second, third} {
				if _, err := o.wait(); err == nil || err.Outcome != coord.Unknown {
					t.Errorf("%+v", err)
				}
			}
			time.Sleep(time.Minute)
			if n := a.wire.count(peer.VerbForward); n > 0 {
				t.Errorf("forwarded %d writes that were given up", n)
			}
			r.registry.SetDown(false)
		})
	})
}

// What has expired is not begun.
func TestExpired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t, 4)
		for _, m := range []*member{r.outsider("default", "k"), r.owners("default", "k")[0]} {
			p := put("k", "v")
			p.Deadline = time.Now()
			if _, err := m.put(t, p); err == nil || err.Code != coord.CodeDeadline || err.Outcome != coord.NotApplied {
				t.Errorf("put via %s: %+v", m.id, err)
			}
			g := get("k")
			g.Deadline = time.Now().Add(-time.Second)
			if _, err := m.get(t, g); err == nil || err.Code != coord.CodeDeadline || err.Outcome != coord.NotApplied {
				t.Errorf("get via %s: %+v", m.id, err)
			}
			if len(m.wire.sent) > 0 {
				t.Errorf("sent %+v", m.wire.sent)
			}
		}
		r.settle()
		for _, o := range r.owners("default", "k") {
			if len(o.held(t, "default", "k").Versions) > 0 {
				t.Errorf("%s has it", o.id)
			}
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

// Bad input is named: the field, what is allowed, what came. Nothing is sent.
func TestBadInput(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t, 4)
		a := r.owners("default", "k")[0]
		context := a.mustPut(t, put("k", "v")).Context
		a.wire.reset()
		with := func(change func(p *coord.Put)) coord.Put {
			p := put("k", "v")
			change(&p)
			return p
		}
		for name, c := range map[string]struct {
			p                  coord.Put
			code               coord.Code
			field, limit, seen string
			alsoGet            bool
		}{
			"no such bucket":   {with(func(p *coord.Put) { p.Bucket = "none" }), coord.CodeNoBucket, "bucket", "a configured bucket", `"none"`, true},
			"long bucket":      {with(func(p *coord.Put) { p.Bucket = strings.Repeat("b", 64) }), coord.CodeNoBucket, "bucket", "a configured bucket", `"` + strings.Repeat("b", 63) + `"...`, true},
			"empty key":        {with(func(p *coord.Put) { p.Key = nil }), coord.CodeInvalid, "key", "1..1024 bytes", "0 bytes", true},
			"long key":         {with(func(p *coord.Put) { p.Key = make([]byte, 1025) }), coord.CodeInvalid, "key", "1024 bytes", "1025 bytes", true},
			"large value":      {with(func(p *coord.Put) { p.Value = make([]byte, 1<<20+1) }), coord.CodeInvalid, "value", "1048576 bytes", "1048577 bytes", false},
			"bucket's limit":   {with(func(p *coord.Put) { p.Bucket, p.Value = "small", make([]byte, 11) }), coord.CodeInvalid, "value", "10 bytes", "11 bytes", false},
			"negative ttl":     {with(func(p *coord.Put) { p.TTL = -1 }), coord.CodeInvalid, "ttl", "0..876000h0m0s", "-1ns", false},
			"ttl of 101 years": {with(func(p *coord.Put) { p.TTL = 101 * 365 * 24 * time.Hour }), coord.CodeInvalid, "ttl", "0..876000h0m0s", "884760h0m0s", false},
			"ttl below 1 ms":   {with(func(p *coord.Put) { p.TTL = time.Millisecond - 1 }), coord.CodeInvalid, "ttl", "whole milliseconds", "999.999µs", false},
			"negative w":       {with(func(p *coord.Put) { p.W = -1 }), coord.CodeInvalid, "w", "1..3", "-1", false},
			"w of 4 of 3":      {with(func(p *coord.Put) { p.W = 4 }), coord.CodeInvalid, "w", "1..3", "4", false},
			"level 6":          {with(func(p *coord.Put) { p.Level = 6 }), coord.CodeInvalid, "level", "0..5", "6", true},
			"level 6 and w":    {with(func(p *coord.Put) { p.Level, p.W = 6, 1 }), coord.CodeInvalid, "level", "0..5", "6", false},
			"junk context":     {with(func(p *coord.Put) { p.Context = []byte("junk") }), coord.CodeBadContext, "context", "a context that was returned for this key", "4 bytes", false},
			"foreign context":  {with(func(p *coord.Put) { p.Key, p.Context = []byte("k2"), context }), coord.CodeBadContext, "context", "a context that was returned for this key", fmt.Sprint(len(context), " bytes"), false},
			"changed context": {with(func(p *coord.Put) {
				p.Context = slices.Clone(context)
				p.Context[20] ^= 1
			}), coord.CodeBadContext, "context", "a context that was returned for this key", fmt.Sprint(len(context), " bytes"), false},
		} {
			check := func(what string, e *coord.Error) {
				t.Helper()
				if e == nil || e.Code != c.code || e.Outcome != coord.NotApplied || e.Field != c.field || e.Limit != c.limit || e.Seen != c.seen || e.Detail == "" {
					t.Errorf("%s: %s: %+v", name, what, e)
				}
			}
			_, e := a.put(t, c.p)
			check("put", e)
			if c.alsoGet {
				_, e := a.get(t, coord.Get{Bucket: c.p.Bucket, Key: c.p.Key, Level: c.p.Level})
				check("get", e)
			}
		}
		for _, n := range []int{-1, 4} {
			if _, e := a.get(t, coord.Get{Key: []byte("k"), R: n}); e == nil || e.Field != "r" || e.Limit != "1..3" || e.Seen != fmt.Sprint(n) {
				t.Errorf("r of %d: %+v", n, e)
			}
		}
		if len(a.wire.sent) > 0 {
			t.Errorf("sent %+v", a.wire.sent)
		}
		// The bounds themselves are fine.
		for _, p := range []coord.Put{
			with(func(p *coord.Put) { p.Key = make([]byte, 1024) }),
			with(func(p *coord.Put) { p.Value = make([]byte, 1<<20) }),
			with(func(p *coord.Put) { p.Value = nil }),
			with(func(p *coord.Put) { p.Bucket, p.Value = "small", make([]byte, 10) }),
			with(func(p *coord.Put) { p.TTL = time.Millisecond }),
			with(func(p *coord.Put) { p.TTL = 100 * 365 * 24 * time.Hour }),
			with(func(p *coord.Put) { p.W = 3 }),
			with(func(p *coord.Put) { p.Context = context }),
			with(func(p *coord.Put) { p.Bucket, p.Value = "large", make([]byte, 8<<20) }),
		} {
			a.mustPut(t, p)
		}
	})
}
