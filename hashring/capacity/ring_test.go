package capacity

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/atolldb/atoll/hashring"
)

func shape(nodes, racks, replicas, partitions int) Input {
	in := Default()
	in.Nodes, in.Racks, in.Replicas, in.Partitions = nodes, racks, replicas, partitions
	in.Keys = 1e9
	return in
}

// What is said of a table is what the planner makes.
func TestRingIsThePlanners(t *testing.T) {
	for _, c := range []struct{ nodes, racks, replicas, partitions int }{
		{1, 1, 3, 64}, {2, 2, 3, 256}, {3, 3, 3, 256}, {4, 3, 3, 256}, {5, 5, 3, 256}, {6, 2, 3, 256}, {6, 3, 3, 256},
		{7, 3, 3, 256}, {10, 3, 3, 1024}, {12, 4, 3, 1024}, {30, 3, 3, 256}, {30, 5, 5, 1024}, {30, 30, 3, 1024},
		{31, 3, 2, 1024}, {99, 3, 3, 4096}, {100, 10, 3, 1024}, {300, 3, 3, 4096},
	} {
		name := fmt.Sprintf("%d nodes in %d racks, %d replicas, %d partitions", c.nodes, c.racks, c.replicas, c.partitions)
		report, err := Plan(shape(c.nodes, c.racks, c.replicas, c.partitions))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		r := report.Ring
		members := report.Input.members()
		rules := hashring.Rules{Partitions: c.partitions, Replicas: c.replicas}
		plan, err := hashring.Plan(hashring.Table{}, members, rules)
		if err != nil {
			t.Fatal(err)
		}
		owned, primary := span2{}, span2{}
		busiest := ""
		for _, m := range members {
			h := plan.Next.Holdings()[m.ID]
			if owned.add(h.Owned) {
				busiest = m.ID
			}
			primary.add(h.Primary)
		}
		if r.OwnedMin > owned.lo || r.OwnedMin < owned.lo-1 || r.OwnedMax != owned.hi {
			t.Errorf("%s: %d..%d owned, planned %d..%d", name, r.OwnedMin, r.OwnedMax, owned.lo, owned.hi)
		}
		if r.PrimaryMin > primary.lo || r.PrimaryMax < primary.hi || r.PrimaryMax > primary.hi+1 {
			t.Errorf("%s: primary of %d..%d, planned %d..%d", name, r.PrimaryMin, r.PrimaryMax, primary.lo, primary.hi)
		}
		peers := map[string]bool{}
		for _, owners := range plan.Next.All() {
			if slices.Contains(owners, busiest) {
				for _, o := range owners {
					peers[o] = true
				}
			}
		}
		if len(peers)-1 > r.Peers || float64(len(peers)-1) < 0.75*float64(r.Peers) {
			t.Errorf("%s: %d peers, planned %d", name, r.Peers, len(peers)-1)
		}
		lossAsPlanned(t, name, report, plan.Next, busiest)
	}
}

// lossAsPlanned plans the loss of a node and compares who gets what.
func lossAsPlanned(t *testing.T, name string, r Report, table hashring.Table, lost string) {
	t.Helper()
	left := slices.DeleteFunc(r.Input.members(), func(m hashring.Member) bool { return m.ID == lost })
	if len(left) == 0 {
		return
	}
	plan, err := hashring.Plan(table, left, hashring.Rules{Partitions: r.Input.Partitions, Replicas: r.Input.Replicas})
	if err != nil {
		t.Fatal(err)
	}
	took := map[string]int{}
	for _, m := range plan.Moves {
		if m.To != "" {
			took[m.To]++
		}
	}
	most := 0
	for _, n := range took {
		most = max(most, n)
	}
	l := r.Loss
	if r.Input.copies() == 1 {
		return // nothing is left to copy from
	}
	if (l.Receivers == 0) != (len(took) == 0) || len(took) > l.Receivers || float64(len(took)) < 0.6*float64(l.Receivers) {
		t.Errorf("%s: a lost node's data goes to %d, planned %d", name, l.Receivers, len(took))
	}
	// Where racks are unequal, who was nearly as full takes less than others.
	if most > 0 && r.Input.Nodes%r.Input.Racks == 0 && (most > 2*l.most || l.most > most+1) {
		t.Errorf("%s: the busiest receiver takes %d, planned %d", name, l.most, most)
	}
}

type span2 struct {
	lo, hi int
	any    bool
}

// add says whether n is a new highest.
func (s *span2) add(n int) bool {
	higher := !s.any || n > s.hi
	if !s.any || n < s.lo {
		s.lo = n
	}
	s.hi, s.any = max(s.hi, n), true
	return higher
}

func TestRecommendPartitions(t *testing.T) {
	for _, c := range []struct {
		nodes int
		bytes float64
		want  int
	}{
		{1, 0, 256}, {3, 0, 256}, {30, 0, 256}, {31, 0, 512}, {100, 0, 1024}, {120, 0, 1024}, {1000, 0, 16384},
		{3, 4 << 40, 256}, {3, 4<<40 + 1, 512}, {10, 50e12, 4096}, {2048, 1e18, 65536},
	} {
		if got := RecommendPartitions(c.nodes, 3, c.bytes); got != c.want {
			t.Errorf("%d nodes, %g bytes: %d partitions, want %d", c.nodes, c.bytes, got, c.want)
		}
	}
}

// A thousand nodes, 4096 partitions, sixty joins and losses in any order: what
// the planner takes for it, what it moves, and how level it stays.
func TestThousandNodes(t *testing.T) {
	const racks, partitions, replicas = 5, 4096, 3
	steps := 60
	if testing.Short() {
		steps = 12
	}
	rules := hashring.Rules{Partitions: partitions, Replicas: replicas}
	rng := rand.New(rand.NewPCG(1, 2))
	members := shape(1000, racks, replicas, partitions).members()
	began := time.Now()
	plan, err := hashring.Plan(hashring.Table{}, members, rules)
	if err != nil {
		t.Fatal(err)
	}
	first := time.Since(began)
	table := plan.Next
	var slowest, total time.Duration
	moved, least, joins, widest := 0, 0, 0, 0
	worst, bytes := 0.0, 0.0
	for step := range steps {
		if rng.IntN(2) == 0 {
			at := rng.IntN(len(members))
			members = slices.Delete(slices.Clone(members), at, at+1)
		} else {
			joins++
			members = append(slices.Clone(members), hashring.Member{
				ID: fmt.Sprintf("x%04d", step), Rack: fmt.Sprintf("r%04d", rng.IntN(racks)),
			})
		}
		bound, err := hashring.MinimumMoves(table, members, rules)
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		plan, err := hashring.Plan(table, members, rules)
		took := time.Since(began)
		if err != nil {
			t.Fatal(err)
		}
		slowest, total = max(slowest, took), total+took
		table, moved, least = plan.Next, moved+hashring.Copies(plan.Moves), least+bound
		bytes += hashring.MovedShare(table, plan.Moves)

		ideal, err := hashring.Optimum(members, rules)
		if err != nil {
			t.Fatal(err)
		}
		most := 0
		for _, h := range table.Holdings() {
			most = max(most, h.Owned)
		}
		if most > ideal.Max {
			t.Errorf("step %d: a node owns %d, the optimum's busiest %d", step, most, ideal.Max)
		}
		worst = max(worst, float64(most)/ideal.Mean)
		rackOf := map[string]string{}
		for _, m := range members {
			rackOf[m.ID] = m.Rack
		}
		for p, owners := range table.All() {
			seen := map[string]bool{}
			for _, o := range owners {
				seen[rackOf[o]] = true
			}
			if len(owners) != replicas || len(seen) != replicas {
				t.Fatalf("step %d: partition %d has owners %v in %d racks", step, p, owners, len(seen))
			}
		}
		sources := map[string]bool{}
		for _, m := range plan.Moves {
			sources[m.From], sources[m.To] = true, true
		}
		widest = max(widest, len(sources)-1)
	}
	ratio := float64(moved) / float64(least)
	t.Logf("1000 nodes in %d racks, %d partitions of %d owners: planned in %v; %d joins and %d losses: %v each, at most %v; "+
		"moved %d copies (%.4f of all data a step), the least possible is %d (ratio %.4f); busiest node at most %.3f times the mean; "+
		"up to %d nodes share the work of one change",
		racks, partitions, replicas, first.Round(time.Millisecond), joins, steps-joins,
		(total / time.Duration(steps)).Round(time.Microsecond), slowest.Round(time.Millisecond),
		moved, bytes/float64(steps), least, ratio, worst, widest)
	if joins == 0 || joins == steps {
		t.Error("the seed draws only joins or only losses")
	}
	if ratio > 1.01 {
		t.Errorf("moved %.4f times the least possible", ratio)
	}
	if limit := math.Ceil(partitions*replicas/float64(len(members)))/(partitions*replicas/float64(len(members))) + 0.05; worst > limit {
		t.Errorf("the busiest node has %.3f times the mean, want at most %.3f", worst, limit)
	}
	if first > time.Minute || slowest > time.Minute {
		t.Errorf("planned in %v, the slowest step in %v", first, slowest)
	}
}

func TestSpan(t *testing.T) {
	if got := strings.Join([]string{span(1, 1), span(1, 2)}, " "); got != "1 1..2" {
		t.Error(got)
	}
}
