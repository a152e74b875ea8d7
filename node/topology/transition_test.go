package topology

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/atolldb/atoll/hashring"
)

// cluster of n nodes that are up, in three racks, and spare ones that join.
func cluster(t rapid.TB, n, spare, replicas, partitions int) *Topology {
	var members []Member
	for i := range n + spare {
		members = append(members, Member{ID: NodeID(fmt.Sprint("n", i+1)), Rack: fmt.Sprint("r", i%3), Weight: 1})
	}
	top, err := Static("a", 1, members[:n], hashring.Rules{Partitions: partitions, Replicas: replicas})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range members[n:] {
		m.State = Joining
		top.Members = append(top.Members, m)
	}
	return top
}

// all is what is known when everybody is well and everything is copied.
func all(t *Topology) Facts {
	f := Facts{Durable: map[NodeID]Epoch{}, Dead: map[NodeID]bool{}, Synced: map[MoveID][]Synced{}, Keeps: map[NodeID]Keeps{}, Now: 5}
	for _, m := range t.Members {
		f.Durable[m.ID], f.Keeps[m.ID] = t.Epoch, Keeps{At: t.Epoch}
	}
	for _, m := range t.Moves {
		for _, sink := range t.Members {
			s := Synced{Sink: sink.ID, Began: m.Began}
			for _, id := range t.Owners(m.Partition) {
				s.With = append(s.With, NodeID(id))
			}
			f.Synced[m.ID] = append(f.Synced[m.ID], s)
		}
	}
	return f
}

func mustPlan(t *testing.T, top *Topology, c Change) Proposal {
	t.Helper()
	p, err := PlanChange(top, c, PlanOptions{Now: 1, Bytes: func(hashring.Partition) uint64 { return 10 }})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func run(t *testing.T, top *Topology) *Topology {
	t.Helper()
	for range 10_000 {
		next, _ := top.Advance(all(top))
		if next == nil {
			return top
		}
		check(t, top, next)
		top = next
	}
	t.Fatal("does not end")
	return nil
}

// check says what every transition keeps.
func check(t rapid.TB, old, now *Topology) {
	if now.Epoch != old.Epoch+1 {
		t.Fatalf("epoch %d after %d", now.Epoch, old.Epoch)
	}
	if err := now.Validate(); err != nil {
		t.Fatalf("invalid: %v", err)
	}
	moving := map[hashring.Partition]bool{}
	ids := map[MoveID]bool{}
	for _, m := range now.Moves {
		row := now.Owners(m.Partition)
		switch {
		case m.From != "" && (m.Slot >= len(row) || row[m.Slot] != string(m.From)):
			t.Fatalf("move %+v does not fit row %v", m, row)
		case m.From == "" && m.Slot < len(row):
			t.Fatalf("move %+v takes a slot of row %v", m, row)
		case m.To != "" && slices.Contains(row, string(m.To)):
			t.Fatalf("move %+v to an owner of %v", m, row)
		case ids[m.ID]:
			t.Fatalf("move %d is there twice", m.ID)
		case now.Task(m.Task) == nil || now.Task(m.Task).Ended != 0:
			t.Fatalf("move %+v of no task that runs", m)
		}
		ids[m.ID] = true
		if m.Stage == Planned {
			continue
		}
		if moving[m.Partition] {
			t.Fatalf("partition %d moves twice at a time", m.Partition)
		}
		moving[m.Partition] = true
	}
	if len(moving) > max(now.Pace.Filled().Concurrent, len(movingOf(old))) {
		t.Fatalf("%d partitions in transition", len(moving))
	}
	for p, row := range now.Table.All() {
		same := slices.Equal(nodes(old, p), nodes(now, p))
		if !same && now.SinceOf(p) != now.Epoch {
			t.Fatalf("partition %d has changed and its epoch has not", p)
		}
		if !slices.Equal(slices.Compact(slices.Sorted(slices.Values(row))), slices.Sorted(slices.Values(row))) {
			t.Fatalf("partition %d is owned twice: %v", p, row)
		}
		for _, id := range now.Takers(p) {
			if m := now.Member(id); m == nil || m.State == Left || m.State == Joining && now.Role(p, id) == Serving {
				t.Fatalf("%s takes part in %d and is %+v", id, p, m)
			}
		}
	}
}

func movingOf(t *Topology) []Move {
	return slices.DeleteFunc(slices.Clone(t.Moves), func(m Move) bool { return m.Stage == Planned })
}

// nodes that take part in p, with their roles.
func nodes(t *Topology, p hashring.Partition) []string {
	var out []string
	for _, m := range t.Members {
		out = append(out, fmt.Sprint(m.ID, t.Role(p, m.ID)))
	}
	return out
}

// sets of owners, without their order.
func sets(t hashring.Table) [][]string {
	var out [][]string
	for _, row := range t.All() {
		out = append(out, slices.Sorted(slices.Values(row)))
	}
	return out
}

func evenPrimaries(t *testing.T, top *Topology) {
	t.Helper()
	for id, h := range top.Table.Holdings() {
		if n := top.Rules.Replicas; h.Primary < h.Owned/n || h.Primary > (h.Owned+n-1)/n {
			t.Errorf("%s is primary of %d of its %d", id, h.Primary, h.Owned)
		}
	}
}

func TestJoinDrainReplace(t *testing.T) {
	for name, c := range map[string]struct {
		change Change
		states map[NodeID]State
		kind   Kind
	}{
		"join":     {Join{[]NodeID{"n4"}}, map[NodeID]State{"n4": Up, "n5": Joining}, KindJoin},
		"join two": {Join{[]NodeID{"n4", "n5"}}, map[NodeID]State{"n4": Up, "n5": Up}, KindJoin},
		"replace":  {Replace{"n1", "n4"}, map[NodeID]State{"n1": Left, "n4": Up}, KindReplace},
		"weight":   {Weight{[]NodeID{"n1", "n2"}, 3}, nil, KindRebalance},
		"replicas": {Replicas{2}, nil, KindRebalance},
	} {
		t.Run(name, func(t *testing.T) {
			top := cluster(t, 3, 2, 3, 32)
			before := top.Table.Fingerprint()
			p := mustPlan(t, top, c.change)
			if top.Epoch != 1 || len(top.Moves) != 0 || top.Table.Fingerprint() != before {
				t.Error("planning has changed what it planned on")
			}
			check(t, top, p.Next)
			if p.Task.Kind != c.kind || p.Task.Moves != len(p.Moves) || p.Task.ID != 1 || p.Task.Bytes != uint64(10*p.Copies) || p.Ratio() != 1 {
				t.Errorf("task %+v, ratio %v", p.Task, p.Ratio())
			}
			end := run(t, p.Next)
			if !slices.EqualFunc(sets(end.Table), sets(p.Target), slices.Equal) {
				t.Error("the table is not what was planned")
			}
			evenPrimaries(t, end)
			for id, s := range c.states {
				if end.Member(id).State != s {
					t.Errorf("%s is %s", id, end.Member(id).State)
				}
			}
			if len(end.Tasks) != 1 || end.Tasks[0].Ended == 0 {
				t.Errorf("tasks %+v", end.Tasks)
			}
		})
	}
}

// A drain of four of which three stay; then one more is refused.
func TestDrain(t *testing.T) {
	top := run(t, mustPlan(t, cluster(t, 4, 0, 3, 16), Drain{[]NodeID{"n2"}}).Next)
	if top.Member("n2").State != Left || top.Table.Holdings()["n2"].Owned != 0 {
		t.Errorf("%+v", top.Member("n2"))
	}
	_, err := PlanChange(top, Drain{[]NodeID{"n1"}}, PlanOptions{})
	wantText(t, err, "plan change: without n1 there are 2 nodes for 3 replicas: have others join first, or lower the number of replicas")
	top = run(t, mustPlan(t, top, Replicas{2}).Next)
	top = run(t, mustPlan(t, top, Drain{[]NodeID{"n1"}}).Next)
	if len(top.Owners(3)) != 2 || top.Member("n1").State != Left {
		t.Errorf("owners %v", top.Owners(3))
	}
}

// Who leaves has handed over first what it keeps for others, or is dead: what it said
// before it knew that it leaves is no word on that.
func TestDrainWaitsForHints(t *testing.T) {
	top := mustPlan(t, cluster(t, 4, 0, 3, 16), Drain{[]NodeID{"n2"}}).Next
	for range 10_000 { // until nothing is left to move
		f := all(top)
		f.Keeps = nil
		next, _ := top.Advance(f)
		if next == nil {
			break
		}
		top = next
	}
	if len(top.Moves) > 0 || top.Tasks[0].Ended != 0 || top.Member("n2").State != Draining {
		t.Fatalf("%d moves, %+v, %+v", len(top.Moves), top.Tasks[0], top.Member("n2"))
	}
	for name, c := range map[string]struct {
		keeps map[NodeID]Keeps
		dead  bool
		waits string // "" for nothing
	}{
		"no word":         {nil, false, "n2 to say whether it keeps hints"},
		"an old word":     {map[NodeID]Keeps{"n2": {At: top.Epoch - 1}}, false, "n2 to say whether it keeps hints"},
		"keeps some":      {map[NodeID]Keeps{"n2": {At: top.Epoch, For: []NodeID{"n1", "n3"}}}, false, "n2 to hand over the hints that it keeps for n1, n3"},
		"others keep":     {map[NodeID]Keeps{"n2": {At: top.Epoch}, "n3": {At: top.Epoch, For: []NodeID{"n1"}}}, false, ""},
		"keeps nothing":   {map[NodeID]Keeps{"n2": {At: top.Epoch}}, false, ""},
		"dead, kept some": {map[NodeID]Keeps{"n2": {At: top.Epoch, For: []NodeID{"n1"}}}, true, ""},
	} {
		f := all(top)
		f.Keeps, f.Dead["n2"] = c.keeps, c.dead
		next, _ := top.Advance(f)
		if left := next != nil && next.Member("n2").State == Left && next.Tasks[0].Ended != 0; left != (c.waits == "") {
			t.Errorf("%s: left %t", name, left)
		}
		if got := strings.Join(top.Stays(top.Tasks[0], f), "; "); got != c.waits {
			t.Errorf("%s: waits for %q, want %q", name, got, c.waits)
		}
	}
	back, err := top.Abort(1, 1)
	if err != nil || back.Tasks[0].Ended == 0 || back.Member("n2").State != Up {
		t.Errorf("aborted: %v, %+v", err, back)
	}
}

func wantText(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || err.Error() != want {
		t.Errorf("error %q, want %q", err, want)
	}
}

func TestRefusals(t *testing.T) {
	top := cluster(t, 3, 1, 3, 16)
	for want, c := range map[string]Change{
		"no nodes are named":                   Join{},
		"n9 is no member of region a":          Join{[]NodeID{"n9"}},
		"n1 is up, not joining":                Join{[]NodeID{"n1"}},
		"n4 is named twice":                    Join{[]NodeID{"n4", "n4"}},
		"n4 cannot take its own place":         Replace{"n4", "n4"},
		"weight 0 is out of bounds":            Weight{[]NodeID{"n1"}, 0},
		"the rack has no name":                 Rack{[]NodeID{"n1"}, ""},
		"4 replicas need 4 nodes, there are 3": Replicas{4},
		"33 replicas are out of bounds":        Replicas{33},
	} {
		_, err := PlanChange(top, c, PlanOptions{})
		wantText(t, err, "plan change: "+want)
	}
	joining := mustPlan(t, top, Join{[]NodeID{"n4"}}).Next
	_, err := PlanChange(joining, Weight{[]NodeID{"n1"}, 5}, PlanOptions{})
	if r := (*Refused)(nil); !errors.As(err, &r) || r.Field != "task" || r.Seen != "1" {
		t.Errorf("a second plan: %v", err)
	}
	if _, err := joining.Abort(7, 1); err == nil || err.Error() != "abort task: there is no task 7" {
		t.Error(err)
	}
}

// What waits, and why.
func TestGuardTexts(t *testing.T) {
	top := &Topology{Region: "a", RegionID: 1, Epoch: 7, Table: hashring.MakeTable([][]string{{"n1", "n2", "n3"}}),
		Tasks: []Task{{ID: 1}}}
	m := Move{ID: 1, Task: 1, From: "n1", To: "n4", Stage: Copying, Began: 7}
	top.Moves = []Move{m}
	f := Facts{Durable: map[NodeID]Epoch{"n1": 7, "n2": 6, "n3": 5}, Dead: map[NodeID]bool{}}
	lacks := func(want ...string) {
		t.Helper()
		if got := top.Guard(m).Lacks(f, f.Synced[1]); !slices.Equal(got, want) {
			t.Errorf("lacks %q, want %q", got, want)
		}
	}
	lacks("2 of n1, n2, n3 to know of epoch 7: waiting for n2, n3", "n4 to have what n1 has")
	f.Durable["n2"] = 8
	f.Synced = map[MoveID][]Synced{1: {{Sink: "n4", Began: 6, With: []NodeID{"n1"}}}}
	lacks("n4 to have what n1 has") // an earlier try
	delete(f.Durable, "n1")
	f.Durable["n3"] = 7
	lacks("n4 to have what n1 has, which does not answer: after half a minute of that what 2 of n2, n3 have will do")
	f.Durable["n1"], f.Durable["n3"] = 7, 5
	f.Dead["n1"] = true
	lacks("n4 to have what 2 of n2, n3 have, it has that of 0")
	f.Synced[1] = []Synced{{Sink: "n4", Began: 7, With: []NodeID{"n2"}}}
	lacks("n4 to have what 2 of n2, n3 have, it has that of 1")
	// One that catches up itself is not waited for when loss is accepted, but some copy
	// there has to be.
	f.Durable["n3"], top.Tasks[0].AcceptLoss = 7, true
	f.Synced[1] = []Synced{{Sink: "n4", Began: 7, Behind: []NodeID{"n2", "n3"}}}
	lacks("n4 to have what 2 of n2, n3 have, it has that of 0")
	f.Synced[1] = []Synced{{Sink: "n4", Began: 7, Behind: []NodeID{"n3"}}}
	lacks("n4 to have what 1 of n2, n3 have, it has that of 0")
	f.Synced[1] = []Synced{{Sink: "n4", Began: 7, With: []NodeID{"n2"}, Behind: []NodeID{"n3"}}}
	lacks()
	top.Tasks[0].AcceptLoss = false
	lacks("n4 to have what 2 of n2, n3 have, it has that of 1")
	f.Dead["n3"] = true
	top.Tasks[0].AcceptLoss = true
	lacks()
	top.Table = hashring.MakeTable([][]string{{"n1"}})
	top.Tasks[0].AcceptLoss = false
	lacks("n1, which is dead and held what nobody else holds")
}

// A receiver that is dead gives the slot back, and begins anew when it is there
// again; the report of the first try is worth nothing then.
func TestDeadReceiver(t *testing.T) {
	top := mustPlan(t, cluster(t, 3, 1, 3, 1), Replace{"n1", "n4"}).Next
	f := all(top)
	delete(f.Durable, "n4")
	if next, _ := top.Advance(f); next != nil {
		t.Fatal("begun for a receiver that does not answer")
	}
	top, _ = top.Advance(all(top))
	f = all(top)
	early := f.Synced
	f.Dead["n4"], f.Synced = true, nil
	back, steps := top.Advance(f)
	if len(steps) != 1 || steps[0].What != Retired || back.Role(0, "n4") != None || back.SinceOf(0) != back.Epoch {
		t.Fatalf("%+v", steps)
	}
	top, _ = back.Advance(all(back))
	f = all(top)
	f.Synced = early
	if next, _ := top.Advance(f); next != nil {
		t.Error("switched by the report of an earlier try")
	}
}

func TestPauseAndPace(t *testing.T) {
	top := mustPlan(t, cluster(t, 3, 1, 3, 64), Join{[]NodeID{"n4"}}).Next
	top, err := top.SetPace(Pace{Concurrent: 3})
	if err != nil {
		t.Fatal(err)
	}
	top, steps := top.Advance(all(top))
	if len(steps) != 3 {
		t.Errorf("%d begun", len(steps))
	}
	paused, err := top.Pause(1)
	if err != nil {
		t.Fatal(err)
	}
	if next, _ := paused.Advance(all(paused)); next != nil {
		t.Error("a paused task goes on")
	}
	if again, _ := paused.Pause(1); again != paused {
		t.Error("paused twice")
	}
	resumed, err := paused.Resume(1)
	if err != nil {
		t.Fatal(err)
	}
	resumed, err = resumed.SetPace(Pace{Concurrent: 100})
	if err != nil {
		t.Fatal(err)
	}
	next, _ := resumed.Advance(all(resumed))
	copying := 0
	for _, m := range next.Moves {
		if m.Stage == Copying {
			copying++
		}
	}
	if copying != MaxPerNode {
		t.Errorf("%d copies to one node at a time", copying)
	}
	run(t, next)
}

// Random changes, facts, aborts and pauses, and at last everybody is well: every
// transition is sound, and what was not aborted ends as it was planned.
func TestTransitionsRandomly(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 5).Draw(t, "nodes")
		top := cluster(t, n, rapid.IntRange(0, 2).Draw(t, "spare"), rapid.IntRange(1, 3).Draw(t, "replicas"), 8)
		now := int64(1)
		for range rapid.IntRange(1, 3).Draw(t, "changes") {
			p, err := PlanChange(top, drawChange(t, top), PlanOptions{Now: now})
			if err != nil {
				continue
			}
			check(t, top, p.Next)
			if p.Copies < p.Minimum {
				t.Fatalf("%d copies, at least %d", p.Copies, p.Minimum)
			}
			top = p.Next
			aborted := false
			for range rapid.IntRange(0, 12).Draw(t, "steps") {
				now++
				var next *Topology
				switch rapid.IntRange(0, 20).Draw(t, "what") {
				case 0:
					next, err = top.Abort(p.Task.ID, now)
					aborted = aborted || err == nil
				case 1:
					next, _ = top.Pause(p.Task.ID)
				case 2:
					next, _ = top.Resume(p.Task.ID)
				default:
					next, _ = top.Advance(drawFacts(t, top))
				}
				if next != nil && next != top {
					check(t, top, next)
					top = next
				}
			}
			if next, err := top.Resume(p.Task.ID); err == nil {
				top = next
			}
			for next := top; next != nil; next, _ = top.Advance(all(top)) {
				top = next
			}
			if len(top.Moves) > 0 || top.Task(p.Task.ID).Ended == 0 {
				t.Fatalf("task %+v does not end: %+v", *top.Task(p.Task.ID), top.Moves)
			}
			if !aborted && !slices.EqualFunc(sets(top.Table), sets(p.Target), slices.Equal) {
				t.Fatalf("table %v, planned %v", sets(top.Table), sets(p.Target))
			}
		}
	})
}

func drawChange(t *rapid.T, top *Topology) Change {
	var joining, up []NodeID
	for _, m := range top.Members {
		switch m.State {
		case Joining:
			joining = append(joining, m.ID)
		case Up:
			up = append(up, m.ID)
		}
	}
	if len(up) == 0 {
		return Rebalance{}
	}
	who := rapid.SampledFrom(up).Draw(t, "who")
	switch rapid.IntRange(0, 6).Draw(t, "change") {
	case 0:
		return Join{joining}
	case 1:
		return Drain{[]NodeID{who}}
	case 2:
		if len(joining) > 0 {
			return Replace{who, joining[0]}
		}
		return Rebalance{}
	case 3:
		return Weight{[]NodeID{who}, rapid.IntRange(1, 4).Draw(t, "weight")}
	case 4:
		return Rack{[]NodeID{who}, rapid.SampledFrom([]string{"r0", "r1", "r2", "r3"}).Draw(t, "rack")}
	case 5:
		return Replicas{rapid.IntRange(1, 4).Draw(t, "replicas")}
	}
	return Rebalance{}
}

// drawFacts are true of the latest state, or of less.
func drawFacts(t *rapid.T, top *Topology) Facts {
	f := all(top)
	for _, m := range top.Members {
		switch rapid.IntRange(0, 5).Draw(t, "node") {
		case 0:
			delete(f.Durable, m.ID)
			f.Dead[m.ID] = true
		case 1:
			delete(f.Durable, m.ID)
		case 2:
			f.Durable[m.ID]--
		}
	}
	for id := range f.Synced {
		if rapid.Bool().Draw(t, "unsynced") {
			delete(f.Synced, id)
		}
	}
	return f
}

// A task that has ended is remembered for a while, and its id for ever.
func TestTasksAreForgotten(t *testing.T) {
	top := cluster(t, 3, 0, 3, 8)
	for i := range MaxDone + 5 {
		p := mustPlan(t, top, Rebalance{})
		if top = p.Next; p.Task.ID != TaskID(i+1) || p.Task.Ended == 0 {
			t.Fatalf("task %+v", p.Task)
		}
	}
	if len(top.Tasks) != MaxDone || top.Tasks[0].ID != 6 {
		t.Errorf("%d tasks from %d on", len(top.Tasks), top.Tasks[0].ID)
	}
}

// Nothing in a plan depends on chance, and other plans have other digests.
func TestPlanDigest(t *testing.T) {
	top := cluster(t, 3, 2, 3, 32)
	a, b := mustPlan(t, top, Join{[]NodeID{"n4"}}), mustPlan(t, top, Join{[]NodeID{"n4"}})
	if a.Digest() != b.Digest() || a.Digest() == mustPlan(t, top, Join{[]NodeID{"n5"}}).Digest() {
		t.Errorf("digests %x, %x", a.Digest(), b.Digest())
	}
}

// Three hundred nodes, one more: a plan and its first and last step in time.
func TestLargeRegion(t *testing.T) {
	top := cluster(t, 300, 1, 3, 4096)
	begun := time.Now()
	p := mustPlan(t, top, Join{[]NodeID{"n301"}})
	planned := time.Since(begun)
	next, _ := p.Next.Advance(all(p.Next))
	t.Logf("%d moves, minimum %d, planned in %v, begun in %v", p.Copies, p.Minimum, planned.Round(time.Millisecond), (time.Since(begun) - planned).Round(time.Millisecond))
	if p.Ratio() > 1.05 || next == nil {
		t.Errorf("ratio %v", p.Ratio())
	}
}
