package regions

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/atolldb/atoll/geo/regionmap"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/peer/memnet"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/topology/memtopo"
)

// earth is regions of two nodes each.
type earth struct {
	t      *testing.T
	fabric *memnet.Fabric
	nodes  map[topology.NodeID]*Regions
	stores map[string]*memtopo.Store
	ids    map[string][]topology.NodeID
	disks  map[topology.NodeID][]byte
	mu     sync.Mutex
}

func newEarth(t *testing.T, names ...string) *earth {
	e := &earth{
		t: t, fabric: memnet.New(1, memnet.Config{}), nodes: map[topology.NodeID]*Regions{},
		stores: map[string]*memtopo.Store{}, ids: map[string][]topology.NodeID{}, disks: map[topology.NodeID][]byte{},
	}
	var tops []*topology.Topology
	var all []regionmap.Region
	for i, name := range names {
		var members []topology.Member
		for j := range 2 {
			id := topology.NodeID(fmt.Sprintf("%s%d", name, j+1))
			members = append(members, topology.Member{ID: id, Weight: 1})
			e.ids[name] = append(e.ids[name], id)
		}
		top, err := topology.Static(topology.Region(name), topology.RegionID(i+1), members, hashring.Rules{Partitions: 4, Replicas: 2})
		if err != nil {
			t.Fatal(err)
		}
		tops = append(tops, top)
		all = append(all, regionmap.Region{Name: name, ID: uint8(i + 1)})
		e.stores[name] = memtopo.NewStore()
	}
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for i, name := range names {
		others := slices.Delete(slices.Clone(tops), i, i+1)
		for j, id := range e.ids[name] {
			var r *Regions
			transport := e.fabric.Node(id, func(_ topology.NodeID, req peer.Request, reply peer.Done) { r.Handle(req, reply) })
			r = New(Config{Self: id, Region: topology.Region(name), ID: topology.RegionID(i + 1), First: regionmap.First(all)}, Deps{
				Store: e.stores[name], Transport: transport,
				Recall: func() ([]byte, error) { return nil, nil },
				Keep: func(b []byte) error {
					e.mu.Lock()
					defer e.mu.Unlock()
					e.disks[id] = b
					return nil
				},
				Peers:  func() []topology.NodeID { return []topology.NodeID{e.ids[name][1-j]} },
				Others: func() []*topology.Topology { return others },
				Rand:   rand.New(rand.NewPCG(1, uint64(i*2+j))), Log: hclog.NewNullLogger(),
			})
			e.nodes[id] = r
			wg.Go(func() { _ = r.Run(ctx) })
		}
	}
	t.Cleanup(func() { stop(); wg.Wait() })
	return e
}

func (e *earth) lose(region string) {
	e.stores[region].SetDown(true)
	for _, id := range e.ids[region] {
		e.fabric.Down(id)
	}
}

func (e *earth) back(region string) {
	e.stores[region].SetDown(false)
	for _, id := range e.ids[region] {
		e.fabric.Up(id)
	}
}

func set(region string, s regionmap.State) func(*regionmap.Map) error {
	return func(m *regionmap.Map) error { return m.Set(region, s) }
}

// all checks that all nodes of regions know the same.
func (e *earth) all(n uint64, region string, s regionmap.State, at ...string) {
	e.t.Helper()
	for _, name := range at {
		for _, id := range e.ids[name] {
			if k := e.nodes[id].Known(); k.Map.N != n || k.Map.State(region) != s || k.Contested {
				e.t.Errorf("%s knows version %s, %s is %s, contested %v", id, k.Map.Version, region, k.Map.State(region), k.Contested)
			}
			e.mu.Lock()
			kept, err := regionmap.DecodeKnown(e.disks[id])
			e.mu.Unlock()
			if err != nil || kept.Map.N != n {
				e.t.Errorf("%s has kept %+v, %v", id, kept, err)
			}
		}
	}
}

func TestChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEarth(t, "a", "b", "c")
		if _, err := e.nodes["a1"].Change(t.Context(), false, set("c", regionmap.Fenced)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second)
		e.all(1, "c", regionmap.Fenced, "a", "b", "c")
		_, err := e.nodes["b1"].Change(t.Context(), false, set("c", regionmap.Active))
		if err == nil || errors.Is(err, ErrUnknown) {
			t.Errorf("a fenced region became active: %v", err)
		}
		// One region is lost: two of three decide. Two are: only force does.
		e.lose("c")
		if _, err := e.nodes["b2"].Change(t.Context(), false, set("c", regionmap.Rejoining)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second)
		e.all(2, "c", regionmap.Rejoining, "a", "b")
		e.lose("b")
		if _, err := e.nodes["a1"].Change(t.Context(), false, set("b", regionmap.Fenced)); !errors.Is(err, ErrNoMajority) {
			t.Errorf("one of three decided: %v", err)
		}
		if _, err := e.nodes["a1"].Change(t.Context(), true, set("b", regionmap.Fenced)); err != nil {
			t.Fatal(err)
		}
		e.back("b")
		e.back("c")
		time.Sleep(5 * time.Second)
		e.all(3, "b", regionmap.Fenced, "a", "b", "c")
	})
}

// Changes at once from all regions: each that was decided is in the result.
func TestChangesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEarth(t, "a", "b", "c")
		e.fabric.SetAll(memnet.Faults{MinDelay: time.Millisecond, MaxDelay: 40 * time.Millisecond, Drop: 0.1})
		var mu sync.Mutex
		done, unknown := map[string]bool{}, map[string]bool{}
		var wg sync.WaitGroup
		for id, r := range e.nodes {
			wg.Go(func() {
				bucket := "of-" + string(id)
				_, err := r.Change(t.Context(), false, func(m *regionmap.Map) error {
					m.SetHome(bucket, "b")
					return nil
				})
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil:
					done[bucket] = true
				case errors.Is(err, ErrUnknown):
					unknown[bucket] = true
				}
			})
		}
		wg.Wait()
		e.fabric.SetAll(memnet.Faults{})
		time.Sleep(10 * time.Second)
		k := e.nodes["a1"].Known()
		if len(done) == 0 {
			t.Error("nobody got through")
		}
		for id, r := range e.nodes {
			if other := r.Known(); other.Contested || !other.Map.Equal(k.Map) {
				t.Errorf("%s knows version %s, a1 %s, contested %v", id, other.Map.Version, k.Map.Version, other.Contested)
			}
		}
		for bucket := range done {
			if h, _ := k.Map.Home(bucket); h.Region != "b" || h.Bucket != bucket {
				t.Errorf("the change of %s was decided, and is not there", bucket)
			}
		}
		t.Logf("%d changes decided, %d unknown", len(done), len(unknown))
	})
}

// Two regions are cut off from each other, and an operator forces a change in each:
// once they hear of each other, everybody knows that there were two.
func TestContested(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEarth(t, "a", "b")
		e.fabric.Partition(e.ids["a"], e.ids["b"])
		for _, c := range [][2]string{{"a1", "b"}, {"b1", "a"}} {
			if _, err := e.nodes[topology.NodeID(c[0])].Change(t.Context(), true, set(c[1], regionmap.Fenced)); err != nil {
				t.Fatal(err)
			}
		}
		e.fabric.HealAll()
		time.Sleep(5 * time.Second)
		for id, r := range e.nodes {
			k := r.Known()
			if !k.Contested || k.Map.By != 2 {
				t.Errorf("%s: contested %v, version %s", id, k.Contested, k.Map.Version)
			}
		}
		if _, err := e.nodes["a2"].Change(t.Context(), false, set("a", regionmap.Rejoining)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		e.all(2, "a", regionmap.Rejoining, "a", "b")
	})
}

func TestBadMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEarth(t, "a", "b")
		known := regionmap.EncodeKnown(e.nodes["a1"].Known())
		for _, body := range [][]byte{nil, {askTell}, {9}, {askGrant}, {askGrant, 1}, {askGrant, 1, 2}, append([]byte{askAccept}, known...), append([]byte{askPrepare}, known...), append([]byte{7}, regionmap.EncodeRegister(regionmap.Register{})...), append([]byte{askAccept}, regionmap.EncodeRegister(regionmap.Register{})...)} {
			var got error
			e.nodes["a1"].Handle(peer.Request{Verb: peer.VerbRegions, Timeout: time.Second, Body: body}, func(_ []byte, err error) { got = err })
			var refused *peer.Refusal
			if !errors.As(got, &refused) || refused.Code != peer.CodeInvalid {
				t.Errorf("%x: %v", body, got)
			}
		}
		if n := e.nodes["a1"].Known().Map.N; n != 0 {
			t.Errorf("a message that was refused changed the map: %d", n)
		}
	})
}

// What was heard before, from whomever, takes nothing back.
func TestOldMaps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEarth(t, "a", "b", "c")
		if _, err := e.nodes["a1"].Change(t.Context(), false, set("c", regionmap.Fenced)); err != nil {
			t.Fatal(err)
		}
		old := e.nodes["a1"].Known()
		if _, err := e.nodes["a1"].Change(t.Context(), false, set("c", regionmap.Rejoining)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second)
		for id, r := range e.nodes {
			r.Learn(old)
			r.Learn(regionmap.Known{Map: r.cfg.First})
			if k := r.Known(); k.Map.N != 2 || k.Map.State("c") != regionmap.Rejoining {
				t.Errorf("%s goes by version %s", id, k.Map.Version)
			}
		}
	})
}

// Whoever made a change ends before anybody hears of it: the others find it accepted,
// and finish it.
func TestFinish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEarth(t, "a", "b", "c")
		time.Sleep(time.Second)
		next := e.nodes["a1"].Known().Map.Clone()
		if err := next.Set("c", regionmap.Fenced); err != nil {
			t.Fatal(err)
		}
		next.Version = regionmap.Version{N: 1, By: 1}
		p := e.nodes["a1"].propose(0)
		for _, kind := range []byte{askPrepare, askAccept} {
			p.ask(t.Context(), []string{"a", "b"}, kind, regionmap.Register{Promised: p.ballot, At: p.ballot, Accepted: next})
		}
		time.Sleep(20 * time.Second)
		e.all(1, "c", regionmap.Fenced, "a", "b", "c")
	})
}

// A node holds a lease while enough other regions answer, and by their stores: not by a
// node that its own store has left, and not from a region that knows it to be out.
func TestGrants(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEarth(t, "a", "b", "c")
		leased := func(want bool, what string) {
			t.Helper()
			if got := e.nodes["a1"].Leased(); got != want {
				t.Errorf("%s: a lease: %v", what, got)
			}
		}
		stats := func(what string, least, most time.Duration) LeaseStats {
			t.Helper()
			s := e.nodes["a1"].Lease()
			if s.Left < least || s.Left > most || (s.Left > 0) != e.nodes["a1"].Leased() {
				t.Errorf("%s: %v are left of %v, not %v to %v: %+v", what, s.Left, s.Lasts, least, most, s)
			}
			return s
		}
		leased(true, "no leases")
		if s := e.nodes["a1"].Lease(); s.Lasts != 0 || s.Grants != nil {
			t.Errorf("no leases: %+v", s)
		}
		if _, err := e.nodes["b1"].SetLease(t.Context(), time.Second, false); !errors.Is(err, regionmap.ErrInvalid) {
			t.Errorf("a lease of a second: %v", err)
		}
		if _, err := e.nodes["b1"].SetLease(t.Context(), 8*time.Second, false); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		leased(true, "all are there")
		if s := stats("all are there", 4*time.Second, 8*time.Second); s.Lasts != 8*time.Second || len(s.Grants) != 2 || s.Asked["b"].Granted == 0 {
			t.Errorf("all are there: %+v", s)
		}
		e.lose("b")
		time.Sleep(20 * time.Second)
		leased(true, "c is there")
		e.stores["c"].SetDown(true)
		time.Sleep(5 * time.Second)
		leased(true, "c has granted it before")
		if s := stats("c has granted it before", time.Millisecond, 4*time.Second); s.Grants["b"] != 0 || s.Asked["b"].Silent == 0 {
			t.Errorf("b is lost: %+v", s)
		}
		time.Sleep(5 * time.Second)
		leased(false, "no store of another region says anything")
		if s := stats("no store of another region says anything", 0, 0); s.Asked["c"].Silent == 0 {
			t.Errorf("c cannot say anything: %+v", s)
		}
		e.stores["c"].SetDown(false)
		time.Sleep(10 * time.Second)
		leased(true, "c is there again")
		e.back("b")
		time.Sleep(10 * time.Second)
		// A node of a alone, which hears nothing: c and b go on without it.
		e.fabric.Partition([]topology.NodeID{"a1"}, []topology.NodeID{"a2"})
		if _, err := e.nodes["b1"].Change(t.Context(), false, set("a", regionmap.Fenced)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(9 * time.Second)
		leased(false, "a is fenced")
		body := append([]byte{askGrant, 1}, regionmap.EncodeKnown(regionmap.Known{})...)
		if _, err := peer.Call(t.Context(), e.nodes["a2"].deps.Transport, "c1", peer.Request{Verb: peer.VerbRegions, Timeout: 3 * time.Second, Body: body}); err == nil {
			t.Error("a region that is fenced is granted a lease")
		}
	})
}

// What came of asking for a lease is told apart: a refusal is an answer.
func TestAsked(t *testing.T) {
	var l leases
	l.count("b", nil)
	l.count("b", fmt.Errorf("ask: %w", &peer.Refusal{Code: peer.CodeUnknown}))
	l.count("b", &peer.Refusal{Code: peer.CodeOverloaded})
	l.count("c", context.DeadlineExceeded)
	if want := map[string]Asked{"b": {Granted: 1, Refused: 2}, "c": {Silent: 1}}; !maps.Equal(l.asked, want) {
		t.Errorf("%+v, not %+v", l.asked, want)
	}
}
