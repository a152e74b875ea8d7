package coord_test

import (
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/peer/memnet"
	"github.com/atolldb/atoll/node/topology"
)

// request is the n-th id that is made now.
func request(n byte) coord.RequestID {
	return crdt.MakeRequestID(time.Now().UnixMilli(), [10]byte{9: n})
}

// named is a blind put of a value with a request id.
func named(k, v string, id coord.RequestID) coord.Put {
	p := put(k, v)
	p.RequestID = id
	return p
}

func values(rec crdt.Record) (out []string) {
	for i := range rec.Versions {
		out = append(out, string(rec.Versions[i].Value))
	}
	slices.Sort(out)
	return out
}

// holds fails unless all owners have exactly these versions.
func (r *region) holds(k string, want ...string) {
	r.t.Helper()
	r.settle()
	for _, o := range r.owners("default", k) {
		if got := values(o.held(r.t, "default", k)); !slices.Equal(got, want) {
			r.t.Errorf("%s holds %q, want %q", o.id, got, want)
		}
	}
}

// A forwarded write that the network delivers twice is one event, and so is one
// that is sent again to the same minter.
func TestForwardedTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t, 4)
		via := r.outsider("default", "k")
		id := request(1)
		via.wire.twice(peer.VerbForward)
		first, err := via.put(t, named("k", "v", id))
		if err != nil {
			t.Fatal(err)
		}
		r.holds("k", "v")
		again, err := via.put(t, named("k", "v", id))
		if err != nil || !again.Replayed || again.Version != first.Version || again.Stamp != first.Stamp {
			t.Errorf("%+v, %+v, %v", first, again, err)
		}
		r.holds("k", "v")
		via.wire.twice(0)
		// Without an id, nobody could know.
		if _, err := via.put(t, put("k", "v")); err != nil {
			t.Error(err)
		}
		r.holds("k", "v", "v")
	})
}

// A replay gives the write to those who missed it, so that it is acknowledged by
// as many as the level asks for.
func TestReplaySpreads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t, 3)
		a := r.owners("default", "k")[0]
		id := request(1)
		a.wire.answers(peer.VerbApply, "", time.Millisecond, peer.ErrNotSent)
		if _, err := a.put(t, named("k", "v", id)); err == nil || err.Outcome != coord.Unknown {
			t.Fatalf("%+v", err)
		}
		a.wire.clear()
		res, err := a.put(t, named("k", "v", id))
		if err != nil || !res.Replayed || len(res.Achieved.Replicas) < 2 {
			t.Fatalf("%+v, %v", res, err)
		}
		r.holds("k", "v")
	})
}

// again is a retry of what named puts.
func again(k, v string, id coord.RequestID) coord.Put {
	p := named(k, v, id)
	p.Retry = true
	return p
}

// outcome asks what became of a request.
func (m *member) outcome(t *testing.T, k string, id coord.RequestID) coord.OutcomeResult {
	t.Helper()
	o := newOnce[coord.OutcomeResult](t)
	m.Outcome(coord.OutcomeQuery{Key: []byte(k), RequestID: id, Deadline: time.Now().Add(patience)}, o.done)
	res, err := o.wait()
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// grown is a region whose owners' memory reaches back for longer than clocks are
// off.
func grown(t *testing.T, n int) *region {
	r := newRegion(t, n)
	time.Sleep(time.Minute)
	return r
}

// A retry is the event that there is, wherever that was minted and whoever has
// it; where nobody has it, it is minted, once, and surely; where somebody cannot
// be asked, it is minted and said to be perhaps there twice.
func TestRetry(t *testing.T) {
	t.Run("an owner has it", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := grown(t, 4)
			via, os, id := r.outsider("default", "k"), r.owners("default", "k"), request(1)
			via.wire.loses(peer.VerbForward)
			if _, err := via.put(t, named("k", "v", id)); err == nil || err.Outcome != coord.Unknown {
				t.Fatalf("%+v", err)
			}
			via.wire.loses(0)
			// The first one to be tried is another now.
			r.believe(os[0].id, true)
			r.fabric.Down(os[0].id)
			res, err := via.put(t, again("k", "v", id))
			if err != nil || !res.Replayed || res.MaybeDuplicate || len(res.Achieved.Replicas) < 2 {
				t.Fatalf("%+v, %v", res, err)
			}
			r.believe(os[0].id, false)
			r.fabric.Up(os[0].id)
			r.holds("k", "v")
		})
	})
	t.Run("one owner alone has it", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := grown(t, 3)
			os, id := r.owners("default", "k"), request(1)
			os[2].wire.answers(peer.VerbApply, "", time.Millisecond, peer.ErrNotSent)
			r.slows(os[0].id, os[1].id) // so that it is routed to the third
			if _, err := os[2].put(t, named("k", "v", id)); err == nil || err.Outcome != coord.Unknown {
				t.Fatalf("%+v", err)
			}
			os[2].wire.clear()
			r.slows()
			res, err := os[0].put(t, again("k", "v", id))
			if err != nil || !res.Replayed || res.MaybeDuplicate || len(res.Achieved.Replicas) < 2 {
				t.Fatalf("%+v, %v", res, err)
			}
			r.holds("k", "v")
		})
	})
	t.Run("nobody has it", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := grown(t, 4)
			via, id := r.outsider("default", "k"), request(1)
			res, err := via.put(t, again("k", "v", id))
			if err != nil || res.Replayed || res.MaybeDuplicate {
				t.Fatalf("%+v, %v", res, err)
			}
			// The first attempt comes late.
			first, err := via.put(t, named("k", "v", id))
			if err != nil || !first.Replayed || first.Version != res.Version {
				t.Fatalf("%+v, %v", first, err)
			}
			r.holds("k", "v")
		})
	})
	t.Run("nobody can tell", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := grown(t, 3)
			os := r.owners("default", "k")
			for n, arrange := range map[byte]func() (undo func()){
				1: func() func() {
					r.kill(os[2].id)
					return func() { r.fabric.Up(os[2].id); r.believe(os[2].id, false) }
				},
				2: func() func() {
					os[0].wire.answers(peer.VerbOutcome, os[1].id, time.Hour, peer.ErrTimeout)
					return os[0].wire.clear
				},
				3: func() func() {
					os[0].wire.answers(peer.VerbOutcome, os[1].id, time.Millisecond, &peer.Refusal{Code: peer.CodeBehind})
					return os[0].wire.clear
				},
			} {
				undo := arrange()
				res, err := os[0].put(t, again("k", "v", request(n)))
				if err != nil || res.Replayed || !res.MaybeDuplicate {
					t.Errorf("%d: %+v, %v", n, res, err)
				}
				undo()
			}
			random := request(4)
			random[6] = 0x40
			if res, err := os[0].put(t, again("k", "v", random)); err != nil || !res.MaybeDuplicate {
				t.Errorf("an id of no time: %+v, %v", res, err)
			}
			time.Sleep(2 * time.Hour)
		})
	})
}

// Two attempts that meet: at most one is carried out, and the errors of the
// others leave the outcome open.
func TestAttemptsRace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := grown(t, 4)
		r.fabric.SetAll(memnet.Faults{MinDelay: 10 * time.Microsecond, MaxDelay: 10 * time.Millisecond})
		rng := rand.New(rand.NewPCG(1, 2))
		for n := range byte(100) {
			id := request(n)
			k := string([]byte{'k', n})
			os := r.owners("default", k)
			var all []*once[coord.PutResult]
			for i, m := range os {
				p := again(k, "v", id)
				if i == int(n)%4 {
					p.Retry = false
				}
				// Each would have itself mint.
				m.wire.answers(peer.VerbForward, "", time.Microsecond, peer.ErrNotSent)
				all = append(all, m.startPut(t, p))
				time.Sleep(time.Duration(rng.Int64N(int64(10 * time.Millisecond))))
			}
			done := 0
			for _, o := range all {
				if _, err := o.wait(); err == nil {
					done++
				} else if err.Outcome != coord.Unknown {
					t.Errorf("%+v", err)
				}
			}
			for _, m := range os {
				m.wire.clear()
			}
			res, err := os[0].put(t, again(k, "v", id))
			if err != nil || done > 0 && !res.Replayed {
				t.Errorf("after %d: %+v, %v", done, res, err)
			}
			r.holds(k, "v")
		}
	})
}

// An error of a retry says "not applied" only when all owners have said so.
func TestErrorsOfRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := grown(t, 4)
		os := r.owners("default", "k")
		via := r.outsider("default", "k")
		failed := func(what string, m *member, p coord.Put, code coord.Code, outcome coord.Outcome) {
			t.Helper()
			if _, err := m.put(t, p); err == nil || err.Code != code || err.Outcome != outcome {
				t.Errorf("%s: %+v", what, err)
			}
		}
		for _, m := range []*member{os[0], via} {
			p := again("k", "v", request(1))
			p.Deadline = time.Now()
			failed("no time left", m, p, coord.CodeDeadline, coord.Unknown)
			failed("no id", m, again("k", "v", coord.RequestID{}), coord.CodeInvalid, coord.NotApplied)
			p = again("k", "v", request(1))
			p.Value = make([]byte, coord.DefaultMaxValue+1)
			failed("what may have been good input to the first attempt", m, p, coord.CodeInvalid, coord.Unknown)
			p = again("k", "v", request(2))
			p.Condition.Kind = crdt.IfPresent
			failed("all said no, and the condition does not hold", m, p, coord.CodeConditionFailed, coord.NotApplied)
			r.kill(os[2].id)
			failed("one could not say no", m, p, coord.CodeConditionFailed, coord.Unknown)
			r.fabric.Up(os[2].id)
			r.believe(os[2].id, false)
		}
		old := crdt.MakeRequestID(time.Now().Add(-11*time.Minute).UnixMilli(), [10]byte{1})
		failed("older than the window", via, named("k", "v", old), coord.CodeInvalid, coord.NotApplied)
		failed("a retry that is older", via, again("k", "v", old), coord.CodeInvalid, coord.Unknown)
		r.holds("k")
	})
}

// What became of a write is told by all owners, and asking ends it.
func TestOutcome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := grown(t, 4)
		os := r.owners("default", "k")
		via := r.outsider("default", "k")
		id := request(1)
		done, err := via.put(t, named("k", "v", id))
		if err != nil {
			t.Fatal(err)
		}
		r.settle()
		res := via.outcome(t, "k", id)
		if res.Outcome != coord.Applied || res.Version != done.Version || res.Stamp != done.Stamp || len(res.Replicas) != 3 || res.Asked != 3 || res.Answered != 3 {
			t.Errorf("%+v", res)
		}
		r.kill(os[0].id)
		if res := via.outcome(t, "k", id); res.Outcome != coord.Applied || len(res.Replicas) != 2 {
			t.Errorf("one down: %+v", res)
		}
		if res := via.outcome(t, "k", request(2)); res.Outcome != coord.Unknown || res.Asked != 3 || res.Answered != 2 || res.Forgotten {
			t.Errorf("one down: %+v", res)
		}
		r.fabric.Up(os[0].id)
		r.believe(os[0].id, false)
		late := request(3)
		if res := via.outcome(t, "k", late); res.Outcome != coord.NotApplied {
			t.Errorf("%+v", res)
		}
		for what, p := range map[string]coord.Put{"first": named("k", "late", late), "retry": again("k", "late", late)} {
			if _, err := via.put(t, p); err == nil {
				t.Errorf("the %s attempt was carried out after its outcome was told", what)
			}
		}
		time.Sleep(11 * time.Minute)
		if res := via.outcome(t, "k", id); res.Outcome != coord.Unknown || !res.Forgotten {
			t.Errorf("after the window: %+v", res)
		}
		r.holds("k", "v")
		o := newOnce[coord.OutcomeResult](t)
		via.Outcome(coord.OutcomeQuery{Key: []byte("k"), Deadline: time.Now().Add(patience)}, o.done)
		if _, err := o.wait(); err == nil || err.Field != "request_id" {
			t.Errorf("no id: %+v", err)
		}
	})
}

// slows has all nodes find these slow, and no others.
func (r *region) slows(ids ...topology.NodeID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.late = map[topology.NodeID]bool{}
	for _, id := range ids {
		r.late[id] = true
	}
}
