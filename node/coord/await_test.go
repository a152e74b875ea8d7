package coord_test

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/session"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/quorum"
	"github.com/atolldb/atoll/node/wire"
)

func (m *member) await(t *testing.T, a coord.Await) ([]coord.RegionAchieved, *coord.Error) {
	if a.Deadline.IsZero() {
		a.Deadline = time.Now().Add(patience)
	}
	o := newOnce[[]coord.RegionAchieved](t)
	m.Await(a, o.done)
	return o.wait()
}

// Who waits for other regions gets an answer when they have everything that the
// session knows, and not before; of many partitions, too.
func TestAwait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := newRegions(t, 3, 4)
		m := all[0].nodes["an1"]
		token := session.Begin()
		var keys []string
		for i := range 20 {
			p := put(fmt.Sprint("k", i), "v")
			p.Session = token
			token = m.mustPut(t, p).Session
			keys = append(keys, string(p.Key))
		}
		regions, err := m.await(t, coord.Await{Session: token})
		if err == nil || err.Code != coord.CodePartial || err.Outcome != coord.Applied || err.Applied == nil {
			t.Fatalf("%v: %+v", regions, err)
		}
		if got := states(err.Applied.Achieved); got != "a:reached b:unknown c:unknown " {
			t.Errorf("%s", got)
		}
		// They get it while somebody waits: b first, and then c.
		waiting := newOnce[[]coord.RegionAchieved](t)
		m.Await(coord.Await{Session: token, Deadline: time.Now().Add(time.Minute)}, waiting.done)
		began := time.Now()
		for i, r := range all[1:] {
			time.Sleep(time.Second)
			for _, k := range keys {
				from := all[0].owners("default", k)[0]
				for _, o := range r.owners("default", k)[:2] {
					all[0].copyTo(o, from, k)
				}
			}
			if i == 0 {
				got, err := m.await(t, coord.Await{Session: token, Level: quorum.Quorum})
				if err != nil || len(got) != 3 {
					t.Errorf("a quorum of them has it: %v, %v", got, err)
				}
				if _, err := m.await(t, coord.Await{Session: token, Regions: 2}); err != nil {
					t.Errorf("two of them have it: %v", err)
				}
			}
		}
		got, err := waiting.wait()
		if err != nil || len(got) != 3 || slices.ContainsFunc(got, func(g coord.RegionAchieved) bool { return g.State != coord.RegionReached || g.Replicas < 2 }) {
			t.Errorf("%+v, %v", got, err)
		}
		if took := time.Since(began); took < 2*time.Second {
			t.Errorf("told after %v", took)
		}
		if _, err := m.await(t, coord.Await{Session: token, Level: quorum.All}); err == nil || err.Code != coord.CodePartial {
			t.Errorf("not all owners have it: %v", err)
		}
		// A session that knows nothing has nothing to wait for.
		if got, err := m.await(t, coord.Await{Session: session.Begin()}); err != nil || len(got) != 3 {
			t.Errorf("%v, %v", got, err)
		}
	})
}

func TestAwaitBadInput(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := newRegions(t, 2, 3)
		m := all[0].nodes["an1"]
		p := put("k", "v")
		p.Session = session.Begin()
		token := m.mustPut(t, p).Session
		forged := slices.Clone(token)
		forged[len(forged)-1] ^= 1
		for name, c := range map[string]struct {
			a     coord.Await
			code  coord.Code
			field string
		}{
			"a local level":    {coord.Await{Session: token, Level: quorum.LocalQuorum}, coord.CodeInvalid, "level"},
			"too many regions": {coord.Await{Session: token, Regions: 3}, coord.CodeInvalid, "regions"},
			"no token":         {coord.Await{}, coord.CodeBadSession, "session"},
			"a forged token":   {coord.Await{Session: forged}, coord.CodeBadSession, "session"},
			"not a token":      {coord.Await{Session: []byte("token")}, coord.CodeBadSession, "session"},
			"too long":         {coord.Await{Session: make([]byte, session.MaxSent+1)}, coord.CodeBadSession, "session"},
		} {
			if _, err := m.await(t, c.a); err == nil || err.Code != c.code || err.Field != c.field {
				t.Errorf("%s: %+v", name, err)
			}
		}
	})
}

// Waiting is waiting: a region that nobody can be reached of may come back.
func TestAwaitOutlastsACut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := newRegions(t, 2, 3)
		m := all[0].nodes["an1"]
		p := leveled("k", "v", quorum.EachQuorum)
		p.Session = session.Begin()
		token := m.mustPut(t, p).Session
		all[1].lose(true)
		time.AfterFunc(time.Second, func() {
			for _, id := range all[1].ids() {
				all[1].fabric.Up(id)
				all[1].believe(id, false)
			}
		})
		if got, err := m.await(t, coord.Await{Session: token, Deadline: time.Now().Add(10 * time.Second)}); err != nil {
			t.Errorf("%v, %v", got, err)
		}
		all[1].lose(true)
		began := time.Now()
		if _, err := m.await(t, coord.Await{Session: token}); err == nil || err.Code != coord.CodePartial || time.Since(began) >= patience {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}

// Nobody waits for what is lost for good: one answer tells, soon, what of all
// partitions is; with the token that comes with it the rest is waited for.
func TestAwaitOfWhatIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := newRegions(t, 2, 4)
		r := all[0]
		m := r.nodes["an1"]
		west := crdt.MakeActor(9, 3)
		token := session.Begin()
		lost := map[hashring.Partition]string{}
		for i := range 20 {
			k := fmt.Sprint("k", i)
			p := put(k, "v")
			p.Level, p.Session = quorum.EachQuorum, token
			token = m.mustPut(t, p).Session
			if at := r.partition("default", k); len(lost) < 3 && lost[at] == "" {
				lost[at] = k
			}
		}
		for _, k := range lost {
			token = append(token, r.knowing(k, 1, crdt.Dot{Actor: west, N: 7}, crdt.Dot{Actor: west, N: 8})[1:]...)
		}
		if _, err := m.await(t, coord.Await{Session: token}); err == nil || err.Code != coord.CodePartial {
			t.Fatalf("before anybody has said that it is lost: %v", err)
		}
		began, waits := time.Now(), newOnce[[]coord.RegionAchieved](t)
		m.Await(coord.Await{Session: token, Deadline: time.Now().Add(time.Minute)}, waits.done)
		time.Sleep(3 * time.Second)
		told := 0
		for p, k := range lost {
			for _, o := range r.owners("default", k) {
				losses := &session.Losses{Cuts: []session.Cut{{Region: 3, Fence: 1}}}
				losses.Cuts[0].Survives.Add(crdt.Dot{Actor: west, N: 7})
				if err := o.replica.MeetLosses(p, losses); err != nil {
					t.Fatal(err)
				}
			}
			told++
		}
		check := func(what string, err *coord.Error, n int) []byte {
			t.Helper()
			if err == nil || err.Code != coord.CodeSessionLost || err.Outcome != coord.NotApplied || err.Missing != uint64(n) || len(err.MissingFrom) != 1 {
				t.Fatalf("%s: %+v", what, err)
			}
			return err.Session
		}
		_, werr := waits.wait()
		check("who waits", werr, told)
		if took := waits.at.Sub(began); took > 4*time.Second {
			t.Errorf("who waits is told after %v", took)
		}
		began = time.Now()
		_, err := m.await(t, coord.Await{Session: token, Deadline: time.Now().Add(time.Minute)})
		next := check("who asks", err, told)
		if took := time.Since(began); took > time.Second {
			t.Errorf("who asks is told after %v", took)
		}
		// What is not lost is waited for.
		if _, err := m.await(t, coord.Await{Session: next}); err == nil || err.Code != coord.CodePartial {
			t.Errorf("the rest: %v", err)
		}
		for _, g := range all {
			for _, k := range lost {
				for _, o := range g.owners("default", k) {
					o.replica.Apply([]wire.Entry{entryOf(k, crdt.Dot{Actor: west, N: 7}, "far")}, func(int, error) {})
				}
			}
			g.settle()
		}
		if got, err := m.await(t, coord.Await{Session: next}); err != nil || len(got) != 2 {
			t.Errorf("%v, %v", got, err)
		}
	})
}
