package coord_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/quorum"
	"github.com/atolldb/atoll/node/topology"
)

var requests atomic.Uint32

func newID() coord.RequestID {
	n := requests.Add(1)
	return crdt.MakeRequestID(time.Now().UnixMilli(), [10]byte{byte(n), byte(n >> 8), 9})
}

func attempted(p coord.Put, id coord.RequestID, retry bool) coord.Put {
	p.RequestID, p.Retry = id, retry
	return p
}

// A conditional write that is sent again, through whatever node, is the write that
// it was, also after others have replaced it; and nothing is written.
func TestSerialRetryIsReplayed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := newRegions(t, 2, 3)
		time.Sleep(11 * time.Minute) // since when the owners remember
		for _, level := range []quorum.Level{quorum.LocalSerial, quorum.Serial} {
			k := "k" + level.String()
			nodes := all[0].members()
			if level == quorum.Serial {
				nodes = append(nodes, all[1].members()...)
			}
			p := homePut(k, "1", ifAbsent)
			p.Level = level
			id := newID()
			first := nodes[0].mustPut(t, attempted(p, id, false))
			events := func() (n uint64) {
				all[0].settle()
				clock := all[0].nodes["an1"].replica.Clock(all[0].partition("homed", k))
				for _, a := range clock.Actors() {
					n += clock.Base(a)
				}
				return n
			}
			n := events()
			again := func(when string) {
				t.Helper()
				for _, m := range nodes {
					res := m.mustPut(t, attempted(p, id, true))
					if !res.Replayed || res.MaybeDuplicate || res.Version != first.Version || res.Event != first.Event || res.Stamp != first.Stamp {
						t.Errorf("%s, via %s: %+v, was %+v", when, m.id, res, first)
					}
				}
			}
			again("at once")
			p2 := homePut(k, "2", ifVersion(first.Version))
			p2.Level = level
			second := nodes[len(nodes)-1].mustPut(t, attempted(p2, newID(), false))
			again("replaced")
			del := homePut(k, "", ifVersion(second.Version))
			del.Level, del.Delete, del.Value = level, true, nil
			nodes[1].mustPut(t, attempted(del, newID(), false))
			again("deleted")
			if got := events(); got != n+2 {
				t.Errorf("%d events, then %d", n, got)
			}
			out, err := outcomeOf(t, nodes[0], "homed", k, id)
			if err != nil || out.Outcome != coord.Applied || out.Version != first.Version {
				t.Errorf("%+v, %v", out, err)
			}
		}
	})
}

func outcomeOf(t *testing.T, m *member, bucket, k string, id coord.RequestID) (out coord.OutcomeResult, err error) {
	t.Helper()
	done := make(chan struct{})
	m.Outcome(coord.OutcomeQuery{Bucket: bucket, Key: []byte(k), RequestID: id, Deadline: time.Now().Add(patience)}, func(o coord.OutcomeResult, e error) {
		out, err = o, e
		close(done)
	})
	<-done
	return out, err
}

// Sixteen clients increment a counter, and each write is sent twice, as its answer
// was lost; the second attempt goes through another node.
func TestSerialRetryStorm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := newRegions(t, 2, 4)
		time.Sleep(11 * time.Minute)
		nodes := append(all[0].members(), all[1].members()...)
		const clients, each = 16, 8
		var work sync.WaitGroup
		var replayed atomic.Int32
		for c := range clients {
			work.Go(func() {
				for n := 0; n < each; {
					m, other := nodes[(c+n)%len(nodes)], nodes[(c+3*n+1)%len(nodes)]
					p := homePut("counter", "1", ifAbsent)
					if l := m.mustGet(t, homeGet("counter")).View.Live; len(l) == 1 {
						var v int
						fmt.Sscan(string(l[0].Value), &v)
						p.Value, p.Condition = fmt.Append(nil, v+1), ifVersion(l[0].Dot)
					}
					id := newID()
					_, first := m.put(t, attempted(p, id, false)) // nobody hears of it
					res, err := other.put(t, attempted(p, id, true))
					switch {
					case err == nil:
						n++
						if res.Replayed {
							replayed.Add(1)
						}
						if (first == nil) != res.Replayed {
							t.Errorf("first %v, then replayed: %v", first, res.Replayed)
						}
					case err.Code != coord.CodeConditionFailed:
						t.Errorf("%+v", err)
						n++
					case first == nil:
						t.Errorf("done, and then: %+v", err)
					}
				}
			})
		}
		work.Wait()
		if got := nodes[0].mustGet(t, homeGet("counter")); fmt.Sprint(live(got.View)) != fmt.Sprintf("[%d]", clients*each) {
			t.Errorf("%q", live(got.View))
		}
		if replayed.Load() == 0 {
			t.Error("nothing was replayed")
		}
	})
}

// A proposal that nobody told of is finished for its retry: one event, and not two.
func TestSerialRetryFinishes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t, 3)
		time.Sleep(11 * time.Minute)
		owners := r.owners("default", "k")
		owners[0].mustPut(t, serialPut("k", "0", crdt.Condition{}))
		r.settle()
		// One other accepts, and no answer comes back.
		owners[0].wire.loses(peer.VerbSerial)
		p := attempted(serialPut("k", "1", crdt.Condition{Kind: crdt.IfPresent}), newID(), false)
		p.Deadline = time.Now().Add(300 * time.Millisecond)
		if _, err := owners[0].put(t, p); err == nil || err.Outcome != coord.Unknown {
			t.Fatalf("%+v", err)
		}
		r.kill(owners[0].id)
		p.Retry, p.Deadline = true, time.Now().Add(patience)
		res := owners[1].mustPut(t, p)
		if !res.Replayed || res.Event.IsZero() {
			t.Errorf("%+v", res)
		}
		if again := owners[2].mustPut(t, p); !again.Replayed || again.Version != res.Version || again.Event != res.Event {
			t.Errorf("%+v", again)
		}
		if got := owners[1].mustGet(t, serialGet("k")); fmt.Sprint(live(got.View)) != "[1]" {
			t.Errorf("%q", live(got.View))
		}
	})
}

// Who sends a request again and does not say that it is a retry is not told that it
// was not applied, where somebody knows better.
func TestSerialSentTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t, 3)
		owners := r.owners("default", "k")
		p := attempted(serialPut("k", "1", ifAbsent), newID(), false)
		first := owners[0].mustPut(t, p)
		for _, m := range owners[1:] {
			r.kill(m.id)
			r.believe(m.id, false)
		}
		p.Deadline = time.Now().Add(300 * time.Millisecond)
		if _, err := owners[0].put(t, p); err == nil || err.Outcome != coord.Unknown {
			t.Errorf("%v, and then %+v", first.Version, err)
		}
	})
}

// That a retry's condition does not hold ends the request: an attempt that was
// held up until it would hold again does nothing.
func TestSerialRetryEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t, 3)
		time.Sleep(11 * time.Minute)
		m := r.owners("default", "k")[0]
		m.mustPut(t, serialPut("k", "there", ifAbsent))
		p := attempted(serialPut("k", "late", ifAbsent), newID(), true)
		if _, err := m.put(t, p); err == nil || err.Code != coord.CodeConditionFailed || err.Outcome != coord.NotApplied {
			t.Fatalf("%+v", err)
		}
		del := serialPut("k", "", crdt.Condition{})
		del.Delete, del.Value = true, nil
		m.mustPut(t, del)
		for _, via := range r.owners("default", "k") {
			p.Retry, p.Deadline = false, time.Now().Add(patience)
			if _, err := via.put(t, p); err == nil || err.Outcome != coord.NotApplied || err.Code != coord.CodeInvalid {
				t.Errorf("via %s: %+v", via.id, err)
			}
		}
		if got := m.mustGet(t, serialGet("k")); len(got.View.Live) != 0 {
			t.Errorf("%q", live(got.View))
		}
		// And so does who asks for the outcome.
		id := newID()
		if out, err := outcomeOf(t, m, "", "k", id); err != nil || out.Outcome != coord.NotApplied {
			t.Errorf("%+v, %v", out, err)
		}
		if _, err := m.put(t, attempted(serialPut("k", "asked", ifAbsent), id, false)); err == nil || err.Outcome != coord.NotApplied {
			t.Errorf("%+v", err)
		}
	})
}

// Where too few owners would remember a request its retry is of unknown outcome,
// and is not carried out.
func TestSerialRetryNobodyKnows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t, 3)
		m := r.owners("default", "k")[0]
		id := crdt.MakeRequestID(time.Now().Add(-time.Minute).UnixMilli(), [10]byte{1})
		if _, err := m.put(t, attempted(serialPut("k", "v", ifAbsent), id, true)); err == nil || err.Outcome != coord.Unknown {
			t.Errorf("%+v", err)
		}
		if got := m.mustGet(t, serialGet("k")); len(got.View.Live) != 0 {
			t.Errorf("%q", live(got.View))
		}
		old := crdt.MakeRequestID(time.Now().Add(-time.Hour).UnixMilli(), [10]byte{1})
		if _, err := m.put(t, attempted(serialPut("k", "v", ifAbsent), old, false)); err == nil || err.Code != coord.CodeInvalid || err.Field != "request_id" {
			t.Errorf("%+v", err)
		}
	})
}

// A write that was decided at LOCAL_SERIAL in one region and is tried again in
// another is the write that it was; where that cannot be asked it may be there twice.
func TestSerialRetryElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := newRegions(t, 2, 3)
		time.Sleep(11 * time.Minute)
		a, b := all[0].nodes["an1"], all[1].nodes["bn1"]
		id := newID()
		p := serialPut("k", "1", ifAbsent)
		first := a.mustPut(t, attempted(p, id, false))
		if res := b.mustPut(t, attempted(p, id, true)); !res.Replayed || res.Version != first.Version {
			t.Errorf("%+v", res)
		}
		if got := all[1].copies(t, "k", "1"); got != 0 {
			t.Errorf("%d copies", got)
		}
		q := attempted(serialPut("k2", "1", ifAbsent), newID(), true)
		if res := b.mustPut(t, q); res.Replayed || res.MaybeDuplicate {
			t.Errorf("%+v", res)
		}
		cut(all[0], all[1])
		q = attempted(serialPut("k3", "1", ifAbsent), newID(), true)
		if res := b.mustPut(t, q); res.Replayed || !res.MaybeDuplicate {
			t.Errorf("%+v", res)
		}
		q = attempted(serialPut("k4", "1", ifAbsent), newID(), true)
		q.TriedIn = []topology.Region{"b"}
		if res := b.mustPut(t, q); res.Replayed || res.MaybeDuplicate {
			t.Errorf("%+v", res)
		}
	})
}
