package crdt

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// The dumb twin of a clock is the set of its dots.
type twinClock map[Dot]bool

const (
	twinActors = 3
	twinMax    = 24
)

func (s twinClock) check(t *rapid.T, c *Clock) {
	t.Helper()
	var gaps uint64
	var actors []Actor
	for a := Actor(1); a <= twinActors; a++ {
		var top, base uint64
		for n := uint64(1); n <= twinMax+1; n++ {
			d := Dot{a, n}
			if s[d] {
				top = n
				if base == n-1 {
					base = n
				}
			}
			if c.Contains(d) != s[d] {
				t.Fatalf("contains %v: %v", d, !s[d])
			}
		}
		for n := uint64(1); n <= top; n++ {
			if !s[Dot{a, n}] {
				gaps++
			}
		}
		if top > 0 {
			actors = append(actors, a)
		}
		if c.Max(a) != top || c.Base(a) != base {
			t.Fatalf("actor %d: max %d, base %d, want %d, %d", a, c.Max(a), c.Base(a), top, base)
		}
	}
	if c.Gaps() != gaps {
		t.Fatalf("gaps %d, want %d", c.Gaps(), gaps)
	}
	if !slices.Equal(c.Actors(), actors) {
		t.Fatalf("actors %v, want %v", c.Actors(), actors)
	}
	if got := flatten(c.All()); !slices.Equal(got, s.dots()) {
		t.Fatalf("all %v, want %v", got, s.dots())
	}
}

func (s twinClock) dots() []Dot {
	var out []Dot
	for d, ok := range s {
		if ok {
			out = append(out, d)
		}
	}
	slices.SortFunc(out, Dot.Compare)
	return out
}

func flatten(runs []Dots) []Dot {
	var out []Dot
	for _, r := range runs {
		for n := r.Lo; n <= r.Hi; n++ {
			out = append(out, Dot{r.Actor, n})
		}
	}
	return out
}

func drawClock(t *rapid.T, name string) (*Clock, twinClock) {
	c, s := &Clock{}, twinClock{}
	for range rapid.IntRange(0, 12).Draw(t, name) {
		a := Actor(rapid.IntRange(1, twinActors).Draw(t, "actor"))
		lo := rapid.Uint64Range(1, twinMax).Draw(t, "lo")
		if rapid.Bool().Draw(t, "one") {
			d := Dot{a, lo}
			if c.Add(d) == s[d] {
				t.Fatalf("add %v said %v", d, s[d])
			}
			s[d] = true
		} else {
			hi := rapid.Uint64Range(lo, twinMax).Draw(t, "hi")
			c.AddSpan(Dots{a, Span{lo, hi}})
			for n := lo; n <= hi; n++ {
				s[Dot{a, n}] = true
			}
		}
		s.check(t, c)
	}
	return c, s
}

func TestClockAgainstSet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, as := drawClock(t, "a")
		b, bs := drawClock(t, "b")

		var missing []Dot
		for _, d := range bs.dots() {
			if !as[d] {
				missing = append(missing, d)
			}
		}
		runs := a.Missing(b)
		if got := flatten(runs); !slices.Equal(got, missing) {
			t.Fatalf("missing %v, want %v", got, missing)
		}
		for i := 1; i < len(runs); i++ {
			p, r := runs[i-1], runs[i]
			if p.Actor > r.Actor || p.Actor == r.Actor && p.Hi >= r.Lo {
				t.Fatalf("runs out of order: %v", runs)
			}
		}
		if a.CountMissing(b) != uint64(len(missing)) || a.Covers(b) != (len(missing) == 0) || a.Overlaps(b) != (len(missing) < len(bs)) {
			t.Fatal("count missing, covers, overlaps")
		}

		was := a.Clone()
		a.Join(b)
		for d := range bs {
			as[d] = true
		}
		as.check(t, a)
		bs.check(t, b)
		if !a.Covers(b) || !a.Covers(was) || was.Equal(a) != (len(missing) == 0) {
			t.Fatal("join covers both")
		}

		rebuilt := &Clock{}
		for _, d := range as.dots() {
			rebuilt.Add(d)
		}
		if !rebuilt.Equal(a) {
			t.Fatalf("two ways to the same dots: %+v, %+v", rebuilt, a)
		}
	})
}

func TestClockCloneSharesNothing(t *testing.T) {
	a := &Clock{}
	for _, n := range []uint64{1, 3, 5, 9} {
		a.Add(Dot{1, n})
	}
	b := a.Clone()
	b.AddSpan(Dots{1, Span{2, 8}})
	b.Add(Dot{2, 1})
	if a.Max(1) != 9 || a.Base(1) != 1 || a.Gaps() != 5 || len(a.Actors()) != 1 {
		t.Fatalf("the original changed: %+v", a)
	}
	if d := cmp.Diff([]Dots{{1, Span{1, 9}}, {2, Span{1, 1}}}, b.All()); d != "" {
		t.Fatal(d)
	}
}

func TestClockRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, s := drawClock(t, "clock")
		b := AppendClock([]byte("head"), c)
		got, rest, err := DecodeClock(append(b, "tail"...)[4:])
		if err != nil || string(rest) != "tail" || !got.Equal(c) {
			t.Fatalf("%+v became %+v, rest %q, %v", c, got, rest, err)
		}
		s.check(t, got)
		if again := AppendClock(nil, got); string(again) != string(b[4:]) {
			t.Fatal("not canonical")
		}
		for i := range b[4:] {
			if short, _, err := DecodeClock(b[4 : 4+i]); err == nil {
				t.Fatalf("%d of %d bytes were a clock: %+v", i, len(b)-4, short)
			}
		}
	})
}
