package crdt

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestJoinIsTheTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := histories.Draw(t, "history")
		a, b := h.state(t, "a"), h.state(t, "b")
		got := dotsOf(Join(a.rec, b.rec))
		if want := h.live(a.set | b.set); !slices.Equal(got, want) {
			t.Fatalf("join has %v, the twin %v", got, want)
		}
	})
}

func TestJoinLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := histories.Draw(t, "history")
		a, b, c := h.state(t, "a").rec, h.state(t, "b").rec, h.state(t, "c").rec
		equal := func(law string, x, y Record) {
			t.Helper()
			if d := cmp.Diff(x.Versions, y.Versions); d != "" {
				t.Fatalf("%s: %s", law, d)
			}
		}
		equal("commutative", Join(a, b), Join(b, a))
		equal("associative", Join(Join(a, b), c), Join(a, Join(b, c)))
		equal("idempotent", Join(a, a), a)
		equal("absorbs", Join(a, Join(a, b)), Join(a, b))
		equal("absence is neutral", Join(a, Record{}), a)
		equal("absence is neutral", Join(Record{}, a), a)
	})
}

// dumbJoin is the definition, word for word.
func dumbJoin(a, b Record) Record {
	union := slices.Clone(a.Versions)
	for _, v := range b.Versions {
		if a.Find(v.Dot) == nil {
			union = append(union, v)
		}
	}
	var kept []Version
	for i, v := range union {
		covered := false
		for j, w := range union {
			covered = covered || i != j && w.Past.Covers(v.Dot)
		}
		if !covered {
			kept = append(kept, v)
		}
	}
	slices.SortFunc(kept, func(a, b Version) int { return a.Dot.Compare(b.Dot) })
	return Record{Versions: kept}
}

// Faults make records that no history without faults reaches, such as parts of
// a record. Join keeps to its definition on them too.
func TestJoinIsItsDefinition(t *testing.T) {
	part := func(t *rapid.T, r Record) Record {
		var out Record
		for _, v := range r.Versions {
			if rapid.Bool().Draw(t, "keep") {
				out.Versions = append(out.Versions, v)
			}
		}
		return out
	}
	rapid.Check(t, func(t *rapid.T) {
		h := histories.Draw(t, "history")
		a, b := part(t, h.state(t, "a").rec), part(t, h.state(t, "b").rec)
		before := [2]Record{{slices.Clone(a.Versions)}, {slices.Clone(b.Versions)}}
		if d := cmp.Diff(dumbJoin(a, b).Versions, Join(a, b).Versions); d != "" {
			t.Fatal(d)
		}
		if d := cmp.Diff(before, [2]Record{a, b}); d != "" {
			t.Fatalf("join changed its arguments: %s", d)
		}
	})
}

func TestJoinNeverMints(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := histories.Draw(t, "history")
		a, b := h.state(t, "a").rec, h.state(t, "b").rec
		for _, d := range dotsOf(Join(a, b)) {
			if a.Find(d) == nil && b.Find(d) == nil {
				t.Fatalf("join made %v", d)
			}
		}
	})
}

func TestWriteCoversWhatWasSeenAndNothingElse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := histories.Draw(t, "history")
		own, read := h.state(t, "own"), h.state(t, "read")
		v := Version{Dot: Dot{MakeActor(5, 5), 1}, Value: []byte("new")}
		got := Write(own.rec, read.rec.Context().Seen, v)
		if got.Find(v.Dot) == nil {
			t.Fatal("the new version is not live")
		}
		var others []Dot
		for _, d := range h.live(own.set) {
			seen := false
			for i, e := range h.events {
				seen = seen || e.dot == d && read.set>>i&1 == 1
			}
			if !seen {
				others = append(others, d)
			}
		}
		if g := dotsOf(Without(got, []Dot{v.Dot})); !slices.Equal(g, others) {
			t.Fatalf("beside the new version stand %v, unseen were %v", g, others)
		}
		blind := Write(own.rec, nil, v)
		if len(blind.Versions) != len(own.rec.Versions)+1 {
			t.Fatal("a blind write is a sibling")
		}
		over := Write(own.rec, own.rec.Context().Seen, v)
		if d := dotsOf(over); !slices.Equal(d, []Dot{v.Dot}) {
			t.Fatalf("an overwrite leaves %v", d)
		}
	})
}

func TestContextCoversExactlyWhatWentIn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := histories.Draw(t, "history")
		s := h.state(t, "state")
		ctx := s.rec.Context()
		for i, e := range h.events {
			if s.set>>i&1 == 1 != ctx.Seen.Covers(e.dot) {
				t.Fatalf("%v in the state: %v, in its context: %v", e.dot, s.set>>i&1 == 1, ctx.Seen.Covers(e.dot))
			}
		}
		for _, v := range s.rec.Versions {
			if v.Stamp > ctx.Stamp {
				t.Fatal("the context's stamp is not the highest")
			}
			if c := (Context{Seen: v.Past}).After(Record{}, &v); !ctx.Seen.CoversAll(c.Seen) || !c.Seen.Covers(v.Dot) || c.Stamp != v.Stamp {
				t.Fatal("a version's own context")
			}
		}
		if ctx.Stamp != s.rec.MaxStamp() {
			t.Fatal("max stamp")
		}
	})
}

// Two clients that alternate through one minter, each with the context of its
// own last answer, make as many siblings as there are clients: never more
// (sibling explosion), and never fewer (the other's write silently replaced,
// which is what happens if an answer's context has no holes). There is a hole
// for each time that the other one came between, until all owners are known to
// have both versions.
func TestSiblingsAreBoundedByWriters(t *testing.T) {
	for _, settles := range []uint64{1, 11, 1 << 20} {
		var rec Record
		var ctx [2]Context
		most, longest := 0, 0
		for n := uint64(1); n <= 2000; n++ {
			c := &ctx[n%2]
			d := Dot{MakeActor(1, 1), 3 * n} // two writes of other keys between
			v := Version{Dot: d, Stamp: max(c.Stamp, rec.MaxStamp()) + 1}
			old := rec
			seen := *c
			if n%settles == 0 {
				seen = c.Settled(old, func(Dot) bool { return true })
			}
			rec = Write(rec, seen.Seen, v)
			*c = seen.After(old, &v)
			if want := min(int(n), 2); len(rec.Versions) != want {
				t.Fatalf("%d siblings after %d writes of two clients, want %d", len(rec.Versions), n, want)
			}
			if other := rec.Find(Dot{d.Actor, d.N - 3}); other != nil && c.Seen.Covers(other.Dot) {
				t.Fatalf("%v covers %v, which its bearer has not seen", c.Seen, other.Dot)
			}
			most = max(most, c.Seen.Ranges())
			longest = max(longest, len(AppendRecord(nil, 1, rec)))
		}
		t.Logf("all owners have all before each %dth write: at most %d ranges, context %d bytes, record of both %d bytes",
			settles, most, len(AppendContext(nil, testKeys, testKey, ctx[0])), longest)
		if bound := min(2+2*int(settles), 1000); most > bound {
			t.Errorf("%d ranges, where all owners have all before each %dth write", most, settles)
		}
	}
}

// Writers that read now and then, and else go on from their own answers, at three
// minters, among many writes of other keys: pasts stay short, and all of it ends as
// one vector without a hole.
func TestChainsStayShort(t *testing.T) {
	owners := make([]Record, 3)
	counters := make([]uint64, 3)
	ctx := make([]Context, 5)
	random := rand.New(rand.NewPCG(1, 2))
	most, longest := 0, 0
	for n := range 10_000 {
		o, c := random.IntN(len(owners)), random.IntN(len(ctx))
		if random.IntN(10) == 0 {
			ctx[c] = owners[random.IntN(len(owners))].Context()
		}
		counters[o] += 1 + random.Uint64N(100)
		v := Version{Dot: Dot{MakeActor(uint32(o+1), 1), counters[o]}, Stamp: hlc.Stamp(n + 1)}
		old := owners[o]
		owners[o] = Write(old, ctx[c].Seen, v)
		ctx[c] = ctx[c].After(old, &v)
		for p := range owners { // most get it at once
			if random.IntN(10) > 0 {
				owners[p] = Join(owners[p], owners[o])
			}
		}
		most = max(most, ctx[c].Seen.Ranges())
		longest = max(longest, len(AppendRecord(nil, 1, owners[o])))
	}
	all := Join(Join(owners[0], owners[1]), owners[2])
	t.Logf("contexts of at most %d ranges, records of at most %d bytes, in the end %d versions in %d bytes",
		most, longest, len(all.Versions), len(AppendRecord(nil, 1, all)))
	if most > 100 || longest > 3000 || all.Context().Seen.Ranges() != 0 {
		t.Errorf("%d ranges, %d bytes, in the end %v", most, longest, all.Context())
	}
}

func TestRead(t *testing.T) {
	v := func(n uint64, stamp hlc.Stamp, dead bool, expiry int64) Version {
		return Version{Dot: Dot{64, n}, Stamp: stamp, Dead: dead, Expiry: expiry}
	}
	rec := func(vs ...Version) Record { return Record{Versions: vs} }
	for _, c := range []struct {
		name    string
		r       Record
		k       Kind
		live    []uint64
		deleted bool
	}{
		{"absent", rec(), MV, nil, false},
		{"one", rec(v(1, 1, false, 0)), MV, []uint64{1}, false},
		{"siblings", rec(v(1, 1, false, 0), v(2, 2, false, 0)), MV, []uint64{1, 2}, false},
		{"deleted", rec(v(1, 1, true, 0)), MV, nil, false},
		{"delete beside value", rec(v(1, 1, true, 0), v(2, 2, false, 0)), MV, []uint64{2}, true},
		{"expired at its moment", rec(v(1, 1, false, 1000)), MV, nil, false},
		{"not yet expired", rec(v(1, 1, false, 1001)), MV, []uint64{1}, false},
		{"expired beside value", rec(v(1, 9, false, 5), v(2, 2, false, 0)), MV, []uint64{2}, true},
		{"lww absent", rec(), LWW, nil, false},
		{"lww latest", rec(v(1, 9, false, 0), v(2, 2, false, 0)), LWW, []uint64{1}, false},
		{"lww delete wins", rec(v(1, 9, true, 0), v(2, 2, false, 0)), LWW, nil, false},
		{"lww value wins", rec(v(1, 1, true, 0), v(2, 2, false, 0)), LWW, []uint64{2}, false},
		{"lww tie by dot", rec(v(1, 7, true, 0), v(2, 7, false, 0)), LWW, []uint64{2}, false},
		{"lww latest is expired", rec(v(1, 9, false, 5), v(2, 2, false, 0)), LWW, nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := Read(c.r, c.k, 1000)
			var live []uint64
			for _, v := range got.Live {
				live = append(live, v.Dot.N)
			}
			if !slices.Equal(live, c.live) || (len(got.Dead) > 0) != c.deleted {
				t.Fatalf("live %v, deleted concurrently %v", live, (len(got.Dead) > 0))
			}
		})
	}
}

func TestReadShowsTheLivingOfTheTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := histories.Draw(t, "history")
		r := h.state(t, "state").rec
		now := rapid.Int64Range(0, 110).Draw(t, "now")
		view := Read(r, MV, now)
		n := 0
		var best *Version
		for i := range r.Versions {
			v := &r.Versions[i]
			if !v.Dead && (v.Expiry == 0 || v.Expiry > now) {
				if n >= len(view.Live) || view.Live[n].Dot != v.Dot {
					t.Fatalf("%v is not shown", v.Dot)
				}
				n++
			}
			if best == nil || v.Stamp > best.Stamp || v.Stamp == best.Stamp && v.Dot.Compare(best.Dot) > 0 {
				best = v
			}
		}
		if len(view.Live) != n || len(view.Live)+len(view.Dead) != len(r.Versions) && n > 0 || r.Dead(now) != (n == 0 && best != nil) {
			t.Fatalf("view %+v of %+v", view, r)
		}
		lww := Read(r, LWW, now).Live
		if shown := best != nil && !best.DeadAt(now); shown != (len(lww) == 1) || shown && lww[0].Dot != best.Dot {
			t.Fatalf("lww shows %v, latest is %v", lww, best)
		}
	})
}
