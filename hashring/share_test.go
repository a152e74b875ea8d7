package hashring

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

// TestSharesAgainstBisection finds the water level by halving, in floating
// point, for the region and then for each rack that is at its limit.
func TestSharesAgainstBisection(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rules, members := drawRules(t), drawMembers(t, "members", 16)
		ideal, err := Optimum(members, rules)
		if err != nil {
			t.Fatal(err)
		}
		each := float64(rules.Partitions)
		racks := make(map[string][]Member)
		for _, m := range members {
			racks[m.Rack] = append(racks[m.Rack], m)
		}
		at := func(m Member, level float64) float64 { return min(each, level*float64(max(m.Weight, 1))) }
		volume := func(in []Member, level float64) float64 {
			sum := 0.0
			for _, m := range in {
				sum += at(m, level)
			}
			return sum
		}
		raise := func(to float64, volume func(level float64) float64) float64 {
			low, high := 0.0, each+1
			for range 200 {
				if mid := (low + high) / 2; volume(mid) < to {
					low = mid
				} else {
					high = mid
				}
			}
			return high
		}
		room := each * float64(ideal.RackLimit)
		level := raise(each*float64(ideal.Copies)-1e-9, func(level float64) float64 {
			sum := 0.0
			for _, in := range racks {
				sum += min(room, volume(in, level))
			}
			return sum
		})
		total := 0.0
		for _, in := range racks {
			own := level
			if volume(in, level) > room {
				own = raise(room-1e-9, func(level float64) float64 { return volume(in, level) })
			}
			for _, m := range in {
				total += ideal.Fair[m.ID]
				if want := at(m, own); math.Abs(want-ideal.Fair[m.ID]) > 1e-6 {
					t.Fatalf("%s has a share of %v, bisection says %v", m.ID, ideal.Fair[m.ID], want)
				}
			}
		}
		if math.Abs(total-each*float64(ideal.Copies)) > 1e-6 {
			t.Fatalf("shares add up to %v, want %v", total, each*float64(ideal.Copies))
		}
	})
}

func TestOptimumUnderStrictRacks(t *testing.T) {
	members := []Member{{ID: "a", Rack: "x"}, {ID: "b", Rack: "x"}, {ID: "c", Rack: "y"}, {ID: "d", Rack: "z"}}
	for _, c := range []struct {
		policy ZonePolicy
		limit  int
		most   int
	}{{Strict, 1, 128}, {Balanced, 2, 96}} {
		ideal, err := Optimum(members, Rules{Partitions: 128, Replicas: 3, ZonePolicy: c.policy})
		if err != nil {
			t.Fatal(err)
		}
		if ideal.RackLimit != c.limit || ideal.Max != c.most || ideal.Mean != 96 || ideal.Copies != 3 {
			t.Errorf("%v: %+v", c.policy, ideal)
		}
	}
}

// A node too heavy for its weight to count in full must not make its rack look
// full: what it can't hold goes to all others alike.
func TestHeavyNodeDoesNotFillItsRack(t *testing.T) {
	members := []Member{
		{ID: "heavy", Rack: "x", Weight: 50}, {ID: "a", Rack: "x"}, {ID: "b", Rack: "x"},
		{ID: "c", Rack: "y"}, {ID: "d", Rack: "y"}, {ID: "e", Rack: "y"}, {ID: "f", Rack: "y"},
	}
	ideal, err := Optimum(members, Rules{Partitions: 128, Replicas: 3})
	if err != nil {
		t.Fatal(err)
	}
	for id, fair := range ideal.Fair {
		want := 256.0 / 6
		if id == "heavy" {
			want = 128
		}
		if math.Abs(fair-want) > 1e-9 {
			t.Errorf("%s has a share of %v, want %v", id, fair, want)
		}
	}
}
