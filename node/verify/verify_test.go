package verify_test

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/atolldb/atoll/node/verify"
)

func owner(id string, clock, digest uint64) verify.Owner {
	return verify.Owner{ID: id, Answered: true, Sum: verify.Sum{Clock: clock, Digest: digest}}
}

func TestJudge(t *testing.T) {
	moving, floor := owner("b1", 1, 9), owner("b1", 1, 1)
	moving.Moving, floor.Floor = true, 5
	for _, c := range []struct {
		name   string
		owners []verify.Owner
		kind   verify.Kind
		odd    []string
	}{
		{"nobody", nil, verify.Silent, nil},
		{"equal", []verify.Owner{owner("a1", 1, 1), owner("b1", 1, 1)}, verify.Equal, nil},
		{"silent", []verify.Owner{owner("a1", 1, 1), {ID: "b1"}, owner("b2", 7, 7)}, verify.Silent, []string{"b1"}},
		{"behind", []verify.Owner{owner("a1", 1, 1), owner("a2", 1, 1), owner("b1", 2, 1)}, verify.Behind, []string{"b1"}},
		{"behind, and other records", []verify.Owner{owner("a1", 1, 1), owner("a2", 1, 3), owner("b1", 2, 1)}, verify.Behind, []string{"b1"}},
		{"floors", []verify.Owner{owner("a1", 1, 1), owner("a2", 1, 1), floor}, verify.Behind, []string{"b1"}},
		{"moving", []verify.Owner{owner("a1", 1, 1), moving}, verify.Behind, []string{"b1"}},
		{"differs", []verify.Owner{owner("a1", 1, 1), owner("b2", 1, 8), owner("b1", 1, 1)}, verify.Differs, []string{"b2"}},
	} {
		if v := verify.Judge(c.owners); v.Kind != c.kind || !slices.Equal(v.Odd, c.odd) {
			t.Errorf("%s: %+v", c.name, v)
		}
	}
}

func TestConfirm(t *testing.T) {
	differs := verify.Verdict{Kind: verify.Differs, Clock: 4, Odd: []string{"b1"}}
	other := verify.Verdict{Kind: verify.Differs, Clock: 5}
	for _, c := range []struct {
		before, now verify.Verdict
		kind        verify.Kind
	}{
		{differs, differs, verify.Differs},
		{other, differs, verify.Behind},
		{verify.Verdict{Kind: verify.Behind}, differs, verify.Behind},
		{verify.Confirm(other, differs), differs, verify.Differs},
		{differs, verify.Verdict{}, verify.Equal},
		{differs, verify.Verdict{Kind: verify.Silent}, verify.Silent},
	} {
		if got := verify.Confirm(c.before, c.now); got.Kind != c.kind {
			t.Errorf("%+v, then %+v: %+v", c.before, c.now, got)
		}
	}
}

// Equal is said exactly of owners that all answered the same.
func TestEqualMeansEqual(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		few := rapid.Uint64Range(0, 2)
		owners := make([]verify.Owner, rapid.IntRange(1, 6).Draw(t, "owners"))
		for i := range owners {
			owners[i] = verify.Owner{
				ID: string(rune('a' + i)), Answered: rapid.IntRange(0, 9).Draw(t, "answered") > 0,
				Sum: verify.Sum{Clock: few.Draw(t, "clock"), Digest: few.Draw(t, "digest"), Floor: few.Draw(t, "floor") / 2},
			}
		}
		same := true
		for _, o := range owners {
			same = same && o.Answered && o.Sum == owners[0].Sum
		}
		v := verify.Judge(owners)
		if (v.Kind == verify.Equal) != same || (len(v.Odd) == 0) != same {
			t.Fatalf("%+v of %+v", v, owners)
		}
	})
}
