package hashring

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// TestUntangle makes a cycle whose two steps in one partition would put two
// owners into an empty rack, and expects the half of it that pays.
func TestUntangle(t *testing.T) {
	members := []Member{{ID: "a", Rack: "1"}, {ID: "b", Rack: "3"}, {ID: "c", Rack: "2"}, {ID: "d", Rack: "3"}}
	const a, b, c, d = 0, 1, 2, 3
	roster, err := makeRoster(members)
	if err != nil {
		t.Fatal(err)
	}
	for _, had := range []int32{b, d} {
		l := makeLayout(roster, Rules{Partitions: 1, Replicas: 2}, 1)
		l.orig[0] = []int32{had}
		l.aim([]int{1, 0, 1, 0})
		l.put(0, 0, a)
		l.put(0, 1, c)
		r := makeResidual(l)
		cycle := []arc{{a, b, 0}, {b, c, -1}, {c, d, 0}, {d, a, -1}}
		if !r.clash(cycle, cycle[0], cycle[2]) || r.total(cycle) != -1 {
			t.Fatal("the cycle does not clash")
		}
		got := r.untangle(cycle)
		want := []arc{{c, b, 0}, {b, c, -1}}
		if had == d {
			want = []arc{{a, d, 0}, {d, a, -1}}
		}
		if !slices.Equal(got, want) {
			t.Errorf("had %d: got %v, want %v", had, got, want)
		}
	}
	// Two steps that also leave that rack free enough are no clash.
	l := makeLayout(roster, Rules{Partitions: 1, Replicas: 2}, 2)
	l.put(0, 0, a)
	l.put(0, 1, c)
	cycle := []arc{{a, b, 0}, {b, c, -1}, {c, d, 0}, {d, a, -1}}
	if r := makeResidual(l); r.clash(cycle, cycle[0], cycle[2]) {
		t.Error("a clash within the limit")
	}
}

// TestResidualKeepsCount changes slots at random and compares the arcs counted
// along the way, the loads and the meetings with a fresh count.
func TestResidualKeepsCount(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 5))
	rules := Rules{Partitions: 16, Replicas: 3}
	roster, err := makeRoster(cluster(9, 4))
	if err != nil {
		t.Fatal(err)
	}
	l := makeLayout(roster, rules, 2)
	l.aim(make([]int, 9))
	for p := range l.orig {
		l.orig[p] = []int32{int32(p % 9), int32((p + 4) % 9)}
	}
	r := makeResidual(l)
	for range 2000 {
		p, s, b := rng.IntN(16), rng.IntN(3), int32(rng.IntN(9))
		if _, ok := l.fits(p, l.row(p)[s], b); ok {
			r.tally(p, -1)
			l.put(p, s, b)
			r.tally(p, 1)
		}
	}
	fresh := makeLayout(roster, rules, 2)
	fresh.orig = l.orig
	for i, n := range l.slot {
		fresh.put(i/3, i%3, n)
	}
	again := makeResidual(fresh)
	for price := range r.count {
		if !slices.Equal(r.count[price], again.count[price]) {
			t.Errorf("arcs of price %d were miscounted", price-1)
		}
	}
	if !slices.Equal(l.meet, fresh.meet) || !slices.Equal(l.load, fresh.load) {
		t.Error("loads or meetings were miscounted")
	}
	for i, n := range l.meet {
		a, b, want := int32(i/9), int32(i%9), int32(0)
		for p := range l.partitions {
			if a != b && l.slotOf(p, a) >= 0 && l.slotOf(p, b) >= 0 {
				want++
			}
		}
		if n != want {
			t.Fatalf("nodes %d and %d meet in %d partitions, counted %d", a, b, want, n)
		}
	}
}
