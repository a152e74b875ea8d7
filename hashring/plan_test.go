package hashring

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func drawMembers(t *rapid.T, label string, most int) []Member {
	racks := rapid.IntRange(1, 6).Draw(t, label+" racks")
	weights := rapid.SampledFrom([][]int{{0, 1}, {1, 2, 3}, {1, 1, 1, 1, 50}}).Draw(t, label+" weights")
	ids := rapid.SliceOfNDistinct(rapid.IntRange(0, 20), 1, most, rapid.ID[int]).Draw(t, label+" ids")
	var out []Member
	for _, id := range ids {
		out = append(out, Member{
			ID:     fmt.Sprintf("n%d", id),
			Rack:   fmt.Sprintf("r%d", rapid.IntRange(1, racks).Draw(t, "rack")),
			Weight: rapid.SampledFrom(weights).Draw(t, "weight"),
		})
	}
	return out
}

func drawRules(t *rapid.T) Rules {
	return Rules{
		Partitions: 1 << rapid.IntRange(0, 6).Draw(t, "log partitions"),
		Replicas:   rapid.IntRange(1, 5).Draw(t, "replicas"),
		ZonePolicy: rapid.SampledFrom([]ZonePolicy{Strict, Balanced}).Draw(t, "policy"),
	}
}

// TestPlanLaws plans from any table to any members and checks every promise of
// the package comment.
func TestPlanLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rules, members := drawRules(t), drawMembers(t, "next", 14)
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		var current Table
		switch rapid.IntRange(0, 2).Draw(t, "current") {
		case 1:
			current = randomTable(rng, rules.Partitions, 20)
		case 2:
			before := rules
			before.Replicas = rapid.IntRange(1, 5).Draw(t, "replicas before")
			old, err := Plan(Table{}, drawMembers(t, "before", 14), before)
			if err != nil {
				t.Fatal(err)
			}
			current = old.Next
		}
		plan, err := Plan(current, members, rules)
		if err != nil {
			t.Fatal(err)
		}
		checkTable(t, plan.Next, members, rules)
		checkMoves(t, current, plan, members, rules)

		shuffled := slices.Clone(members)
		rng.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		again, err := Plan(current, shuffled, rules)
		if err != nil {
			t.Fatal(err)
		}
		if again.Next.Fingerprint() != plan.Next.Fingerprint() || !slices.Equal(again.Moves, plan.Moves) {
			t.Fatal("the order of members changes the plan")
		}
		rest, err := Plan(plan.Next, members, rules)
		if err != nil {
			t.Fatal(err)
		}
		if len(rest.Moves) != 0 || rest.Next.Fingerprint() != plan.Next.Fingerprint() {
			t.Fatalf("a planned table is planned again: %v", rest.Moves)
		}
	})
}

// checkTable: owners distinct and known, racks kept, shares and primaries
// within rounding.
func checkTable(t fataler, table Table, members []Member, rules Rules) {
	ideal, err := Optimum(members, rules)
	if err != nil {
		t.Fatal(err)
	}
	t.Helper()
	rack := make(map[string]string)
	racks := make(map[string]bool)
	for _, m := range members {
		rack[m.ID] = m.Rack
		racks[m.Rack] = true
	}
	if table.Partitions() != rules.Partitions || ideal.Copies != min(len(members), rules.Replicas) {
		t.Fatalf("%d partitions of %d copies", table.Partitions(), ideal.Copies)
	}
	if rules.ZonePolicy == Strict && len(racks) >= ideal.Copies && ideal.RackLimit != 1 {
		t.Fatalf("rack limit %d with %d racks", ideal.RackLimit, len(racks))
	}
	if len(racks) > 1 && ideal.Copies > 1 && rules.ZonePolicy == Balanced {
		strict := rules
		strict.ZonePolicy = Strict
		narrow, err := Optimum(members, strict)
		if err != nil {
			t.Fatal(err)
		}
		if ideal.RackLimit > narrow.RackLimit && ideal.RackLimit >= ideal.Copies {
			t.Fatalf("balanced lets a rack hold all %d copies", ideal.Copies)
		}
	}
	for p, owners := range table.All() {
		seen, crowd := make(map[string]bool), make(map[string]int)
		for _, id := range owners {
			if _, known := rack[id]; !known || seen[id] {
				t.Fatalf("partition %d: owners %v", p, owners)
			}
			seen[id] = true
			if crowd[rack[id]]++; crowd[rack[id]] > ideal.RackLimit {
				t.Fatalf("partition %d: owners %v crowd a rack", p, owners)
			}
		}
		if len(owners) != ideal.Copies {
			t.Fatalf("partition %d has owners %v, want %d", p, owners, ideal.Copies)
		}
	}
	held := table.Holdings()
	for _, m := range members {
		h := held[m.ID]
		if fair := ideal.Fair[m.ID]; math.Abs(fair-float64(h.Owned)) > 1-1e-9 {
			t.Fatalf("%s owns %d partitions, its fair share is %.3f", m.ID, h.Owned, fair)
		}
		if h.Owned > ideal.Max {
			t.Fatalf("%s owns %d partitions, the optimum is %d", m.ID, h.Owned, ideal.Max)
		}
		if due := float64(h.Owned) / float64(ideal.Copies); math.Abs(due-float64(h.Primary)) > 1-1e-9 {
			t.Fatalf("%s leads %d partitions of %d it owns %d copies of", m.ID, h.Primary, h.Owned, ideal.Copies)
		}
	}
	// Rounding up goes to the larger part: no two members of a rack at one
	// level have it the other way round.
	for _, a := range members {
		for _, b := range members {
			fairA, fairB := ideal.Fair[a.ID], ideal.Fair[b.ID]
			level := fairA/float64(max(a.Weight, 1)) - fairB/float64(max(b.Weight, 1))
			if a.Rack != b.Rack || math.Abs(level) > 1e-9 || fairA-math.Floor(fairA) < fairB-math.Floor(fairB)+1e-9 {
				continue
			}
			if float64(held[a.ID].Owned) < fairA && float64(held[b.ID].Owned) > fairB {
				t.Fatalf("%s owns %d of %.3f, %s %d of %.3f", a.ID, held[a.ID].Owned, fairA, b.ID, held[b.ID].Owned, fairB)
			}
		}
	}
}

// checkMoves: they lead from the current owners to the next, are the fewest
// possible, agree with Diff, and crowd no rack on the way.
func checkMoves(t fataler, current Table, plan Proposal, members []Member, rules Rules) {
	least, err := MinimumMoves(current, members, rules)
	if err != nil {
		t.Fatal(err)
	}
	if n := Copies(plan.Moves); n < least || n > least && !isCheapest(t, current, plan.Next, members, rules) {
		t.Fatalf("%d copies move, at least %d must; fewer than planned would do", n, least)
	}
	ideal, err := Optimum(members, rules)
	if err != nil {
		t.Fatal(err)
	}
	rack := make(map[string]string)
	for _, m := range members {
		rack[m.ID] = m.Rack
	}
	step := current
	if step.Partitions() == 0 {
		step = MakeTable(make([][]string, rules.Partitions))
	}
	crowd := func(owners []string) int {
		count, most := make(map[string]int), 0
		for _, id := range owners {
			if z, ok := rack[id]; ok {
				count[z]++
				most = max(most, count[z])
			}
		}
		return most
	}
	byPartition := make(map[Partition][]Move)
	for _, m := range plan.Moves {
		byPartition[m.Partition] = append(byPartition[m.Partition], m)
	}
	for p, moves := range byPartition {
		for n := range moves { // any number of them done, from either end
			for _, part := range [][]Move{moves[:n], moves[n:]} {
				mid, err := Apply(step, part)
				if err != nil {
					t.Fatal(err)
				}
				if most := crowd(mid.Owners(p)); most > max(ideal.RackLimit, crowd(step.Owners(p))) {
					t.Fatalf("partition %d: on the way from %v to %v, %v crowds a rack", p, step.Owners(p), plan.Next.Owners(p), mid.Owners(p))
				}
			}
		}
	}
	for _, moves := range [][]Move{plan.Moves, Diff(current, plan.Next)} {
		end, err := Apply(step, moves)
		if err != nil {
			t.Fatal(err)
		}
		for p, want := range plan.Next.All() {
			if got := end.Owners(p); !slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))) {
				t.Fatalf("partition %d: moves lead to %v, want %v", p, got, want)
			}
		}
	}
	if a, b := Copies(plan.Moves), Copies(Diff(current, plan.Next)); a != b {
		t.Fatalf("the plan moves %d copies, Diff sees %d", a, b)
	}
}

func TestOneNodeRegionGrows(t *testing.T) {
	rules := Rules{Partitions: 8, Replicas: 3}
	var table Table
	for nodes := 1; nodes <= 4; nodes++ {
		table = mustPlan(t, table, cluster(nodes, 1), rules).Next
		for p, owners := range table.All() {
			if len(owners) != min(nodes, 3) {
				t.Fatalf("%d nodes: partition %d has owners %v", nodes, p, owners)
			}
		}
	}
}

// TestPrimariesStay: a primary moves only to make room for the new node's part.
func TestPrimariesStay(t *testing.T) {
	rules := Rules{Partitions: 1024, Replicas: 3}
	old := mustPlan(t, Table{}, cluster(30, 3), rules).Next
	next := mustPlan(t, old, cluster(31, 3), rules).Next
	changed := 0
	for p, owners := range old.All() {
		if owners[0] != next.Owners(p)[0] {
			changed++
		}
	}
	if due := 1024/31 + 1; changed > 2*due {
		t.Errorf("%d partitions have another primary; the new node leads %d", changed, due)
	}
}

func TestPlanRefuses(t *testing.T) {
	good := Rules{Partitions: 2, Replicas: 2}
	a, b := Member{ID: "a", Rack: "x"}, Member{ID: "b", Rack: "y"}
	for _, c := range []struct {
		name    string
		current Table
		members []Member
		rules   Rules
		want    string
	}{
		{"no members", Table{}, nil, good, "no members"},
		{"twice", Table{}, []Member{a, b, a}, good, "member a is listed twice"},
		{"nameless", Table{}, []Member{{Rack: "x"}}, good, `rack "x" has no id`},
		{"weight", Table{}, []Member{{ID: "a", Weight: -1}}, good, "weight -1"},
		{"heavy", Table{}, []Member{{ID: "a", Weight: MaxWeight + 1}}, good, "want 0..1048576"},
		{"partitions", Table{}, []Member{a}, Rules{Partitions: 3, Replicas: 1}, "power of two"},
		{"no partitions", Table{}, []Member{a}, Rules{Replicas: 1}, "power of two"},
		{"too many partitions", Table{}, []Member{a}, Rules{Partitions: 1 << 17, Replicas: 1}, "1..65536"},
		{"replicas", Table{}, []Member{a}, Rules{Partitions: 2}, "replicas 0"},
		{"both", Table{}, []Member{a}, Rules{}, "replicas 0"},
		{"policy", Table{}, []Member{a}, Rules{Partitions: 2, Replicas: 1, ZonePolicy: 7}, "zone policy 7"},
		{"other ring", MakeTable(make([][]string, 4)), []Member{a}, good, "4 partitions, the rules 2"},
		{"row twice", MakeTable([][]string{{"a", "b"}, {"b", "b"}}), []Member{a, b}, good, "partition 1 names b twice"},
		{"row nameless", MakeTable([][]string{{"a", ""}, nil}), []Member{a, b}, good, "without a name"},
		{"crowd", Table{}, make([]Member, MaxMembers+1), good, "at most 2048"},
	} {
		_, err := Plan(c.current, c.members, c.rules)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want it to say %q", c.name, err, c.want)
		}
	}
}

func TestZonePolicyNames(t *testing.T) {
	for _, z := range []ZonePolicy{Strict, Balanced} {
		if got, err := ParseZonePolicy(z.String()); err != nil || got != z {
			t.Errorf("%v reads back as %v, %v", z, got, err)
		}
	}
	if _, err := ParseZonePolicy("loose"); err == nil {
		t.Error("an unknown policy was accepted")
	}
}

// BenchmarkPlan plans a new ring and the arrival of a node.
func BenchmarkPlan(b *testing.B) {
	for _, size := range []struct{ nodes, partitions int }{{3, 256}, {30, 1024}, {99, 4096}, {300, 4096}, {1000, 4096}} {
		rules := Rules{Partitions: size.partitions, Replicas: 3}
		members := cluster(size.nodes, 3)
		table := mustPlan(b, Table{}, members, rules).Next
		name := fmt.Sprintf("nodes=%d/partitions=%d", size.nodes, size.partitions)
		b.Run("new/"+name, func(b *testing.B) {
			for b.Loop() {
				mustPlan(b, Table{}, members, rules)
			}
		})
		b.Run("add/"+name, func(b *testing.B) {
			for b.Loop() {
				mustPlan(b, table, cluster(size.nodes+1, 3), rules)
			}
		})
		b.Run("lose/"+name, func(b *testing.B) {
			for b.Loop() {
				mustPlan(b, table, members[1:], rules)
			}
		})
		// Racks that differ force detours and the search for cycles.
		uneven := slices.Clone(members)
		for i := range uneven {
			uneven[i].Rack = fmt.Sprintf("r%d", min(i%7, 4))
		}
		crooked := mustPlan(b, Table{}, uneven, rules).Next
		b.Run("uneven-lose/"+name, func(b *testing.B) {
			for b.Loop() {
				mustPlan(b, crooked, uneven[:len(uneven)-1], rules)
			}
		})
		b.Run("rerack/"+name, func(b *testing.B) {
			for b.Loop() {
				mustPlan(b, table, uneven, rules)
			}
		})
	}
}
