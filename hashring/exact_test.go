package hashring

import (
	"fmt"
	"math/bits"
	"math/rand/v2"
	"slices"
	"testing"
)

// fataler is what testing.TB and rapid.T share.
type fataler interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
}

// isCheapest proves by linear programming duality that no table of the same
// balance keeps more of current than next does. It spells out the flow that
// flow.go folds onto the nodes, partition by partition and rack by rack, and
// looks for a cycle of negative price in its residual graph with Bellman and
// Ford's algorithm: there is one if and only if fewer moves suffice.
func isCheapest(t fataler, current, next Table, members []Member, rules Rules) bool {
	t.Helper()
	l, shares, _, err := prepare(current, members, rules)
	if err != nil {
		t.Fatal(err)
	}
	type edge struct{ to, price int }
	racks, nodes := len(l.racks), l.size()
	row := func(p int) int { return p * (1 + racks) }
	cell := func(p int, z int32) int { return row(p) + 1 + int(z) }
	node := func(n int32) int { return l.partitions*(1+racks) + int(n) }
	pools := make(map[share]int)
	out := make([][]edge, l.partitions*(1+racks)+2*nodes)
	link := func(from, to, price int) { out[from] = append(out[from], edge{to, price}) }

	load := make([]int, nodes)
	for p, owners := range next.All() {
		p := int(p)
		in := make([]bool, nodes)
		crowd := make([]int, racks)
		for _, id := range owners {
			n := l.index[id]
			in[n] = true
			load[n]++
			crowd[l.rack[n]]++
		}
		for z := range racks {
			if crowd[z] < l.limit {
				link(row(p), cell(p, int32(z)), 0)
			}
			if crowd[z] > 0 {
				link(cell(p, int32(z)), row(p), 0)
			}
		}
		for n := range int32(nodes) {
			price := 1
			if p < current.Partitions() && slices.Contains(current.Owners(Partition(p)), l.ids[n]) {
				price = 0
			}
			if in[n] {
				link(node(n), cell(p, l.rack[n]), -price)
			} else {
				link(cell(p, l.rack[n]), node(n), price)
			}
		}
	}
	for n, s := range shares {
		if s.basin < 0 || s.remainder() == 0 {
			continue
		}
		// Nodes of equal remainder draw on one pool of copies left over.
		key := share{num: s.remainder(), basin: s.basin}
		if _, ok := pools[key]; !ok {
			pools[key] = node(0) + nodes + len(pools)
		}
		if int64(load[n]) == s.floor() {
			link(node(int32(n)), pools[key], 0)
		} else {
			link(pools[key], node(int32(n)), 0)
		}
	}

	dist := make([]int, len(out))
	queued := make([]bool, len(out))
	var queue []int
	for v := range out {
		queue, queued[v] = append(queue, v), true
	}
	for len(queue) > 0 {
		v := queue[0]
		queue, queued[v] = queue[1:], false
		for _, e := range out[v] {
			if dist[v]+e.price < dist[e.to] {
				dist[e.to] = dist[v] + e.price
				if dist[e.to] < -nodes-1 { // only nodes have negative edges
					return false
				}
				if !queued[e.to] {
					queue, queued[e.to] = append(queue, e.to), true
				}
			}
		}
	}
	return true
}

// TestExhaustive compares small plans with every table there is: no table
// under the rack rule is more level (least sum of squares, which for members
// of equal weight is also the smallest maximum), and none of the most level
// ones keeps more of the current table.
func TestExhaustive(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	const rounds = 1500
	detours := 0
	for range rounds {
		nodes := 1 + rng.IntN(5)
		rules := Rules{Partitions: 1 << rng.IntN(4), Replicas: 1 + rng.IntN(3)}
		var members []Member
		for i := range nodes {
			members = append(members, Member{ID: fmt.Sprintf("n%d", i), Rack: fmt.Sprintf("r%d", rng.IntN(4))})
		}
		current := randomTable(rng, rules.Partitions, nodes+1)
		if rng.IntN(3) == 0 { // a table that was planned for others
			other := slices.Clone(members)
			other[rng.IntN(nodes)].Rack = "elsewhere"
			other = append(other[rng.IntN(2):], Member{ID: "gone", Rack: "r0"})
			current = mustPlan(t, Table{}, other, rules).Next
		}
		plan := mustPlan(t, current, members, rules)
		if least, _ := MinimumMoves(current, members, rules); Copies(plan.Moves) > least {
			detours++
		}
		checkTable(t, plan.Next, members, rules)
		checkMoves(t, current, plan, members, rules)
		squares := 0
		for _, h := range plan.Next.Holdings() {
			squares += h.Owned * h.Owned
		}
		wantSquares, wantMoves := bruteForce(current, members, rules)
		if squares != wantSquares || Copies(plan.Moves) != wantMoves {
			t.Fatalf("members %v, rules %+v, current %v:\ngot  %v\nsquares %d, moves %d; best are %d and %d",
				members, rules, current.rows, plan.Next.rows, squares, Copies(plan.Moves), wantSquares, wantMoves)
		}
		if !isCheapest(t, current, plan.Next, members, rules) {
			t.Fatalf("the proof disagrees with the search: members %v, rules %+v, current %v", members, rules, current.rows)
		}
	}
	if detours == 0 {
		t.Error("no case needed more moves than the lower bound: the search for cycles was not tried")
	}
	t.Logf("%d cases, %d of them above the lower bound of moves", rounds, detours)
}

// bruteForce goes through all tables, partition by partition, keeping for each
// vector of loads the fewest moves that lead there.
func bruteForce(current Table, members []Member, rules Rules) (squares, moves int) {
	copies := min(len(members), rules.Replicas)
	limit := 1
	var rows []uint
	for ; len(rows) == 0; limit++ {
		for set := range uint(1) << len(members) {
			count := make(map[string]int)
			most := 0
			for i, m := range members {
				if set>>i&1 == 1 {
					count[m.Rack]++
					most = max(most, count[m.Rack])
				}
			}
			if bits.OnesCount(set) == copies && most <= limit {
				rows = append(rows, set)
			}
		}
	}
	states := map[[5]int]int{{}: 0}
	for p := range rules.Partitions {
		next := make(map[[5]int]int)
		for loads, cost := range states {
			for _, set := range rows {
				to, price := loads, cost
				for i, m := range members {
					if set>>i&1 == 1 {
						to[i]++
						if p >= current.Partitions() || !slices.Contains(current.Owners(Partition(p)), m.ID) {
							price++
						}
					}
				}
				if was, ok := next[to]; !ok || price < was {
					next[to] = price
				}
			}
		}
		states = next
	}
	first := true
	for loads, cost := range states {
		sum := 0
		for _, n := range loads {
			sum += n * n
		}
		if first || sum < squares || sum == squares && cost < moves {
			squares, moves, first = sum, cost, false
		}
	}
	return squares, moves
}

// randomTable is any table: rows of 0 to 4 owners among n0..., racks unheeded.
func randomTable(rng *rand.Rand, partitions, nodes int) Table {
	if rng.IntN(4) == 0 {
		return Table{}
	}
	rows := make([][]string, partitions)
	for p := range rows {
		for _, n := range rng.Perm(nodes)[:rng.IntN(min(nodes, 4)+1)] {
			rows[p] = append(rows[p], fmt.Sprintf("n%d", n))
		}
	}
	return MakeTable(rows)
}
