package crdt

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"
)

// small is a vector with exceptions over few actors and low counters, beside
// the plain set of what it has seen.
func small(t *rapid.T, name string) (VV, map[Dot]bool) {
	var v VV
	set := map[Dot]bool{}
	for a := Actor(65); a <= 67; a++ {
		n := rapid.Uint64Range(0, 6).Draw(t, name+" n")
		if n == 0 {
			continue
		}
		e := Entry{Actor: a, N: n}
		for k := uint64(1); k < n; k++ {
			if rapid.IntRange(0, 3).Draw(t, name+" hole") == 0 {
				e.Holes = append(e.Holes, k)
				continue
			}
			set[Dot{a, k}] = true
		}
		set[Dot{a, n}] = true
		v = append(v, e)
	}
	return v, set
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
		if !sameSet(v.set(9), vs) {
			t.Fatalf("%v covers %v, want %v", v, v.set(9), vs)
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
		j := v.Join(w)
		if !j.valid() || !sameSet(j.set(9), union) {
			t.Fatalf("%v joined with %v is %v", v, w, j)
		}
		if !j.Equal(w.Join(v)) {
			t.Fatal("join does not commute")
		}
		if got := v.CoversAll(w); got != all {
			t.Fatalf("%v covers all of %v: %v, want %v", v, w, got, all)
		}
		d := Dot{Actor(rapid.IntRange(65, 67).Draw(t, "actor")), rapid.Uint64Range(1, 8).Draw(t, "n")}
		except := rapid.SliceOfN(rapid.Uint64Range(1, 8), 0, 3).Draw(t, "except")
		got := v.With(d, except...)
		want := map[Dot]bool{}
		for x := range vs {
			want[x] = true
		}
		for n := uint64(1); n <= d.N; n++ {
			skip := false
			for _, x := range except {
				skip = skip || x == n && n < d.N
			}
			if !skip {
				want[Dot{d.Actor, n}] = true
			}
		}
		if !got.valid() || !sameSet(got.set(9), want) {
			t.Fatalf("%v with %v except %v is %v", v, d, except, got)
		}
		if !sameSet(v.set(9), vs) {
			t.Fatal("the receiver changed")
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
