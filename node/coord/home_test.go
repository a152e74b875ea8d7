package coord_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/session"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/home"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/quorum"
)

// homes are what a node knows of buckets' homes.
type homes struct {
	otherwise home.Of
	mu        sync.Mutex
	known     map[string]home.Home
}

func (h *homes) of(bucket string) home.Home {
	h.mu.Lock()
	defer h.mu.Unlock()
	if is, ok := h.known[bucket]; ok {
		return is
	}
	return h.otherwise(bucket)
}

func (h *homes) learn(bucket string, is home.Home) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.known == nil {
		h.known = map[string]home.Home{}
	}
	h.known[bucket] = is
}

func homePut(k, v string, cond crdt.Condition) coord.Put {
	p := serialPut(k, v, cond)
	p.Bucket, p.Level = "homed", quorum.Serial
	return p
}

func homeGet(k string) coord.Get {
	g := serialGet(k)
	g.Bucket, g.Level = "homed", quorum.Serial
	return g
}

// Of writes with conditions through nodes of all regions those happen whose
// conditions hold, in one order, decided in the home region; and reads show it.
func TestSerialThroughAllRegions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := newRegions(t, 3, 4)
		n := 0
		var version crdt.Dot
		for range 2 {
			for _, r := range all {
				for _, m := range r.nodes {
					cond := ifAbsent
					if n > 0 {
						cond = ifVersion(version)
					}
					v := fmt.Sprint(n)
					n++
					res := m.mustPut(t, homePut("k", v, cond))
					if res.Version.Actor != crdt.BallotActor(1, 1) || res.Event.Actor.Region() != 1 || res.Event.Actor.IsBallot() {
						t.Fatalf("via %s: %+v", m.id, res)
					}
					a := res.Achieved
					if a.Level != quorum.Serial || a.Reached != quorum.Serial || len(a.Regions) != 1 || a.Regions[0].Region != "a" || a.Regions[0].State != coord.RegionReached {
						t.Errorf("via %s: %+v", m.id, a)
					}
					_, err := m.put(t, homePut("k", "late", cond))
					if err == nil || err.Code != coord.CodeConditionFailed || err.Outcome != coord.NotApplied || err.Current == nil || fmt.Sprint(live(err.Current.View)) != "["+v+"]" {
						t.Fatalf("via %s: %+v", m.id, err)
					}
					version = res.Version
					for _, o := range all {
						for _, reader := range o.nodes {
							got := reader.mustGet(t, homeGet("k"))
							if fmt.Sprint(live(got.View)) != "["+v+"]" || got.Achieved.Reached != quorum.Serial || len(got.Achieved.Regions) != 1 {
								t.Fatalf("via %s, read via %s: %q, %+v", m.id, reader.id, live(got.View), got.Achieved)
							}
							break
						}
					}
				}
			}
		}
		// The context of an answer from there is good here.
		p := homePut("k", "last", crdt.Condition{Kind: crdt.IfContext})
		m := all[2].nodes["cn1"]
		p.Context = m.mustGet(t, homeGet("k")).Context
		m.mustPut(t, p)
		if _, err := m.put(t, p); err == nil || err.Code != coord.CodeConditionFailed {
			t.Errorf("a context twice: %v", err)
		}
		p = homePut("k", "", crdt.Condition{Kind: crdt.IfPresent})
		p.Delete, p.Value = true, nil
		m.mustPut(t, p)
		if got := all[1].nodes["bn1"].mustGet(t, homeGet("k")); len(got.View.Live) != 0 {
			t.Errorf("deleted: %q", live(got.View))
		}
	})
}

// A region that is home decides at LOCAL_SERIAL and at SERIAL in one order.
func TestSerialAndLocalSerialAtHome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := newRegions(t, 2, 3)
		h, away := all[0].nodes["an1"], all[1].nodes["bn1"]
		var last crdt.Dot
		for i := range 6 {
			p := homePut("k", fmt.Sprint(i), ifAbsent)
			m := away
			if i%2 == 1 {
				m, p.Level = h, quorum.LocalSerial
			}
			if i > 0 {
				p.Condition = ifVersion(last)
			}
			last = m.mustPut(t, p).Version
			if want := crdt.BallotActor(1, uint32(1-i%2)); last.Actor != want {
				t.Errorf("%d is named by %v", i, last)
			}
		}
		if got := h.mustGet(t, homeGet("k")); fmt.Sprint(live(got.View)) != "[5]" || len(got.View.Live) != 1 {
			t.Errorf("%q", live(got.View))
		}
	})
}

// Sixteen clients of two regions increment a counter by compare and set.
func TestSerialCounter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := newRegions(t, 2, 4)
		var nodes []*member
		for _, r := range all {
			for _, m := range r.nodes {
				nodes = append(nodes, m)
			}
		}
		const clients, each = 16, 10
		var work sync.WaitGroup
		for c := range clients {
			m := nodes[c%len(nodes)]
			work.Go(func() {
				for n := 0; n < each; {
					p := homePut("counter", "1", ifAbsent)
					if l := m.mustGet(t, homeGet("counter")).View.Live; len(l) == 1 {
						var v int
						fmt.Sscan(string(l[0].Value), &v)
						p.Value, p.Condition = fmt.Append(nil, v+1), ifVersion(l[0].Dot)
					}
					if _, err := m.put(t, p); err == nil {
						n++
					} else if err.Code != coord.CodeConditionFailed {
						t.Errorf("%+v", err)
						n++
					}
				}
			})
		}
		work.Wait()
		if got := nodes[0].mustGet(t, homeGet("counter")); fmt.Sprint(live(got.View)) != fmt.Sprintf("[%d]", clients*each) {
			t.Errorf("%q", live(got.View))
		}
	})
}

// What is asked of a bucket without a home says how to get one, and nothing is
// written.
func TestSerialWithoutHome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t, 3)
		m := r.owners("default", "k")[0]
		p := serialPut("k", "v", ifAbsent)
		p.Level = quorum.Serial
		_, err := m.put(t, p)
		if err == nil || err.Code != coord.CodeInvalid || err.Outcome != coord.NotApplied || err.Field != "level" || !strings.Contains(err.Detail, "bucket set default --home") {
			t.Errorf("%+v", err)
		}
		g := serialGet("k")
		g.Level = quorum.Serial
		if _, err := m.get(t, g); err == nil || err.Code != coord.CodeInvalid || !strings.Contains(err.Detail, "--home") {
			t.Errorf("%+v", err)
		}
	})
}

// A home that cannot be reached: who knows says so at once, and nothing is
// written; who does not know waits, and cannot tell what became of a write.
func TestHomeUnreachable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := newRegions(t, 2, 3)
		b := all[1].nodes["bn1"]
		b.mustPut(t, homePut("k", "1", ifAbsent))
		try := func() (put, get *coord.Error, took time.Duration) {
			began := time.Now()
			_, put = b.put(t, homePut("k", "2", crdt.Condition{}))
			_, get = b.get(t, homeGet("k"))
			return put, get, time.Since(began)
		}
		for _, id := range all[0].ids() {
			all[0].believe(id, true)
		}
		if put, get, took := try(); put == nil || put.Code != coord.CodeUnavailable || put.Outcome != coord.NotApplied || took > 10*time.Millisecond ||
			get == nil || get.Code != coord.CodeUnavailable || !strings.Contains(put.Detail, "home region a") || !strings.Contains(get.Detail, "home region a") {
			t.Errorf("known to be down: %+v, %+v after %v", put, get, took)
		}
		// Nobody else is concerned.
		b.mustPut(t, leveled("k", "here", quorum.LocalQuorum))
		for _, id := range all[0].ids() {
			all[0].believe(id, false)
		}
		for _, verb := range []peer.Verb{peer.VerbHomePut, peer.VerbRegionRead} {
			b.wire.answers(verb, "", patience, peer.ErrTimeout)
		}
		if put, get, took := try(); put == nil || put.Code != coord.CodeDeadline || put.Outcome != coord.Unknown || took > 2*patience ||
			get == nil || get.Code != coord.CodeDeadline || get.Outcome != coord.NotApplied {
			t.Errorf("cut off: %+v, %+v after %v", put, get, took)
		}
		b.wire.clear()
		if got := b.mustGet(t, homeGet("k")); fmt.Sprint(live(got.View)) != "[1]" {
			t.Errorf("%q", live(got.View)) // what was sent is lost
		}
	})
}

// fencing has some nodes know a home of a bucket.
func fencing(is home.Home, nodes ...*member) {
	for _, m := range nodes {
		m.homes.learn("homed", is)
	}
}

func (r *region) members() (out []*member) {
	for _, id := range r.ids() {
		out = append(out, r.nodes[id])
	}
	return out
}

// Who asks a region that is no longer the home is told so, and so is who asks for
// an epoch that is over. Nothing is written.
func TestFencedHome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := newRegions(t, 2, 3)
		a, b := all[0].nodes["an1"], all[1].nodes["bn1"]
		first := b.mustPut(t, homePut("k", "1", ifAbsent))
		refused := func(name string, m *member, want string) {
			t.Helper()
			for _, cond := range []crdt.Condition{{}, ifAbsent, ifVersion(first.Version)} {
				if _, err := m.put(t, homePut("k", "fenced", cond)); err == nil || err.Code != coord.CodeRegionFenced || err.Outcome != coord.NotApplied || err.RetryAfterMs == 0 || !strings.Contains(err.Detail, want) {
					t.Errorf("%s: put: %+v", name, err)
				}
			}
			if res, err := m.get(t, homeGet("k")); err == nil || err.Code != coord.CodeRegionFenced || !strings.Contains(err.Detail, want) {
				t.Errorf("%s: get: %+v, %+v", name, res, err)
			}
		}
		fencing(home.Home{Region: "b", Epoch: 2}, all[0].members()...)
		refused("another region's node is behind", b, "is b since epoch 2, and this belongs to epoch 1")
		// A node that knows sends it on, to where nobody knows yet.
		refused("the new home is behind", a, "epoch 2 is not known here yet")
		fencing(home.Home{Region: "a", Epoch: 1, Closed: "being drained"}, all[0].members()...)
		refused("closed, from outside", b, "being drained")
		refused("closed, inside", a, "being drained")
		if _, err := a.put(t, homePut("k", "fenced", crdt.Condition{})); err == nil || err.Lacks != coord.LackOwners {
			t.Errorf("closed by the map: %+v", err)
		}
		fencing(home.Home{Region: "a", Epoch: 1, Closed: "no lease", Lapsed: true}, all[0].members()...)
		for _, m := range []*member{a, b} {
			refused("without a lease, asked of "+string(m.id), m, "no lease")
			if _, err := m.put(t, homePut("k", "fenced", crdt.Condition{})); err == nil || err.Lacks != coord.LackHome {
				t.Errorf("without a lease, put at %s: %+v", m.id, err)
			}
			if _, err := m.get(t, homeGet("k")); err == nil || err.Lacks != coord.LackHome {
				t.Errorf("without a lease, get at %s: %+v", m.id, err)
			}
		}
		fencing(home.Home{Region: "a", Epoch: 1}, all[0].members()...)
		if got := b.mustGet(t, homeGet("k")); fmt.Sprint(live(got.View)) != "[1]" {
			t.Errorf("%q", live(got.View))
		}
		fencing(home.Home{Region: "a", Epoch: 3}, append(all[0].members(), all[1].members()...)...)
		if res := b.mustPut(t, homePut("k", "3", ifVersion(first.Version))); res.Version.Actor != crdt.BallotActor(1, 3) {
			t.Errorf("%+v", res)
		}
	})
}

// One node that has not heard that its region is no longer the home decides
// nothing, and reads nothing, against a majority that has.
func TestBehindWithTheHome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := newRegions(t, 2, 3)
		owners := all[0].owners("homed", "k")
		owners[0].mustPut(t, homePut("k", "1", ifAbsent))
		next := home.Home{Region: "b", Epoch: 2}
		fencing(next, owners[1], owners[2])
		if _, err := owners[0].put(t, homePut("k", "2", crdt.Condition{})); err == nil || err.Code != coord.CodeRegionFenced {
			t.Errorf("put: %+v", err)
		}
		if res, err := owners[0].get(t, homeGet("k")); err == nil || err.Code != coord.CodeRegionFenced {
			t.Errorf("get: %+v, %+v", res, err)
		}
		// In its first attempt the proposer has its own accept: nobody else may
		// finish that for the home, and the region's own reads pass it over or
		// finish it.
		got := owners[1].mustGet(t, get2("homed", "k"))
		if l := live(got.View); len(l) != 1 {
			t.Errorf("%q", l)
		}
		// With one node that knows, two others decide.
		fencing(home.Home{Region: "a", Epoch: 1}, owners[1])
		owners[0].mustPut(t, homePut("k", "3", crdt.Condition{}))
		if got := owners[1].mustGet(t, homeGet("k")); fmt.Sprint(live(got.View)) != "[3]" {
			t.Errorf("%q", live(got.View))
		}
	})
}

func get2(bucket, k string) coord.Get {
	g := get(k)
	g.Bucket = bucket
	return g
}

// A write that is lost on its way back from the home has an unknown outcome, and
// one that was refused there goes to another node.
func TestHomeNodesFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := newRegions(t, 2, 3)
		owners := all[0].owners("homed", "k")
		b := all[1].nodes["bn1"]
		b.wire.answers(peer.VerbHomePut, owners[0].id, time.Millisecond, peer.ErrLinkLost)
		if _, err := b.put(t, homePut("k", "1", ifAbsent)); err == nil || err.Outcome != coord.Unknown {
			t.Errorf("%+v", err)
		}
		b.wire.answers(peer.VerbHomePut, owners[0].id, time.Millisecond, &peer.Refusal{Code: peer.CodeStopping})
		res := b.mustPut(t, homePut("k", "2", crdt.Condition{}))
		if res.Achieved.Coordinator == "" || len(res.Achieved.Replicas) == 0 {
			t.Errorf("%+v", res.Achieved)
		}
		all[0].kill(owners[0].id)
		if _, err := b.put(t, homePut("k", "3", crdt.Condition{Kind: crdt.IfPresent})); err != nil {
			t.Errorf("%+v", err)
		}
		if got := b.mustGet(t, homeGet("k")); fmt.Sprint(live(got.View)) != "[3]" {
			t.Errorf("%q", live(got.View))
		}
	})
}

// A session that wrote elsewhere and then at SERIAL sees both, or is told.
func TestSerialSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := newRegions(t, 2, 3)
		b := all[1].nodes["bn1"]
		p := homePut("k", "1", ifAbsent)
		p.Session = session.Begin()
		res := b.mustPut(t, p)
		g := homeGet("k")
		g.Session = res.Session
		got := b.mustGet(t, g)
		if fmt.Sprint(live(got.View)) != "[1]" || len(got.Session) == 0 {
			t.Errorf("%+v", got)
		}
		// Its own region does not have that, and says so.
		own := get2("homed", "k")
		own.Session, own.Deadline = got.Session, time.Now().Add(time.Second)
		if res, err := b.get(t, own); err == nil || err.Code != coord.CodeSessionBehind {
			t.Errorf("%+v, %+v", res, err)
		}
		// The home does not have what the session wrote here.
		here := put("k2", "2")
		here.Bucket, here.Session = "homed", got.Session
		wrote := b.mustPut(t, here)
		g = homeGet("k2")
		g.Session, g.Deadline = wrote.Session, time.Now().Add(time.Second)
		if res, err := b.get(t, g); err == nil || err.Code != coord.CodeSessionBehind {
			t.Errorf("%+v, %+v", res, err)
		}
		p = homePut("k2", "3", crdt.Condition{})
		p.Session, p.Deadline = wrote.Session, time.Now().Add(time.Second)
		if _, err := b.put(t, p); err == nil || err.Code != coord.CodeSessionBehind || err.Outcome != coord.NotApplied {
			t.Errorf("%+v", err)
		}
	})
}
