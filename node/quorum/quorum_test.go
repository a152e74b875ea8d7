package quorum_test

import (
	"math/bits"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/atolldb/atoll/node/quorum"
)

func TestNeed(t *testing.T) {
	// For 1..6 owners; 0 is "cannot be".
	for level, want := range map[quorum.Level][6]int{
		quorum.Default:     {1, 2, 2, 3, 3, 4},
		quorum.LocalQuorum: {1, 2, 2, 3, 3, 4},
		quorum.LocalOne:    {1, 1, 1, 1, 1, 1},
		quorum.LocalTwo:    {0, 2, 2, 2, 2, 2},
		quorum.LocalThree:  {0, 0, 3, 3, 3, 3},
		quorum.LocalAll:    {1, 2, 3, 4, 5, 6},
		quorum.Quorum:      {1, 2, 2, 3, 3, 4},
		quorum.EachQuorum:  {1, 2, 2, 3, 3, 4},
		quorum.LocalSerial: {1, 2, 2, 3, 3, 4},
		quorum.Serial:      {1, 2, 2, 3, 3, 4},
		quorum.All:         {1, 2, 3, 4, 5, 6},
		quorum.Serial + 1:  {},
		255:                {},
	} {
		for i, n := range want {
			got, err := level.Need(i + 1)
			if got != n || (err == nil) != (n > 0) {
				t.Errorf("%v of %d owners: %d, %v; want %d", level, i+1, got, err, n)
			}
		}
	}
}

func TestLevelNames(t *testing.T) {
	seen := map[string]bool{}
	for l := range quorum.Serial + 1 {
		name := l.String()
		if got, err := quorum.ParseLevel(name); err != nil || got != l || !l.Valid() || seen[name] {
			t.Errorf("%d is %q, which is %d: %v", uint8(l), name, got, err)
		}
		seen[name] = true
	}
	bad := quorum.Serial + 1
	if bad.Valid() || bad.String() != "level(11)" {
		t.Errorf("%v", bad)
	}
	for _, name := range []string{"", "LOCAL-QUORUM", "local-quorums", "level(6)"} {
		if l, err := quorum.ParseLevel(name); err == nil || !strings.Contains(err.Error(), "local-quorum") {
			t.Errorf("%q: %v, %v", name, l, err)
		}
	}
}

// event is one answer: owner i's success or failure.
type event struct {
	owner int
	ok    bool
}

// twin judges a history of answers the dumb way: an owner's first answer
// counts, the others do not.
func twin(need, owners int, history []event) quorum.Verdict {
	first := map[int]bool{}
	for _, e := range history {
		if _, ok := first[e.owner]; !ok {
			first[e.owner] = e.ok
		}
	}
	yes, no := 0, 0
	for _, ok := range first {
		if ok {
			yes++
		} else {
			no++
		}
	}
	if yes >= need {
		return quorum.Met
	}
	if yes+owners-len(first) < need {
		return quorum.Lost
	}
	return quorum.Pending
}

func feed(t *quorum.Tally, e event) quorum.Verdict {
	if e.ok {
		return t.Ack(e.owner)
	}
	return t.Fail(e.owner)
}

// TestTallyAgainstTwin tries every history of up to five answers of up to
// three owners, repeated and contradictory ones included (Q1).
func TestTallyAgainstTwin(t *testing.T) {
	var walk func(need, owners int, tally quorum.Tally, history []event)
	walk = func(need, owners int, tally quorum.Tally, history []event) {
		if got, want := tally.Verdict(), twin(need, owners, history); got != want {
			t.Fatalf("%d of %d owners, %+v: %v, want %v", need, owners, history, got, want)
		}
		if len(history) == 5 {
			return
		}
		for i := range owners {
			for _, ok := range []bool{true, false} {
				next, e := tally, event{i, ok}
				if feed(&next, e) != next.Verdict() {
					t.Fatal("two verdicts")
				}
				walk(need, owners, next, append(slices.Clip(history), e))
			}
		}
	}
	for owners := 1; owners <= 3; owners++ {
		for need := 1; need <= owners; need++ {
			walk(need, owners, quorum.NewTally(need, owners), nil)
		}
	}
}

func TestTally(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		owners := rapid.IntRange(1, 64).Draw(t, "owners")
		need := rapid.IntRange(1, owners).Draw(t, "need")
		tally := quorum.NewTally(need, owners)
		var history []event
		first := map[int]bool{}
		met := false
		for range rapid.IntRange(0, 2*owners).Draw(t, "answers") {
			e := event{rapid.IntRange(0, owners-1).Draw(t, "owner"), rapid.Bool().Draw(t, "ok")}
			history = append(history, e)
			if _, ok := first[e.owner]; !ok {
				first[e.owner] = e.ok
			}
			v := feed(&tally, e)
			if want := twin(need, owners, history); v != want {
				t.Fatalf("%v, want %v", v, want)
			}
			if met && v != quorum.Met {
				t.Fatal("no longer met")
			}
			met = v == quorum.Met
		}
		yes := 0
		for i := range owners {
			ok, answered := first[i]
			if tally.Acked(i) != ok || tally.Answered(i) != answered {
				t.Fatalf("owner %d: acked %t, answered %t", i, tally.Acked(i), tally.Answered(i))
			}
			if ok {
				yes++
			}
		}
		if tally.Yes() != yes || tally.Complete() != (len(first) == owners) || tally.Need() != need || tally.Owners() != owners {
			t.Fatalf("%+v", tally)
		}
	})
}

// TestQuorumsIntersect is Q2 for up to five owners: of all sets of owners that
// can meet a write of w and a read of r, each two have an owner in common if
// and only if r + w > n.
func TestQuorumsIntersect(t *testing.T) {
	meets := func(set uint, need, n int) bool {
		tally := quorum.NewTally(need, n)
		for i := range n {
			if set&(1<<i) != 0 {
				tally.Ack(i)
			} else {
				tally.Fail(i)
			}
		}
		return tally.Verdict() == quorum.Met
	}
	for n := 1; n <= 5; n++ {
		for w := 1; w <= n; w++ {
			for r := 1; r <= n; r++ {
				disjoint := false
				for a := range uint(1) << n {
					for b := range uint(1) << n {
						if meets(a, w, n) && meets(b, r, n) && bits.OnesCount(a&b) == 0 {
							disjoint = true
						}
					}
				}
				if disjoint != (r+w <= n) {
					t.Errorf("n=%d w=%d r=%d: disjoint quorums: %t", n, w, r, disjoint)
				}
			}
		}
		q, err := quorum.LocalQuorum.Need(n)
		if err != nil || 2*q <= n {
			t.Errorf("two quorums of %d owners: %d each, %v", n, q, err)
		}
	}
}
