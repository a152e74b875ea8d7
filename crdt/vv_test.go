package crdt

import (
	"testing"

	"pgregory.net/rapid"
)

// The dumb twin of a vector is a map.
type twinVV map[Actor]uint64

func (m twinVV) vv() VV {
	var v VV
	for a := Actor(1); a < 8; a++ {
		if m[a] > 0 {
			v = append(v, Entry{Actor: a, N: m[a]})
		}
	}
	return v
}

var twinVVs = rapid.Custom(func(t *rapid.T) twinVV {
	m := twinVV{}
	for a := Actor(1); a < 8; a++ {
		if n := rapid.Uint64Range(0, 3).Draw(t, "n"); n > 0 {
			m[a] = n
		}
	}
	return m
})

func TestVVAgainstMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := twinVVs.Draw(t, "a"), twinVVs.Draw(t, "b")
		d := Dot{Actor(rapid.IntRange(1, 7).Draw(t, "actor")), rapid.Uint64Range(1, 4).Draw(t, "n")}
		v, w := a.vv(), b.vv()
		join, with, covers := twinVV{}, twinVV{}, true
		for i := Actor(1); i < 8; i++ {
			join[i] = max(a[i], b[i])
			with[i] = a[i]
			covers = covers && a[i] >= b[i]
			if v.Get(i) != a[i] {
				t.Fatalf("get %d", i)
			}
		}
		with[d.Actor] = max(with[d.Actor], d.N)
		if got := v.Join(w); !got.Equal(join.vv()) || !got.valid() {
			t.Fatalf("%v join %v = %v", v, w, got)
		}
		if got := v.With(d); !got.Equal(with.vv()) || !got.valid() {
			t.Fatalf("%v with %v = %v", v, d, got)
		}
		if v.CoversAll(w) != covers || v.Covers(d) != (d.N <= a[d.Actor]) {
			t.Fatalf("%v covers %v, %v", v, w, d)
		}
		if !v.Equal(a.vv()) || !w.Equal(b.vv()) {
			t.Fatal("an operation changed its operands")
		}
	})
}

func TestActor(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		seq := rapid.Uint32Range(0, 1<<26-1).Draw(t, "seq")
		region := rapid.Uint8Range(1, 63).Draw(t, "region")
		a := MakeActor(seq, region)
		if a.Seq() != seq || a.Region() != region || a == 0 {
			t.Fatalf("%d@%d became %v", seq, region, a)
		}
	})
	if s := (Dot{MakeActor(7, 2), 9}).String(); s != "7@2.9" {
		t.Fatal(s)
	}
	if !(Dot{}).IsZero() || (Dot{1, 1}).IsZero() {
		t.Fatal("is zero")
	}
}
