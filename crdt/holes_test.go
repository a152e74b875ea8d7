package crdt

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"

	"github.com/atolldb/atoll/crdt/hlc"
)

// small is a vector with exceptions over few actors and low counters, beside
// its dumb twin: the plain set of what it has seen.
func small(t *rapid.T, name string) (VV, map[Dot]bool) {
	set := map[Dot]bool{}
	for a := Actor(65); a <= 67; a++ {
		most := rapid.Uint64Range(0, 12).Draw(t, name+" n")
		for n := uint64(1); n <= most; n++ {
			if rapid.IntRange(0, 2).Draw(t, name+" seen") > 0 {
				set[Dot{a, n}] = true
			}
		}
	}
	return vectorOf(set), set
}

// vectorOf makes the vector of a set, the plain way: it is the only one.
func vectorOf(set map[Dot]bool) VV {
	var v VV
	for a := Actor(65); a <= 67; a++ {
		e := Entry{Actor: a}
		for n := uint64(1); n <= 20; n++ {
			if set[Dot{a, n}] {
				e.N = n
			}
		}
		for n := uint64(1); n < e.N; n++ {
			switch last := len(e.Holes) - 1; {
			case set[Dot{a, n}]:
			case last >= 0 && e.Holes[last].Hi == n-1:
				e.Holes[last].Hi = n
			default:
				e.Holes = append(e.Holes, Span{n, n})
			}
		}
		if e.N > 0 {
			v = append(v, e)
		}
	}
	return v
}

func (v VV) set(max uint64) map[Dot]bool {
	out := map[Dot]bool{}
	for a := Actor(65); a <= 67; a++ {
		for n := uint64(1); n <= max; n++ {
			if v.Covers(Dot{a, n}) {
				out[Dot{a, n}] = true
			}
		}
	}
	return out
}

func sameSet(a, b map[Dot]bool) bool {
	if len(a) != len(b) {
		return false
	}
	for d := range a {
		if !b[d] {
			return false
		}
	}
	return true
}

func TestVectorsWithHolesAreSets(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v, vs := small(t, "v")
		w, ws := small(t, "w")
		if !v.valid() || !sameSet(v.set(20), vs) {
			t.Fatalf("%v covers %v, want %v", v, v.set(20), vs)
		}
		union := map[Dot]bool{}
		all := true
		for d := range vs {
			union[d] = true
		}
		for d := range ws {
			union[d] = true
			all = all && vs[d]
		}
		if j := v.Join(w); !j.valid() || !j.Equal(vectorOf(union)) || !j.Equal(w.Join(v)) {
			t.Fatalf("%v joined with %v is %v, and the other way round %v", v, w, j, w.Join(v))
		}
		if got := v.CoversAll(w); got != all {
			t.Fatalf("%v covers all of %v: %v, want %v", v, w, got, all)
		}
		if got := v.Equal(w); got != sameSet(vs, ws) {
			t.Fatalf("%v equals %v: %v", v, w, got)
		}
		d := Dot{Actor(rapid.IntRange(65, 67).Draw(t, "actor")), rapid.Uint64Range(1, 14).Draw(t, "n")}
		low := rapid.Uint64Range(0, 14).Draw(t, "low")
		want := map[Dot]bool{d: true}
		for x := range vs {
			want[x] = true
		}
		for n := low + 1; n < d.N; n++ {
			want[Dot{d.Actor, n}] = true
		}
		if got := v.WithAbove(d, low); !got.valid() || !got.Equal(vectorOf(want)) {
			t.Fatalf("%v with %v above %d is %v", v, d, low, got)
		}
		var e, f Entry
		if i, ok := v.find(d.Actor); ok {
			e = v[i]
		}
		if i, ok := w.find(d.Actor); ok {
			f = w[i]
		}
		highest := uint64(0)
		for n := uint64(1); n < d.N; n++ {
			if x := (Dot{d.Actor, n}); vs[x] && !ws[x] {
				highest = n
			}
		}
		if got := e.highestBeyond(&f, d.N); got != highest {
			t.Fatalf("the highest of %v below %d that %v has not: %d, want %d", e, d.N, f, got, highest)
		}
		if !sameSet(v.set(20), vs) || !sameSet(w.set(20), ws) {
			t.Fatal("an operation changed its operands")
		}
	})
}

func TestHolesAreEncoded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		past, _ := small(t, "past")
		r := Record{[]Version{{Dot: Dot{66, 100}, Stamp: 5, Value: []byte("v"), Past: past}}}
		b := AppendRecord(nil, 7, r)
		back, err := DecodeRecord(7, b)
		if err != nil || !back.Versions[0].Past.Equal(past) {
			t.Fatalf("%v came back as %v, %v", past, back, err)
		}
		if !bytes.Equal(AppendRecord(nil, 7, back), b) {
			t.Fatal("not canonical")
		}
		c := Context{Seen: past, Stamp: 9}
		token := AppendContext(nil, testKeys, testKey, c)
		got, err := DecodeContext(testKeys, testKey, token)
		if err != nil || !got.Seen.Equal(past) {
			t.Fatalf("%v came back as %v, %v", past, got, err)
		}
	})
}

// The history that showed that an answer's context needs holes: two clients
// write blindly through one minter, and one goes on from its answer.
func TestAnswerDoesNotCoverTheOtherClientsWrite(t *testing.T) {
	a := MakeActor(1, 1)
	x := Version{Dot: Dot{a, 1}, Stamp: 1, Value: []byte("x")}
	rec := Write(Record{}, nil, x)
	y := Version{Dot: Dot{a, 2}, Stamp: 2, Value: []byte("y")}
	answer := Context{}.After(rec, &y)
	rec = Write(rec, nil, y)
	rec = Write(rec, answer.Seen, Version{Dot: Dot{a, 3}, Stamp: 3, Value: []byte("y2")})
	if rec.Find(x.Dot) == nil || rec.Find(y.Dot) != nil || len(rec.Versions) != 2 {
		t.Fatalf("want x and y2, got %v", rec)
	}
	if !rec.Context().Seen.Covers(x.Dot) {
		t.Fatal("a read of the record has seen x")
	}
}

// The history that showed what an answer must not take for granted: x is
// replaced by y, at one node; z is written beside y, blindly, and whoever goes on
// from its answer elsewhere, where there is neither, must leave x alone.
func TestAnswerCoversNothingUnseen(t *testing.T) {
	a, b := MakeActor(1, 1), MakeActor(2, 1)
	o := Version{Dot: Dot{b, 1}, Stamp: 1, Value: []byte("o")}
	x := Version{Dot: Dot{a, 7}, Stamp: 2, Value: []byte("x"), Past: VV{{Actor: b, N: 1}}}
	elsewhere := Record{Versions: []Version{x}}
	y := Version{Dot: Dot{a, 8}, Stamp: 3, Value: []byte("y")}
	here := Write(elsewhere, elsewhere.Context().Seen, y)
	z := Version{Dot: Dot{a, 20}, Stamp: 4, Value: []byte("z")}
	answer := Context{}.After(here, &z)
	if want := (VV{{Actor: a, N: 20, Holes: []Span{{1, 8}}}}); !answer.Seen.Equal(want) {
		t.Fatalf("%v, want %v", answer.Seen, want)
	}
	next := Version{Dot: Dot{b, 2}, Stamp: 5, Value: []byte("next")}
	rec := Write(elsewhere, answer.Seen, next)
	if rec.Find(x.Dot) == nil || !rec.Context().Seen.Covers(o.Dot) {
		t.Fatalf("%v of a writer that had not seen it took %v away", rec, x.Dot)
	}
	whole := Write(Join(rec, Write(here, nil, z)), nil, Version{Dot: Dot{a, 21}, Stamp: 6})
	if whole.Find(x.Dot) != nil || whole.Find(z.Dot) != nil || whole.Find(y.Dot) == nil {
		t.Fatalf("when all is there: %v", whole)
	}
	// Who has seen all that was there has nothing to be left out, however far
	// back that lies.
	if got := here.Context().After(here, &z); !got.Seen.Equal(VV{{Actor: a, N: 20}, {Actor: b, N: 1}}) {
		t.Fatalf("%v", got)
	}
	far := Version{Dot: Dot{a, 1 << 40}, Stamp: 7, Past: VV{{Actor: a, N: 1<<40 - 1}}}
	last := Version{Dot: Dot{a, 1<<40 + 9}, Stamp: 8}
	if got := (Context{}).After(Record{Versions: []Version{far}}, &last); !got.Seen.Equal(VV{{Actor: a, N: 1<<40 + 9, Holes: []Span{{1, 1 << 40}}}}) {
		t.Fatalf("%v", got)
	}
}

// Each time that others came between takes who goes on from his own answers some two
// bytes: docs/consistency.md says that 4000 fill a context.
func TestRangesFillAContext(t *testing.T) {
	var rec Record
	var last [2]Context
	for n := uint64(1); n <= 1000; n++ {
		who := &last[n%2]
		v := Version{Dot: Dot{MakeActor(1, 1), 10 * n}, Stamp: hlc.Stamp(n), Past: who.Seen}
		*who = who.After(rec, &v)
		rec = Write(rec, v.Past, v)
	}
	if size := len(AppendContext(nil, testKeys, testKey, last[0])); size < 8*MaxContext/66 || size > 8*MaxContext/62 {
		t.Errorf("%d bytes with %d ranges", size, last[0].Seen.Ranges())
	}
}
