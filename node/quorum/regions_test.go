package quorum_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/atolldb/atoll/node/quorum"
)

func TestRegionsOfALevel(t *testing.T) {
	// Of 1..5 regions.
	for level, want := range map[quorum.Level][5]int{
		quorum.LocalAll: {1, 1, 1, 1, 1}, quorum.LocalSerial: {1, 1, 1, 1, 1}, quorum.Default: {1, 1, 1, 1, 1},
		quorum.Quorum: {1, 2, 2, 3, 3}, quorum.EachQuorum: {1, 2, 3, 4, 5}, quorum.All: {1, 2, 3, 4, 5},
	} {
		for i, n := range want {
			if got := level.Regions(i + 1); got != n {
				t.Errorf("%v of %d regions: %d, want %d", level, i+1, got, n)
			}
		}
	}
}

// The serving region is always among those that count, and the verdict is what
// the dumb way gives: met when it and enough others have said yes, lost when
// that cannot come any more.
func TestRegionsAgainstTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 6).Draw(t, "regions")
		need := rapid.IntRange(1, n).Draw(t, "need")
		r := quorum.NewRegions(need, n)
		said := map[int]bool{}
		for range rapid.IntRange(0, 10).Draw(t, "answers") {
			i, ok := rapid.IntRange(0, n-1).Draw(t, "region"), rapid.Bool().Draw(t, "met")
			if _, before := said[i]; !before {
				said[i] = ok
			}
			var got quorum.Verdict
			if ok {
				got = r.Met(i)
			} else {
				got = r.Fail(i)
			}
			yes, open := 0, n-len(said)
			for _, ok := range said {
				if ok {
					yes++
				}
			}
			home, answered := said[0], false
			_, answered = said[0]
			want := quorum.Pending
			switch {
			case answered && !home, yes+open < need:
				want = quorum.Lost
			case home && yes >= need:
				want = quorum.Met
			}
			if got != want || got != r.Verdict() || r.Yes() != yes || r.Need() != need || r.Reached(i) != said[i] || !r.Answered(i) {
				t.Fatalf("%v of %d, need %d: %v, want %v", said, n, need, got, want)
			}
		}
	})
}

// parts is who took part in an operation: bit i of parts[g] is owner i of region
// g.
type parts []uint64

// draw takes part as an ask wants it, in a region and as few others as need be.
func drawParts(t *rapid.T, a quorum.Ask, home, owners, regions int, label string) parts {
	inEach, inRegions, err := a.Bounds(owners, regions)
	if err != nil {
		t.Skip("not possible with so many owners")
	}
	out := make(parts, regions)
	order := rapid.Permutation(seq(regions)).Draw(t, label+" regions")
	taken := 0
	for _, g := range append([]int{home}, order...) {
		if taken == inRegions || out[g] != 0 {
			continue
		}
		taken++
		for _, o := range rapid.Permutation(seq(owners)).Draw(t, label+" owners")[:inEach] {
			out[g] |= 1 << o
		}
	}
	return out
}

func seq(n int) (out []int) {
	for i := range n {
		out = append(out, i)
	}
	return out
}

func (p parts) meets(q parts) bool {
	for g := range p {
		if p[g]&q[g] != 0 {
			return true
		}
	}
	return false
}

// A quorum of regional quorums meets every other one, wherever the two are asked
// for; and so does each pair of asks that has more than all owners in each region,
// and more than all regions, together.
func TestQuorumsOfQuorumsMeet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		owners, regions := rapid.IntRange(1, 5).Draw(t, "owners"), rapid.IntRange(1, 5).Draw(t, "regions")
		ask := rapid.Custom(func(t *rapid.T) quorum.Ask {
			return quorum.Ask{
				Level:  quorum.Level(rapid.IntRange(int(quorum.LocalOne), int(quorum.All)).Draw(t, "level")),
				Owners: rapid.IntRange(0, owners).Draw(t, "owners asked"), Regions: rapid.IntRange(0, regions).Draw(t, "regions asked"),
			}
		})
		write, read := ask.Draw(t, "write"), ask.Draw(t, "read")
		here, there := rapid.IntRange(0, regions-1).Draw(t, "write at"), rapid.IntRange(0, regions-1).Draw(t, "read at")
		w, r := drawParts(t, write, here, owners, regions, "write"), drawParts(t, read, there, owners, regions, "read")
		we, wr, _ := write.Bounds(owners, regions)
		re, rr, _ := read.Bounds(owners, regions)
		sure := we+re > owners && (wr+rr > regions || here == there)
		if sure && !w.meets(r) {
			t.Fatalf("write %+v at %d: %b; read %+v at %d: %b", write, here, w, read, there, r)
		}
		both := []quorum.Level{quorum.Quorum, quorum.EachQuorum, quorum.All}
		for _, a := range both {
			for _, b := range both {
				x, y := drawParts(t, quorum.Ask{Level: a}, here, owners, regions, "a"), drawParts(t, quorum.Ask{Level: b}, there, owners, regions, "b")
				if !x.meets(y) {
					t.Fatalf("%v at %d and %v at %d do not meet: %b, %b", a, here, b, there, x, y)
				}
			}
		}
	})
}

func TestReached(t *testing.T) {
	for _, c := range []struct {
		regions []quorum.Share
		want    quorum.Level
	}{
		{nil, quorum.Default},
		{[]quorum.Share{{0, 3}}, quorum.Default},
		{[]quorum.Share{{1, 3}}, quorum.LocalOne},
		{[]quorum.Share{{1, 1}}, quorum.LocalAll},
		{[]quorum.Share{{2, 3}}, quorum.LocalQuorum},
		{[]quorum.Share{{2, 5}}, quorum.LocalTwo},
		{[]quorum.Share{{3, 7}}, quorum.LocalThree},
		{[]quorum.Share{{3, 3}, {0, 3}}, quorum.LocalAll},
		{[]quorum.Share{{2, 3}, {2, 3}}, quorum.EachQuorum}, // with two regions QUORUM is no less
		{[]quorum.Share{{2, 3}, {2, 3}, {1, 3}}, quorum.Quorum},
		{[]quorum.Share{{3, 3}, {3, 3}, {3, 3}}, quorum.All},
		{[]quorum.Share{{3, 3}, {3, 3}, {2, 3}}, quorum.EachQuorum},
		{[]quorum.Share{{1, 3}, {3, 3}, {3, 3}}, quorum.LocalOne}, // the serving region counts for all of them
	} {
		if got := quorum.Reached(c.regions); got != c.want {
			t.Errorf("%v: %v, want %v", c.regions, got, c.want)
		}
	}
}

// What a level needs is what it reaches, and Reached never names a level that is
// not fulfilled.
func TestReachedIsFulfilled(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		owners, regions := rapid.IntRange(1, 7).Draw(t, "owners"), rapid.IntRange(1, 5).Draw(t, "regions")
		shares := rapid.SliceOfN(rapid.Map(rapid.IntRange(0, owners), func(n int) quorum.Share { return quorum.Share{Yes: n, Owners: owners} }), regions, regions).Draw(t, "shares")
		fulfils := func(l quorum.Level) bool {
			inEach, inRegions, err := quorum.Ask{Level: l}.Bounds(owners, regions)
			n := 0
			for _, s := range shares {
				if s.Yes >= inEach {
					n++
				}
			}
			return err == nil && shares[0].Yes >= inEach && n >= inRegions
		}
		got := quorum.Reached(shares)
		if got != quorum.Default && !fulfils(got) {
			t.Fatalf("%v does not fulfil %v", shares, got)
		}
		for _, l := range []quorum.Level{quorum.LocalOne, quorum.LocalTwo, quorum.LocalQuorum, quorum.LocalAll, quorum.Quorum, quorum.EachQuorum, quorum.All} {
			if regions > 1 && l > got && fulfils(l) {
				t.Fatalf("%v fulfils %v, and %v was told", shares, l, got)
			}
		}
	})
}
