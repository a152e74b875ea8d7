package client

import (
	"errors"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	adminv1 "github.com/atolldb/atoll/proto/atoll/admin/v1"
)

// TestPick compares with what is promised: a write goes to the first owner
// that is live and untried, a read to such an owner that is no busier than
// another; then any live and untried node; then owners again.
func TestPick(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		count := rapid.IntRange(1, 6).Draw(t, "nodes")
		replicas := rapid.IntRange(1, min(3, count)).Draw(t, "replicas")
		v := &view{rows: make([][]uint32, 1)}
		down := make(map[*node]bool)
		tried := make(map[*node]bool)
		var triedList []*node
		for i := range count {
			n := &node{addr: fmt.Sprint(i), link: newLink(nil, nil)}
			n.inFlight.Store(rapid.Int64Range(0, 3).Draw(t, "busy"))
			if down[n] = rapid.Bool().Draw(t, "down"); down[n] {
				n.link.fail(errors.New("down"))
			}
			if tried[n] = rapid.Bool().Draw(t, "tried"); tried[n] {
				triedList = append(triedList, n)
			}
			v.nodes = append(v.nodes, n)
		}
		first := rapid.IntRange(0, count-1).Draw(t, "primary")
		owns := make(map[*node]bool)
		var owners []*node
		for i := range replicas {
			v.rows[0] = append(v.rows[0], uint32((first+i)%count))
			owners = append(owners, v.nodes[(first+i)%count])
			owns[owners[i]] = true
		}
		write := rapid.Bool().Draw(t, "write")
		got, live := v.pick(rapid.Uint64().Draw(t, "hash"), write, triedList)
		if live == down[got] {
			t.Fatalf("%s is called live: %v", got.addr, live)
		}
		if count == 1 {
			if got != v.nodes[0] {
				t.Fatal("the only node was not picked")
			}
			return
		}
		good := func(n *node) bool { return !down[n] && !tried[n] }
		goodOwners, goodNodes, freshOwners := 0, 0, 0
		var busiest int64 = -1
		var firstGood *node
		for _, n := range v.nodes {
			if good(n) {
				goodNodes++
			}
		}
		for _, n := range owners {
			if !tried[n] {
				freshOwners++
			}
			if good(n) {
				goodOwners++
				busiest = max(busiest, n.inFlight.Load())
				if firstGood == nil {
					firstGood = n
				}
			}
		}
		switch {
		case goodOwners > 0 && write:
			if got != firstGood {
				t.Fatalf("write to %s, want %s", got.addr, firstGood.addr)
			}
		case goodOwners > 0:
			if !owns[got] || !good(got) {
				t.Fatalf("read from %s", got.addr)
			}
			if goodOwners == 2 && got.inFlight.Load() == busiest {
				for _, n := range owners {
					if good(n) && n.inFlight.Load() < busiest {
						t.Fatalf("read from the busier of two")
					}
				}
			}
		case goodNodes > 0:
			if !good(got) {
				t.Fatalf("%s is down or was tried", got.addr)
			}
		case freshOwners > 0:
			if !owns[got] || tried[got] {
				t.Fatalf("%s is no owner or was tried", got.addr)
			}
		default:
			if !owns[got] {
				t.Fatalf("%s is no owner", got.addr)
			}
		}
	})
}

func TestReadsSpread(t *testing.T) {
	v := &view{rows: [][]uint32{{0, 1, 2}}}
	seen := make(map[*node]int)
	for range 4 {
		v.nodes = append(v.nodes, &node{link: newLink(nil, nil)})
	}
	for range 3000 {
		n, _ := v.pick(7, false, nil)
		seen[n]++
	}
	for i, n := range v.nodes[:3] {
		if seen[n] < 800 || seen[n] > 1200 {
			t.Errorf("owner %d has %d of 3000 reads", i, seen[n])
		}
	}
}

func TestCheckTopology(t *testing.T) {
	good := func() *adminv1.GetTopologyResponse {
		return &adminv1.GetTopologyResponse{
			Region: "eu", Epoch: 1, Partitions: 2, Replicas: 1, Owners: []uint32{0, 1},
			Members: []*adminv1.Member{{Id: "a", ClientAddr: "a:1"}, {Id: "b", ClientAddr: "b:1"}},
		}
	}
	if err := checkTopology(good()); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*adminv1.GetTopologyResponse){
		"empty":             func(r *adminv1.GetTopologyResponse) { *r = adminv1.GetTopologyResponse{} }, // a test
		"not a power of 2":  func(r *adminv1.GetTopologyResponse) { r.Partitions, r.Owners = 3, []uint32{0, 1, 0} },
		"too many":          func(r *adminv1.GetTopologyResponse) { r.Partitions = 1 << 17 },
		"no replicas":       func(r *adminv1.GetTopologyResponse) { r.Replicas, r.Owners = 0, nil },
		"owners missing":    func(r *adminv1.GetTopologyResponse) { r.Owners = r.Owners[:1] },
		"product overflows": func(r *adminv1.GetTopologyResponse) { r.Replicas = 1 << 31 },
		"a stranger":        func(r *adminv1.GetTopologyResponse) { r.Owners[1] = 2 },
		"no address":        func(r *adminv1.GetTopologyResponse) { r.Members[1].ClientAddr = "" },
		"rows missing":      func(r *adminv1.GetTopologyResponse) { r.Rows = []*adminv1.Row{{Owners: []uint32{0}}} },
		"an empty row": func(r *adminv1.GetTopologyResponse) {
			r.Owners, r.Rows = nil, []*adminv1.Row{{Owners: []uint32{0}}, {}}
		},
		"a stranger in a row": func(r *adminv1.GetTopologyResponse) {
			r.Owners, r.Rows = nil, []*adminv1.Row{{Owners: []uint32{0}}, {Owners: []uint32{2}}}
		},
	} {
		r := good()
		spoil(r)
		if checkTopology(r) == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// While the number of replicas changes, partitions differ in their number of
// owners.
func TestRowsOfDifferentLengths(t *testing.T) {
	r := &adminv1.GetTopologyResponse{
		Region: "eu", Epoch: 1, Partitions: 2, Replicas: 2,
		Rows:    []*adminv1.Row{{Owners: []uint32{1}}, {Owners: []uint32{0, 1}}},
		Members: []*adminv1.Member{{Id: "a", ClientAddr: "a:1"}, {Id: "b", ClientAddr: "b:1"}},
	}
	if err := checkTopology(r); err != nil {
		t.Fatal(err)
	}
	v := &view{rows: rowsOf(r)}
	if low, high := v.ownersOf(0), v.ownersOf(1<<63); len(low) != 1 || low[0] != 1 || len(high) != 2 {
		t.Errorf("owners %v and %v", low, high)
	}
}

func TestAdopt(t *testing.T) {
	c := newCluster()
	cfg := newConfig(nil)
	c.connect = connector(&cfg)
	defer c.close()
	top := func(region string, epoch uint64, addrs ...string) *adminv1.GetTopologyResponse {
		r := &adminv1.GetTopologyResponse{Region: region, Epoch: epoch, Partitions: 1, Replicas: 1, Owners: []uint32{0}}
		for _, a := range addrs {
			r.Members = append(r.Members, &adminv1.Member{Id: a, ClientAddr: a})
		}
		return r
	}
	must := func(r *adminv1.GetTopologyResponse) *view {
		t.Helper()
		if err := c.adopt(r); err != nil {
			t.Fatal(err)
		}
		return c.view.Load()
	}
	if err := c.addSeeds("seed:1"); err != nil {
		t.Fatal(err)
	}
	v1 := must(top("eu", 5, "a:1", "b:1"))
	if v := must(top("eu", 4, "c:1")); v != v1 {
		t.Error("an older topology was adopted")
	}
	v2 := must(top("eu", 6, "b:1", "c:1"))
	if v2.nodes[0] != v1.nodes[1] {
		t.Error("a node that stays was connected anew")
	}
	if c.nodes["a:1"] == nil {
		t.Error("a node that has left was cut off at once")
	}
	must(top("eu", 6, "b:1", "c:1"))
	if c.nodes["a:1"] != nil {
		t.Error("a node that has left is kept for ever")
	}
	if v1.nodes[0].link.live() {
		t.Error("a node that has left is called live")
	}
	if c.nodes["seed:1"] == nil {
		t.Error("a seed was dropped")
	}
}
