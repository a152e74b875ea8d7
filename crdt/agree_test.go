package crdt

import (
	"bytes"
	"slices"
	"testing"

	"github.com/atolldb/atoll/crdt/hlc"
	"pgregory.net/rapid"
)

var saying = rapid.Custom(func(t *rapid.T) []Version {
	n := rapid.IntRange(0, 9).Draw(t, "versions")
	out := make([]Version, n)
	for i := range out {
		v := Version{
			Dot: Dot{Actor: Actor(1 + i%3), N: uint64(1 + i)}, Stamp: hlc.Stamp(rapid.IntRange(1, 4).Draw(t, "stamp")),
			Dead: rapid.IntRange(0, 4).Draw(t, "dead") == 0, Expiry: int64(rapid.IntRange(0, 2).Draw(t, "expiry")),
		}
		if !v.Dead {
			v.Value = []byte(rapid.SampledFrom([]string{"", "a", "b", "ab"}).Draw(t, "value"))
			v.Meta = []byte(rapid.SampledFrom([]string{"", "m"}).Draw(t, "meta"))
		}
		out[i] = v
	}
	slices.SortFunc(out, func(a, b Version) int { return a.Dot.Compare(b.Dot) })
	return out
})

// No version is left out or shown twice, what says the same is one, what does not is
// not, and who writes after a read of it all replaces it all.
func TestAgreementsLoseNothing(t *testing.T) {
	same := func(a, b *Version) bool {
		return a.Dead == b.Dead && bytes.Equal(a.Value, b.Value) && bytes.Equal(a.Meta, b.Meta)
	}
	rapid.Check(t, func(t *rapid.T) {
		versions := saying.Draw(t, "versions")
		before := slices.Clone(versions)
		rec := Record{Versions: versions}
		got := Agreements(versions)
		seen := map[Dot]int{}
		last := -1
		for i, a := range got {
			seen[a.Dot]++
			for _, d := range a.Equals {
				seen[d]++
				v := rec.Find(d)
				if v == nil || !same(v, a.Version) {
					t.Fatalf("%v stands for %v, which says something else", a.Dot, d)
				}
				if v.outlives(a.Version) || a.Expiry != 0 && v.Expiry == 0 || v.Expiry > a.Expiry && a.Expiry != 0 {
					t.Fatalf("%v stands for %v, which lives longer", a.Dot, d)
				}
			}
			if !slices.IsSortedFunc(a.Equals, Dot.Compare) {
				t.Fatalf("equals %v", a.Equals)
			}
			for _, b := range got[:i] {
				if same(a.Version, b.Version) {
					t.Fatalf("%v and %v say the same", a.Dot, b.Dot)
				}
			}
			first := slices.IndexFunc(versions, func(v Version) bool { return same(&v, a.Version) })
			if first <= last {
				t.Fatal("not in the order of the first of each")
			}
			last = first
		}
		if len(seen) != len(versions) {
			t.Fatalf("%d of %d versions are shown", len(seen), len(versions))
		}
		for d, n := range seen {
			if n != 1 || rec.Find(d) == nil {
				t.Fatalf("%v is shown %d times", d, n)
			}
		}
		if !slices.EqualFunc(before, versions, func(a, b Version) bool { return a.Dot == b.Dot }) {
			t.Fatal("the record was changed")
		}
		after := Write(rec, rec.Context().Seen, Version{Dot: Dot{Actor: 9, N: 1}, Value: []byte("x")})
		if len(after.Versions) != 1 {
			t.Fatalf("a write with the context leaves %d versions", len(after.Versions))
		}
	})
}

// Why equals stay two in the record: each way to make one of them loses something.
func TestEqualsStayApart(t *testing.T) {
	d := func(a Actor, n uint64) Dot { return Dot{Actor: a, N: n} }
	of := func(vs ...Version) Record { return Record{Versions: vs} }
	one, two := Version{Dot: d(1, 1), Value: []byte("a")}, Version{Dot: d(2, 1), Value: []byte("b")}
	u := Version{Dot: d(1, 2), Value: []byte("ab"), Past: VV{}.With(one.Dot)}
	v := Version{Dot: d(2, 2), Value: []byte("ab"), Past: VV{}.With(two.Dot)}

	// A join that drops one of two equals is not associative: what only the dropped
	// one had replaced is back.
	drop := func(a, b Record) Record {
		var out Record
		for _, g := range Agreements(Join(a, b).Versions) {
			out.Versions = append(out.Versions, *g.Version)
		}
		return out
	}
	if x, y := drop(drop(of(u), of(v)), of(one)), drop(of(v), drop(of(u), of(one))); x.SameDots(y) {
		t.Errorf("%v and %v: join may drop equals after all", dotsOf(x), dotsOf(y))
	}

	// A write that also follows an equal version which its writer has not seen takes
	// that out of sight of a conflict: two count from 1 to 2, and one of them to 3.
	start := Version{Dot: d(1, 1), Value: []byte("1")}
	mine := Version{Dot: d(1, 2), Value: []byte("2")}
	theirs := Version{Dot: d(2, 1), Value: []byte("2"), Past: VV{}.With(start.Dot)}
	next := Version{Dot: d(1, 3), Value: []byte("3")}
	count := func(past VV) Record {
		r := Write(of(theirs), past, mine)
		m := mine
		m.Past = past
		return Write(r, Context{Seen: past}.After(of(theirs), &m).Seen, next)
	}
	seen := VV{}.With(start.Dot)
	if r := count(seen); len(r.Versions) != 2 {
		t.Errorf("%v: who has not seen the other's 2 replaces it", dotsOf(r))
	}
	if r := count(seen.Join(theirs.Past).With(theirs.Dot)); len(r.Versions) != 1 {
		t.Errorf("%v: a write may follow its equals after all", dotsOf(r))
	}
}

func BenchmarkAgreements(b *testing.B) {
	versions := make([]Version, 256)
	for i := range versions {
		versions[i] = Version{Dot: Dot{Actor: 1, N: uint64(i + 1)}, Value: append(bytes.Repeat([]byte{7}, 32<<10), byte(i%200))}
	}
	for b.Loop() {
		Agreements(versions)
	}
}
