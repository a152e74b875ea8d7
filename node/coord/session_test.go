package coord_test

import (
	"bytes"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/crdt/session"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/quorum"
	"github.com/atolldb/atoll/node/wire"
)

var keys = crdt.Keys{secret}

// one reads at LOCAL_ONE with a token.
func one(k string, token []byte) coord.Get {
	g := get(k)
	g.Level, g.Session = quorum.LocalOne, token
	return g
}

// knowing is the token of a session that knows of some writes to k's partition.
func (r *region) knowing(k string, stamp hlc.Stamp, dots ...crdt.Dot) []byte {
	p := r.partition("default", k)
	part := &session.Part{Place: session.Place{Bits: 3, Prefix: uint16(p)}}
	for _, d := range dots {
		part.Saw(d, stamp)
	}
	s, ok := part.Seal(keys)
	if !ok {
		r.t.Fatal("does not fit")
	}
	return session.Compose([]session.Piece{s})
}

// partOf is what a token knows of k's partition.
func (r *region) partOf(k string, token []byte) *session.Part {
	r.t.Helper()
	t, err := session.Open(keys, token, session.Place{Bits: 3, Prefix: uint16(r.partition("default", k))})
	if err != nil {
		r.t.Fatal(err)
	}
	if t.Part() == nil {
		return &session.Part{}
	}
	return t.Part()
}

// What a session wrote it reads, wherever it asks, at any level; without its
// token it may not.
func TestReadYourWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t, 4)
		owners := r.owners("default", "k")
		p := put("k", "v")
		p.Session, p.Level = session.Begin(), quorum.LocalOne
		for _, m := range owners[1:] {
			owners[0].wire.answers(peer.VerbApply, m.id, time.Millisecond, peer.ErrNotSent)
		}
		res := owners[0].mustPut(t, p)
		if part := r.partOf("k", res.Session); !part.Clock.Contains(res.Event) || part.Stamp != res.Stamp || res.Event != res.Version {
			t.Fatalf("the token knows %+v of %+v", part, res)
		}
		if got := owners[1].mustGet(t, one("k", nil)); len(live(got.View)) != 0 || got.Session != nil {
			t.Fatalf("the test shows nothing: %+v", got)
		}
		for _, m := range []*member{owners[0], owners[1], owners[2], r.outsider("default", "k")} {
			m.wire.reset()
			began := time.Now()
			o := m.startGet(t, one("k", res.Session))
			got, err := o.wait()
			if err != nil || !slices.Equal(live(got.View), []string{"v"}) {
				t.Errorf("via %s: %+v, %v", m.id, got, err)
			}
			// Who lacks it says so at once, and the next is asked.
			if took := o.at.Sub(began); took > 30*time.Millisecond {
				t.Errorf("via %s: took %v", m.id, took)
			}
			if part := r.partOf("k", got.Session); !part.Clock.Contains(res.Event) {
				t.Errorf("via %s: the token is forgotten", m.id)
			}
			if m == owners[0] && m.wire.count(peer.VerbRead) > 0 {
				t.Error("who has it asked others")
			}
		}
	})
}

// What a session has read it does not lose again, and it takes on the writes of
// others that it saw; also what they deleted.
func TestMonotonicReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t, 3)
		owners := r.owners("default", "k")
		owners[0].mustPut(t, put("k", "old"))
		seen := owners[0].mustGet(t, get("k"))
		for i, change := range []func(*coord.Put){func(p *coord.Put) { p.Value = []byte("new") }, func(p *coord.Put) { p.Delete = true }} {
			for _, m := range owners[1:] {
				owners[0].wire.answers(peer.VerbApply, m.id, time.Millisecond, peer.ErrNotSent)
			}
			p := put("k", "")
			p.Context, p.Level = seen.Context, quorum.LocalOne
			change(&p)
			owners[0].mustPut(t, p)
			got := owners[0].mustGet(t, one("k", session.Begin()))
			if again := owners[1].mustGet(t, one("k", got.Session)); !slices.Equal(live(again.View), live(got.View)) {
				t.Errorf("%d: it read %q and then %q", i, live(got.View), live(again.View))
			}
			r.copyTo(owners[1], owners[0], "k")
			seen = got
		}
	})
}

// A quorum read waits for no lagging owner, and when all lag for the first one
// that does not any more.
func TestSessionQuorum(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t, 4)
		owners := r.owners("default", "k")
		late := crdt.Dot{Actor: stranger, N: 5}
		for _, m := range []*member{owners[1], r.outsider("default", "k")} {
			g := get("k")
			g.Session = r.knowing("k", 1, late)
			g.Deadline = time.Now().Add(10 * time.Second)
			began := time.Now()
			o := m.startGet(t, g)
			time.Sleep(time.Second)
			synctest.Wait()
			applied := make(chan error, 1)
			owners[2].replica.Apply([]wire.Entry{entryOf("k", late, "far")}, func(_ int, err error) { applied <- err })
			got, err := o.wait()
			if took := o.at.Sub(began); err != nil || took < time.Second || took > 1010*time.Millisecond {
				t.Errorf("via %s after %v: %v", m.id, took, err)
			}
			if !slices.Contains(live(got.View), "far") || len(got.Achieved.Replicas) < 2 {
				t.Errorf("via %s: %q of %v", m.id, live(got.View), got.Achieved.Replicas)
			}
			<-applied
			// From now on one has it, and nobody waits.
			began = time.Now()
			o = m.startGet(t, g)
			if _, err := o.wait(); err != nil || o.at.Sub(began) > 10*time.Millisecond {
				t.Errorf("via %s after %v: %v", m.id, o.at.Sub(began), err)
			}
			late.N++
		}
		r.settle()
		for _, m := range r.nodes {
			if n := m.replica.Waiting(); n > 0 {
				time.Sleep(11 * time.Second)
				if n := m.replica.Waiting(); n > 0 {
					t.Errorf("%d wait at %s for ever", n, m.id)
				}
			}
		}
	})
}

// What does not come in time is told, and how much it is and of whom; never an
// older answer.
func TestSessionBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t, 4)
		r.owners("default", "k")[0].mustPut(t, put("k", "old"))
		west := crdt.MakeActor(9, 2)
		token := r.knowing("k", 1, crdt.Dot{Actor: stranger, N: 5}, crdt.Dot{Actor: west, N: 1}, crdt.Dot{Actor: west, N: 2})
		for _, m := range []*member{r.owners("default", "k")[1], r.outsider("default", "k")} {
			for _, level := range []quorum.Level{quorum.LocalOne, quorum.LocalQuorum, quorum.LocalAll} {
				g := get("k")
				g.Level, g.Session, g.Deadline = level, token, time.Now().Add(time.Second)
				o := m.startGet(t, g)
				_, err := o.wait()
				if err == nil || err.Code != coord.CodeSessionBehind || err.Missing != 3 || len(err.MissingFrom) < 1 {
					t.Fatalf("%v via %s: %+v", level, m.id, err)
				}
				if o.at.Before(g.Deadline) {
					t.Error("it did not wait")
				}
			}
			p := put("k", "new")
			p.Session, p.Deadline = token, time.Now().Add(time.Second)
			if _, err := m.put(t, p); err == nil || err.Code != coord.CodeSessionBehind || err.Outcome != coord.NotApplied || err.Missing != 3 {
				t.Errorf("put via %s: %+v", m.id, err)
			}
		}
		r.settle()
		all := get("k")
		all.Level = quorum.LocalAll
		if got := r.owners("default", "k")[0].mustGet(t, all); !slices.Equal(live(got.View), []string{"old"}) {
			t.Errorf("a write that was refused shows: %q", live(got.View))
		}
	})
}

// A write comes after everything that its session knows: it is minted where that
// is, with a higher stamp.
func TestMonotonicWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t, 4)
		owners := r.owners("lww", "k")
		d := crdt.Dot{Actor: stranger, N: 1}
		future := hlc.FromMillis(time.Now().Add(time.Hour).UnixMilli())
		part := &session.Part{Place: session.Place{Bits: 3, Prefix: uint16(r.partition("lww", "k"))}}
		part.Saw(d, future)
		s, _ := part.Seal(keys)
		p := put("k", "after")
		p.Bucket, p.Session, p.Deadline = "lww", session.Compose([]session.Piece{s}), time.Now().Add(10*time.Second)
		for _, m := range []*member{owners[0], r.outsider("lww", "k")} {
			o := m.startPut(t, p)
			if m == owners[0] {
				time.Sleep(time.Second)
				synctest.Wait()
				e := entryOf("k", d, "before")
				e.Key = coord.FullKey("lww", []byte("k"))
				e.Record = crdt.AppendRecord(nil, hashring.KeyHash(e.Key), crdt.Record{Versions: []crdt.Version{{Dot: d, Stamp: future, Value: []byte("before")}}})
				owners[2].replica.Apply([]wire.Entry{e}, func(int, error) {})
			}
			res, err := o.wait()
			if err != nil || res.Stamp <= future || m == owners[0] && res.Version.Actor != owners[2].replica.Actor() {
				t.Errorf("via %s: %+v, %v", m.id, res, err)
			}
			if tok, err := session.Open(keys, res.Session, part.Place); err != nil || !tok.Part().Clock.Contains(res.Version) || !tok.Part().Clock.Contains(d) {
				t.Errorf("via %s: token %v", m.id, err)
			}
		}
	})
}

// A session that knows nothing costs no question more, and shares reads.
func TestSessionSharesReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t, 4)
		owners := r.owners("default", "k")
		res := owners[0].mustPut(t, put("k", "v"))
		r.settle()
		token := r.knowing("k", res.Stamp, res.Version)
		r.slowReads(owners[1], 10*time.Millisecond)
		owners[1].wire.reset()
		var all []*once[coord.GetResult]
		for range 50 {
			g := get("k")
			g.Session = token
			all = append(all, owners[1].startGet(t, g))
		}
		for _, o := range all {
			if got, err := o.wait(); err != nil || !bytes.Equal(got.Session, token) {
				t.Fatalf("%+v, %v", got, err)
			}
		}
		if n := owners[1].wire.count(peer.VerbRead); n > 4 {
			t.Errorf("50 reads at once took %d questions", n)
		}
	})
}

// A write by consensus, too, comes after what its session knows.
func TestSessionSerial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t, 3)
		owners := r.owners("default", "k")
		d := crdt.Dot{Actor: stranger, N: 5}
		future := hlc.FromMillis(time.Now().Add(time.Hour).UnixMilli())
		p := put("k", "after")
		p.Level, p.Session, p.Deadline = quorum.LocalSerial, r.knowing("k", future, d), time.Now().Add(time.Second)
		if _, err := owners[1].put(t, p); err == nil || err.Code != coord.CodeSessionBehind || err.Outcome != coord.NotApplied {
			t.Errorf("%+v", err)
		}
		for _, m := range owners {
			m.replica.Apply([]wire.Entry{entryOf("k", d, "before")}, func(int, error) {})
		}
		r.settle()
		p.Deadline = time.Now().Add(2 * time.Second)
		res := owners[1].mustPut(t, p)
		if part := r.partOf("k", res.Session); res.Stamp <= future || !part.Clock.Contains(res.Event) || !part.Clock.Contains(d) {
			t.Errorf("%+v, the session knows %+v", res, part)
		}
		r.settle()
		// Who reads it knows of the ballot, and does not lose it again.
		got := owners[2].mustGet(t, one("k", session.Begin()))
		if part := r.partOf("k", got.Session); len(part.Ballots) != 1 || part.Ballots[0].Dot != res.Version {
			t.Errorf("a reader knows %+v", part)
		}
		if again := owners[0].mustGet(t, one("k", got.Session)); !slices.Equal(live(again.View), []string{"after"}) {
			t.Errorf("%q", live(again.View))
		}
	})
}

func TestBadSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t, 3)
		a := r.owners("default", "k")[0]
		good := a.mustPut(t, func() coord.Put { p := put("k", "v"); p.Session = session.Begin(); return p }()).Session
		forged := bytes.Clone(good)
		forged[len(forged)-1] ^= 1
		context := a.mustGet(t, get("k")).Context
		for name, token := range map[string][]byte{
			"garbage": []byte("garbage"), "forged": forged, "cut": good[:len(good)-1], "a context": context,
			"oversize": append(bytes.Clone(good), bytes.Repeat(good[1:], session.MaxSent/(len(good)-1)+1)...),
		} {
			if _, err := a.get(t, one("k", token)); err == nil || err.Code != coord.CodeBadSession || err.Field != "session" {
				t.Errorf("get, %s: %+v", name, err)
			}
			p := put("k", "other")
			p.Session = token
			if _, err := a.put(t, p); err == nil || err.Code != coord.CodeBadSession || err.Outcome != coord.NotApplied {
				t.Errorf("put, %s: %+v", name, err)
			}
		}
		if got := a.mustGet(t, get("k")); !slices.Equal(live(got.View), []string{"v"}) {
			t.Errorf("something was stored: %q", live(got.View))
		}
	})
}

// entryOf is a blind write of k, as it comes from another region.
func entryOf(k string, d crdt.Dot, value string) wire.Entry {
	full := coord.FullKey("default", []byte(k))
	rec := crdt.Record{Versions: []crdt.Version{{Dot: d, Stamp: hlc.FromMillis(int64(d.N)), Value: []byte(value)}}}
	return wire.Entry{Key: full, Record: crdt.AppendRecord(nil, hashring.KeyHash(full), rec)}
}

// What is lost is told at once, also to who waits, by reads and by writes of any
// level through any node; with the token that comes with it the session goes on.
func TestSessionLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t, 4)
		owners := r.owners("default", "k")
		owners[0].mustPut(t, put("k", "old"))
		west := crdt.MakeActor(9, 3)
		token := r.knowing("k", 1, crdt.Dot{Actor: stranger, N: 5}, crdt.Dot{Actor: west, N: 1}, crdt.Dot{Actor: west, N: 2})
		p := r.partition("default", "k")
		g := get("k")
		g.Level, g.Session, g.Deadline = quorum.LocalQuorum, token, time.Now().Add(10*time.Second)
		waits := r.outsider("default", "k").startGet(t, g)
		time.Sleep(time.Second)
		synctest.Wait()
		began := time.Now()
		losses := &session.Losses{Cuts: []session.Cut{{Region: 3, Fence: 1}}}
		losses.Cuts[0].Survives.Add(crdt.Dot{Actor: west, N: 1})
		for _, m := range owners {
			if err := m.replica.MeetLosses(p, losses); err != nil {
				t.Fatal(err)
			}
		}
		check := func(what string, err *coord.Error) []byte {
			t.Helper()
			if err == nil || err.Code != coord.CodeSessionLost || err.Outcome != coord.NotApplied || err.Missing != 1 || len(err.MissingFrom) != 1 || len(err.Session) == 0 {
				t.Fatalf("%s: %#v", what, err)
			}
			return err.Session
		}
		if _, err := waits.wait(); waits.at.Sub(began) > 20*time.Millisecond {
			t.Errorf("who waits is told after %v", waits.at.Sub(began))
		} else {
			check("waiting", err)
		}
		for _, m := range []*member{owners[0], owners[2], r.outsider("default", "k")} {
			for _, level := range []quorum.Level{quorum.LocalOne, quorum.LocalQuorum, quorum.LocalAll, quorum.LocalSerial} {
				g := get("k")
				g.Level, g.Session, g.Deadline = level, token, time.Now().Add(time.Second)
				_, err := m.get(t, g)
				check("read", err)
				p := put("k", "new")
				p.Level, p.Session, p.Deadline = level, token, time.Now().Add(time.Second)
				_, err = m.put(t, p)
				next := check("write", err)
				// It still waits for what may come.
				g.Session = next
				if _, err := m.get(t, g); err == nil || err.Code != coord.CodeSessionBehind || err.Missing != 2 {
					t.Errorf("%v: what is not lost is not waited for: %+v", level, err)
				}
			}
		}
		// When the rest has come, or is given up as well, it is answered.
		rest := &session.Losses{Ends: []crdt.Dot{{Actor: stranger, N: 4}}}
		for _, m := range owners {
			m.replica.Apply([]wire.Entry{entryOf("k", crdt.Dot{Actor: west, N: 1}, "far")}, func(int, error) {})
			if err := m.replica.MeetLosses(p, rest); err != nil {
				t.Fatal(err)
			}
		}
		r.settle()
		_, err := owners[1].get(t, one("k", token))
		if err == nil || err.Code != coord.CodeSessionLost || err.Missing != 2 || len(err.MissingFrom) != 2 {
			t.Fatalf("%+v", err)
		}
		for _, m := range owners {
			got, again := m.get(t, one("k", err.Session))
			if again != nil || !slices.Contains(live(got.View), "far") {
				t.Errorf("via %s: %q, %v", m.id, live(got.View), again)
			}
		}
		p2 := put("k", "after")
		p2.Session = err.Session
		res := owners[0].mustPut(t, p2)
		if _, err := owners[2].get(t, one("k", res.Session)); err != nil {
			t.Error(err)
		}
		// A region that is back is not given up any more.
		back := &session.Losses{Cuts: []session.Cut{{Region: 3, Fence: 2, Open: true}}}
		for _, m := range owners {
			if err := m.replica.MeetLosses(p, back); err != nil {
				t.Fatal(err)
			}
		}
		g = one("k", r.knowing("k", 1, crdt.Dot{Actor: west, N: 9}))
		g.Deadline = time.Now().Add(time.Second)
		if _, err := owners[1].get(t, g); err == nil || err.Code != coord.CodeSessionBehind {
			t.Errorf("%+v", err)
		}
	})
}
