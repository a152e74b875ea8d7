package hashring

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// report is what a table looks like next to the ideal.
type report struct {
	overFair  float64 // busiest member, load/weight over mean
	overIdeal float64 // the same over the largest load/weight of the best table
	rounding  float64 // largest distance of a member from its fair share, in partitions
	primary   float64 // most primaries over those due to what the member owns
	peer      float64 // largest share of one member's data that one other member has too
	peerEven  float64 // what that share would be if all pairs met alike
	crowded   int     // rows beyond the rack limit
	shared    int     // rows with two owners in a rack
}

func measure(t testing.TB, table Table, members []Member, rules Rules) report {
	t.Helper()
	ideal, err := Optimum(members, rules)
	if err != nil {
		t.Fatal(err)
	}
	var out report
	weight := make(map[string]float64)
	total, fairest := 0.0, 0.0
	for _, m := range members {
		weight[m.ID] = float64(max(m.Weight, 1))
		total += weight[m.ID]
		fairest = max(fairest, math.Ceil(ideal.Fair[m.ID])/weight[m.ID])
	}
	held := table.Holdings()
	for id, h := range held {
		part := float64(rules.Partitions*ideal.Copies) * weight[id] / total
		out.overFair = max(out.overFair, float64(h.Owned)/part)
		out.overIdeal = max(out.overIdeal, float64(h.Owned)/weight[id]/fairest)
		out.primary = max(out.primary, float64(h.Primary*ideal.Copies)/float64(h.Owned))
	}
	for id, fair := range ideal.Fair {
		out.rounding = max(out.rounding, math.Abs(fair-float64(held[id].Owned)))
	}
	index := make(map[string]int)
	for i, m := range members {
		index[m.ID] = i
	}
	n := len(members)
	meet, row := make([]int, n*n), make([]int, 0, ideal.Copies)
	for _, owners := range table.All() {
		row = row[:0]
		for _, id := range owners {
			row = append(row, index[id])
		}
		most := 0
		for _, a := range row {
			crowd := 0
			for _, b := range row {
				meet[a*n+b]++
				if members[a].Rack == members[b].Rack {
					crowd++
				}
			}
			most = max(most, crowd)
		}
		if most > ideal.RackLimit {
			out.crowded++
		}
		if most > 1 {
			out.shared++
		}
	}
	for i, common := range meet {
		a, b := members[i/n], members[i%n]
		if share := float64(common) / float64(held[a.ID].Owned); a.ID != b.ID && share > out.peer {
			out.peer = share
			elsewhere := 0
			for _, m := range members {
				if m.ID != a.ID && (ideal.RackLimit > 1 || m.Rack != a.Rack) {
					elsewhere += held[m.ID].Owned
				}
			}
			out.peerEven = float64((ideal.Copies-1)*held[b.ID].Owned) / float64(elsewhere)
		}
	}
	return out
}

func mustPlan(t testing.TB, current Table, members []Member, rules Rules) Proposal {
	t.Helper()
	out, err := Plan(current, members, rules)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestGoals measures the planner against its goals and prints what it saw
// (go test -run TestGoals -v), random virtual nodes beside it.
func TestGoals(t *testing.T) {
	t.Run("sizes", goalSizes)
	t.Run("weights", goalWeights)
	t.Run("racks", goalRacks)
	t.Run("soak", goalSoak)
}

func goalSizes(t *testing.T) {
	var out strings.Builder
	fmt.Fprintf(&out, "\n3 racks, 3 replicas; vnodes: median of 5 seeds\n%5s %5s | %8s %9s %8s %11s %5s %7s | %7s %7s %7s | %s\n",
		"nodes", "P", "max/mean", "max/ideal", "primary", "peer (even)", "crowd", "plan", "T=16", "T=64", "T=256", "add 3: moved/minimum, T=256 moved, plan")
	for _, partitions := range []int{1024, 4096} {
		for _, nodes := range []int{3, 6, 12, 30, 60, 99, 300} {
			rules := Rules{Partitions: partitions, Replicas: 3}
			members := cluster(nodes, 3)
			start := time.Now()
			first := mustPlan(t, Table{}, members, rules)
			took := time.Since(start)
			got := measure(t, first.Next, members, rules)
			fmt.Fprintf(&out, "%5d %5d | %8.3f %9.3f %8.3f %.3f (%.3f) %5d %5dms |", nodes, partitions,
				got.overFair, got.overIdeal, got.primary, got.peer, got.peerEven, got.crowded, took.Milliseconds())

			more := cluster(nodes+3, 3)
			vnodeMoved := 0.0
			for _, tokens := range []int{16, 64, 256} {
				var worst []float64
				for seed := range uint64(5) {
					worst = append(worst, worstLoad(makeVnodeRing(members, tokens, seed).load(3), members, 3))
				}
				slices.Sort(worst)
				fmt.Fprintf(&out, " %7.3f", worst[2])
				if tokens == 256 {
					a, b := makeVnodeRing(members, tokens, 1).table(partitions, 3), makeVnodeRing(more, tokens, 1).table(partitions, 3)
					vnodeMoved = MovedShare(b, Diff(a, b))
				}
			}
			start = time.Now()
			grown := mustPlan(t, first.Next, more, rules)
			took = time.Since(start)
			least, err := MinimumMoves(first.Next, more, rules)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&out, " | %.4f/%.4f %.4f %dms\n", MovedShare(grown.Next, grown.Moves),
				float64(least)/float64(grown.Next.Copies()), vnodeMoved, took.Milliseconds())

			if got.crowded > 0 || got.shared > 0 {
				t.Errorf("%d nodes, %d partitions: %d rows break the rack rule", nodes, partitions, got.crowded)
			}
			if got.rounding >= 1 || got.overIdeal > 1 {
				t.Errorf("%d nodes, %d partitions: %.3f partitions off the fair share, %.3f of the ideal's busiest", nodes, partitions, got.rounding, got.overIdeal)
			}
			// One partition more than the mean is what whole partitions cost.
			if got.overFair > max(1.02, 1+float64(nodes)/float64(3*partitions)) {
				t.Errorf("%d nodes, %d partitions: max/mean %.3f", nodes, partitions, got.overFair)
			}
			// A lost node is rebuilt from many: no peer has much more than its
			// even part, where partitions are enough to be even with.
			if partitions >= 40*nodes && got.peer > 1.5*got.peerEven {
				t.Errorf("%d nodes, %d partitions: one peer has %.3f of a node's data, evenly it were %.3f", nodes, partitions, got.peer, got.peerEven)
			}
			if Copies(grown.Moves) != least {
				t.Errorf("%d nodes, %d partitions: adding three moved %d copies, %d suffice", nodes, partitions, Copies(grown.Moves), least)
			}
		}
	}
	t.Log(out.String())
}

func goalWeights(t *testing.T) {
	var out strings.Builder
	fmt.Fprintf(&out, "\nweights 1:2 in turn, 3 racks, 3 replicas, P=4096\n%5s | %13s %9s %8s %5s | %7s %7s %7s\n", "nodes", "max/mean (w)", "max/ideal", "primary", "crowd", "T=16", "T=64", "T=256")
	rules := Rules{Partitions: 4096, Replicas: 3}
	for _, nodes := range []int{6, 12, 30, 60, 99, 300} {
		members := cluster(nodes, 3)
		for i := range members {
			members[i].Weight = 1 + i/3%2
		}
		got := measure(t, mustPlan(t, Table{}, members, rules).Next, members, rules)
		fmt.Fprintf(&out, "%5d | %13.3f %9.3f %8.3f %5d |", nodes, got.overFair, got.overIdeal, got.primary, got.crowded)
		for _, tokens := range []int{16, 64, 256} {
			fmt.Fprintf(&out, " %7.3f", worstLoad(makeVnodeRing(members, tokens, 1).load(3), members, 3))
		}
		out.WriteByte('\n')
		if got.crowded > 0 || got.rounding >= 1 || got.overIdeal > 1 {
			t.Errorf("%d nodes: %+v", nodes, got)
		}
	}
	t.Log(out.String())
}

func goalRacks(t *testing.T) {
	var out strings.Builder
	fmt.Fprintf(&out, "\nunequal racks, 3 replicas, P=1024\n%-18s | %-28s | %-28s\n%-18s | %8s %9s %9s | %8s %9s %9s\n", "", "strict", "balanced", "nodes per rack",
		"max/mean", "max/ideal", "rack 2x", "max/mean", "max/ideal", "rack 2x")
	for _, shape := range [][]int{{1}, {2}, {3}, {2, 2}, {2, 1, 1}, {2, 2, 1}, {3, 1, 1}, {5, 4, 4}, {10, 5, 5}, {10, 1, 1, 1}, {4, 3, 2, 1}, {5, 5, 5, 1}, {1, 1, 1, 1, 1, 1, 1}} {
		var members []Member
		for rack, n := range shape {
			for range n {
				members = append(members, Member{ID: fmt.Sprintf("n%03d", len(members)), Rack: fmt.Sprintf("r%d", rack)})
			}
		}
		fmt.Fprintf(&out, "%-18s |", strings.Trim(fmt.Sprint(shape), "[]"))
		for _, policy := range []ZonePolicy{Strict, Balanced} {
			rules := Rules{Partitions: 1024, Replicas: 3, ZonePolicy: policy}
			got := measure(t, mustPlan(t, Table{}, members, rules).Next, members, rules)
			fmt.Fprintf(&out, " %8.3f %9.3f %8.0f%% |", got.overFair, got.overIdeal, 100*float64(got.shared)/1024)
			if got.crowded > 0 || got.rounding >= 1 || got.overIdeal > 1 {
				t.Errorf("%v %v: %+v", shape, policy, got)
			}
			if policy == Strict && len(shape) >= 3 && got.shared > 0 {
				t.Errorf("%v: %d rows have two owners in a rack", shape, got.shared)
			}
		}
		out.WriteByte('\n')
	}
	t.Log(out.String())
}

// goalSoak adds and removes 60 random nodes, one at a time.
func goalSoak(t *testing.T) {
	steps := 60
	if testing.Short() {
		steps = 10
	}
	var out strings.Builder
	fmt.Fprintf(&out, "\n%d random adds and removes from 30 nodes, 3 replicas, P=4096\n%6s %9s %9s | %14s %10s %9s %9s %8s %11s %5s %7s\n",
		steps, "racks", "weights", "policy", "moved/minimum", "(simple)", "max/mean", "max/ideal", "primary", "peer (even)", "crowd", "slowest")
	for _, c := range []struct {
		racks, weights int
		policy         ZonePolicy
	}{{3, 1, Strict}, {3, 2, Strict}, {5, 1, Strict}, {30, 1, Strict}, {1, 1, Strict}, {3, 1, Balanced}} {
		rules := Rules{Partitions: 4096, Replicas: 3, ZonePolicy: c.policy}
		rng := rand.New(rand.NewPCG(1, uint64(c.racks)))
		members := cluster(30, c.racks)
		for i := range members {
			members[i].Weight = 1 + rng.IntN(c.weights)
		}
		table := mustPlan(t, Table{}, members, rules).Next
		moved, least, simple, next := 0, 0, 0, 30
		var worst report
		var slowest time.Duration
		for range steps {
			if rng.IntN(2) == 0 && len(members) > 15 {
				members = slices.Delete(slices.Clone(members), 3, 4)
				at := rng.IntN(len(members))
				members[0], members[at] = members[at], members[0]
			} else {
				members = append(members, Member{ID: fmt.Sprintf("n%03d", next), Rack: fmt.Sprintf("r%d", rng.IntN(c.racks)), Weight: 1 + rng.IntN(c.weights)})
				next++
			}
			start := time.Now()
			plan := mustPlan(t, table, members, rules)
			slowest = max(slowest, time.Since(start))
			bound, err := MinimumMoves(table, members, rules)
			if err != nil {
				t.Fatal(err)
			}
			simple += bound
			if n := Copies(plan.Moves); n != bound {
				// Racks can force a detour. Then the bound proves nothing, but
				// a graph without a cycle of negative price does.
				if !isCheapest(t, table, plan.Next, members, rules) {
					t.Errorf("%+v: moved %d copies, fewer suffice", c, n)
				} else {
					bound = n
				}
			}
			moved, least, table = moved+Copies(plan.Moves), least+bound, plan.Next
			got := measure(t, table, members, rules)
			if c.policy == Strict && got.peer > 1.5*got.peerEven {
				t.Errorf("%+v: one peer has %.3f of a node's data, evenly it were %.3f", c, got.peer, got.peerEven)
			}
			if got.peer > worst.peer {
				worst.peer, worst.peerEven = got.peer, got.peerEven
			}
			worst.overFair = max(worst.overFair, got.overFair)
			worst.overIdeal = max(worst.overIdeal, got.overIdeal)
			worst.primary = max(worst.primary, got.primary)
			worst.crowded += got.crowded
			if got.rounding >= 1 {
				t.Errorf("%+v: a member is %.2f partitions off its share", c, got.rounding)
			}
		}
		ratio := float64(moved) / float64(least)
		fmt.Fprintf(&out, "%6d %9d %9s | %14.4f %10.4f %9.3f %9.3f %8.3f %.3f (%.3f) %5d %5dms\n", c.racks, c.weights, c.policy,
			ratio, float64(moved)/float64(simple), worst.overFair, worst.overIdeal, worst.primary, worst.peer, worst.peerEven, worst.crowded, slowest.Milliseconds())
		if ratio > 1.001 || worst.crowded > 0 || worst.overIdeal > 1.02 {
			t.Errorf("%+v: moved/minimum %.4f, %+v", c, ratio, worst)
		}
	}
	t.Log(out.String())
}
