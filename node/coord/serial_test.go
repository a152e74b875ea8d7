package coord_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/quorum"
)

func serialPut(k, v string, cond crdt.Condition) coord.Put {
	p := put(k, v)
	p.Level, p.Condition = quorum.LocalSerial, cond
	return p
}

func serialGet(k string) coord.Get {
	g := get(k)
	g.Level = quorum.LocalSerial
	return g
}

func ifVersion(d crdt.Dot) crdt.Condition { return crdt.Condition{Kind: crdt.IfVersion, Version: d} }

var ifAbsent = crdt.Condition{Kind: crdt.IfAbsent}

// Conditional writes by every node, of whatever key, do what their conditions
// say, and all owners come to hold the same.
func TestConditions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t, 4)
		for _, m := range r.nodes {
			k := "k of " + string(m.id)
			first := m.mustPut(t, serialPut(k, "1", ifAbsent))
			if !first.Version.Actor.IsBallot() || first.Event.IsZero() || first.Event.Actor.IsBallot() {
				t.Fatalf("via %s: %+v", m.id, first)
			}
			if _, err := m.put(t, serialPut(k, "2", ifAbsent)); err == nil || err.Code != coord.CodeConditionFailed ||
				err.Outcome != coord.NotApplied || err.Current == nil || fmt.Sprint(live(err.Current.View)) != "[1]" || len(err.Current.Context) == 0 {
				t.Fatalf("via %s: %+v", m.id, err)
			}
			second := m.mustPut(t, serialPut(k, "3", ifVersion(first.Version)))
			if _, err := m.put(t, serialPut(k, "4", ifVersion(first.Version))); err == nil || err.Code != coord.CodeConditionFailed {
				t.Fatalf("via %s: the same version twice: %v", m.id, err)
			}
			// A plain write beside it is seen, and makes the condition fail.
			m.mustPut(t, put(k, "plain"))
			if _, err := m.put(t, serialPut(k, "5", ifVersion(second.Version))); err == nil || len(err.Current.View.Live) != 2 {
				t.Fatalf("via %s: with a sibling: %+v", m.id, err)
			}
			got := m.mustGet(t, serialGet(k))
			p := serialPut(k, "6", crdt.Condition{Kind: crdt.IfContext})
			p.Context = got.Context
			m.mustPut(t, p)
			if _, err := m.put(t, p); err == nil || err.Code != coord.CodeConditionFailed {
				t.Fatalf("via %s: a context twice: %v", m.id, err)
			}
			if got := m.mustGet(t, get(k)); fmt.Sprint(live(got.View)) != "[6]" {
				t.Fatalf("via %s: %q", m.id, live(got.View))
			}
			del := serialPut(k, "", crdt.Condition{Kind: crdt.IfPresent})
			del.Delete, del.Value = true, nil
			m.mustPut(t, del)
			if _, err := m.put(t, del); err == nil || err.Code != coord.CodeConditionFailed || len(err.Current.View.Live) != 0 {
				t.Fatalf("via %s: deleted twice: %v", m.id, err)
			}
			m.mustPut(t, serialPut(k, "7", ifAbsent))
			if got := m.mustGet(t, serialGet(k)); fmt.Sprint(live(got.View)) != "[7]" {
				t.Fatalf("via %s: %q", m.id, live(got.View))
			}
			r.settle()
			owners := r.owners("default", k)
			for _, o := range owners {
				if rec := o.held(t, "default", k); !rec.SameDots(owners[0].held(t, "default", k)) || len(rec.Versions) != 1 {
					t.Errorf("via %s: %s holds %d versions", m.id, o.id, len(rec.Versions))
				}
				if n := o.replica.SerialPendingCount(); n != 0 {
					t.Errorf("via %s: %d pending at %s", m.id, n, o.id)
				}
				p := r.partition("default", k)
				if a, b := o.replica.Sum(p), owners[0].replica.Sum(p); a != b {
					t.Errorf("via %s: %s has %+v, not %+v", m.id, o.id, a, b)
				}
			}
		}
	})
}

// What was decided is in clocks by its event alone.
func TestSerialEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t, 3)
		m := r.owners("default", "k")[0]
		var last coord.PutResult
		for i := range 5 {
			last = m.mustPut(t, serialPut("k", fmt.Sprint(i), crdt.Condition{}))
		}
		r.settle()
		for _, o := range r.nodes {
			clock := o.replica.Clock(r.partition("default", "k"))
			if n := clock.Base(last.Event.Actor); n != 5 {
				t.Errorf("%s: %d events delivered", o.id, n)
			}
			for _, a := range clock.Actors() {
				if a.IsBallot() {
					t.Errorf("%s: a ballot in the clock", o.id)
				}
			}
		}
	})
}

// In the steady state a write takes one round trip: an Accept to each of the
// others, and no Prepare.
func TestSteadyState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t, 3)
		m := r.owners("default", "k")[0]
		time.Sleep(time.Second) // until new acceptors take the ballots of now
		res := m.mustPut(t, serialPut("k", "0", ifAbsent))
		m.wire.reset()
		const n = 10
		for i := range n {
			res = m.mustPut(t, serialPut("k", fmt.Sprint(i), ifVersion(res.Version)))
		}
		if sent := m.wire.count(peer.VerbSerial); sent != 2*n {
			t.Errorf("%d messages for %d writes", sent, n)
		}
		if sent := m.wire.count(peer.VerbApply); sent != 0 {
			t.Errorf("%d records sent besides", sent)
		}
	})
}

// A quorum read finds what was acknowledged although nobody was told of it.
func TestReadFinishes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t, 3)
		owners := r.owners("default", "k")
		owners[0].mustPut(t, serialPut("k", "1", ifAbsent))
		owners[0].wire.answers(peer.VerbSerial, owners[1].id, time.Hour, peer.ErrTimeout)
		owners[0].wire.answers(peer.VerbSerial, owners[2].id, time.Hour, peer.ErrTimeout)
		// It is not told of now.
		r.believe(owners[0].id, true)
		if got := owners[1].mustGet(t, get("k")); fmt.Sprint(live(got.View)) != "[1]" {
			t.Errorf("%q", live(got.View))
		}
		if n := owners[1].Stats().Serials.Load() + owners[2].Stats().Serials.Load(); n == 0 {
			t.Error("nothing was undecided")
		}
		if _, err := owners[2].put(t, serialPut("k", "2", ifAbsent)); err == nil || err.Code != coord.CodeConditionFailed {
			t.Errorf("%v", err)
		}
	})
}

// Sixteen clients increment a counter by compare and set, through all nodes.
func TestCounter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t, 4)
		var nodes []*member
		for _, m := range r.nodes {
			nodes = append(nodes, m)
		}
		const clients, each = 16, 20
		done := make(chan int)
		for c := range clients {
			m := nodes[c%len(nodes)]
			go func() {
				failed := 0
				for n := 0; n < each; {
					got := m.mustGet(t, serialGet("counter"))
					p := serialPut("counter", "1", ifAbsent)
					if l := got.View.Live; len(l) == 1 {
						var v int
						fmt.Sscan(string(l[0].Value), &v)
						p.Value, p.Condition = fmt.Append(nil, v+1), ifVersion(l[0].Dot)
					}
					_, err := m.put(t, p)
					switch {
					case err == nil:
						n++
					case err.Code == coord.CodeConditionFailed:
						failed++
					default:
						t.Errorf("%+v", err)
						n++
					}
				}
				done <- failed
			}()
		}
		failed := 0
		for range clients {
			failed += <-done
		}
		if got := nodes[0].mustGet(t, serialGet("counter")); fmt.Sprint(live(got.View)) != fmt.Sprintf("[%d]", clients*each) {
			t.Errorf("%q", live(got.View))
		}
		t.Logf("%d writes, %d conditions that did not hold", clients*each, failed)
	})
}
