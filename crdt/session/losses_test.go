package session

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"

	"github.com/atolldb/atoll/crdt"
)

const (
	lossActors = 4
	lossMax    = 12
)

func drawSet(t *rapid.T, name string, most int) *crdt.Clock {
	c := &crdt.Clock{}
	for range rapid.IntRange(0, most).Draw(t, name) {
		c.Add(drawDot(t, name))
	}
	return c
}

func drawDot(t *rapid.T, name string) crdt.Dot {
	i := rapid.IntRange(1, lossActors).Draw(t, name+" actor")
	return crdt.Dot{Actor: crdt.MakeActor(uint32(i), uint8(1+i%2)), N: rapid.Uint64Range(1, lossMax).Draw(t, name+" n")}
}

func drawLosses(t *rapid.T, name string) *Losses {
	l := &Losses{Void: *drawSet(t, name+" void", 6)}
	for i := 1; i <= lossActors; i++ {
		if rapid.IntRange(0, 3).Draw(t, name+" ended") == 0 {
			l.Ends = append(l.Ends, crdt.Dot{Actor: crdt.MakeActor(uint32(i), uint8(1+i%2)), N: rapid.Uint64Range(0, lossMax).Draw(t, name+" end")})
		}
	}
	for g := uint8(1); g <= 2; g++ {
		if rapid.IntRange(0, 2).Draw(t, name+" cut") == 0 {
			l.Cuts = append(l.Cuts, Cut{
				Region: g, Fence: rapid.Uint64Range(1, 3).Draw(t, name+" fence"),
				Open: rapid.IntRange(0, 3).Draw(t, name+" open") == 0, Survives: *drawSet(t, name+" survives", 6),
			})
		}
	}
	// In the order of actors, which is not that of their numbers.
	return (&Losses{}).Join(l.sorted())
}

func (l *Losses) sorted() *Losses {
	out := &Losses{Void: l.Void, Cuts: l.Cuts}
	for _, e := range l.Ends {
		out = out.Join(&Losses{Ends: []crdt.Dot{e}})
	}
	return out
}

// The dumb twin of Of: dot by dot.
func lostOne(l *Losses, d crdt.Dot, missing bool) bool {
	if l.Void.Contains(d) {
		return true
	}
	for _, e := range l.Ends {
		if missing && e.Actor == d.Actor && d.N > e.N {
			return true
		}
	}
	for _, c := range l.Cuts {
		if missing && c.Region == d.Actor.Region() && !c.Open && !c.Survives.Contains(d) {
			return true
		}
	}
	return false
}

func TestLossesAgainstDots(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l, needs, have := drawLosses(t, "l"), drawSet(t, "needs", 10), drawSet(t, "have", 10)
		missing := have.Beyond(needs)
		lost := l.Of(needs, missing)
		for _, run := range needs.All() {
			for n := run.Lo; n <= run.Hi; n++ {
				d := crdt.Dot{Actor: run.Actor, N: n}
				want := lostOne(l, d, missing.Contains(d))
				if got := lost != nil && lost.Contains(d); got != want {
					t.Fatalf("%v (missing: %v) is lost: %v, want %v, by %+v", d, missing.Contains(d), got, want, l)
				}
			}
		}
		if lost != nil && !needs.Covers(lost) {
			t.Fatalf("%v is lost that is not needed", needs.Beyond(lost).All())
		}
	})
}

func TestLossesJoin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := drawLosses(t, "a"), drawLosses(t, "b"), drawLosses(t, "c")
		if !a.Join(b).Equal(b.Join(a)) || !a.Join(b.Join(c)).Equal(a.Join(b).Join(c)) || !a.Join(a).Equal(a) ||
			!a.Join(nil).Equal(a) || !(*Losses)(nil).Join(a).Equal(a) {
			t.Fatal("join is not commutative, associative and idempotent")
		}
		encoded := AppendLosses(nil, a)
		got, rest, err := DecodeLosses(append(bytes.Clone(encoded), 7))
		if err != nil || len(rest) != 1 || !got.Equal(a) || !bytes.Equal(AppendLosses(nil, got), encoded) {
			t.Fatalf("%v, rest %x, %+v of %+v", err, rest, got, a)
		}
		for i := range encoded {
			if _, _, err := DecodeLosses(encoded[:i]); err == nil {
				t.Fatalf("%d of %d bytes decode", i, len(encoded))
			}
		}
	})
}

func TestLossesAreBounded(t *testing.T) {
	var l *Losses
	a := crdt.MakeActor(1, 1)
	for n := range uint64(1000) {
		one := &Losses{}
		one.Void.Add(crdt.Dot{Actor: a, N: 1 + n*n})
		l = l.Join(one)
		if runs := len(l.Void.All()); runs > MaxVoidRuns {
			t.Fatalf("%d runs", runs)
		}
		for m := range n + 1 {
			if !l.Void.Contains(crdt.Dot{Actor: a, N: 1 + m*m}) {
				t.Fatalf("a loss is hidden after %d", n)
			}
		}
	}
	if n := len(AppendLosses(nil, l)); n > 80 {
		t.Errorf("%d bytes", n)
	}
	// The longest gaps stay, and what comes before the first loss is in none.
	l = nil
	for i := range uint64(3 * MaxVoidRuns) {
		one := &Losses{}
		one.Void.Add(crdt.Dot{Actor: a, N: 5 + i*i})
		l = l.Join(one)
	}
	last := uint64(3*MaxVoidRuns - 1)
	for i := range uint64(MaxVoidRuns - 1) {
		if n := 5 + (last-i)*(last-i) - 1; l.Void.Contains(crdt.Dot{Actor: a, N: n}) {
			t.Errorf("%d is told as lost, in one of the longest gaps", n)
		}
	}
	if l.Void.Contains(crdt.Dot{Actor: a, N: 4}) {
		t.Error("what is before all losses is told as lost")
	}
}

// A session is told once, and of what is lost later again.
func TestToldOnce(t *testing.T) {
	a := crdt.MakeActor(1, 1)
	part := &Part{Place: Place{3, 2}}
	for n := uint64(4); n <= 6; n++ {
		part.Saw(crdt.Dot{Actor: a, N: n}, 9)
	}
	piece, _ := part.Seal(secret)
	losses := &Losses{}
	losses.Void.Add(crdt.Dot{Actor: a, N: 5})
	tok, err := Open(secret, Compose([]Piece{piece}), part.Place)
	if err != nil {
		t.Fatal(err)
	}
	lost := losses.Of(tok.Part().Needs(), nil)
	if lost == nil || !lost.Contains(crdt.Dot{Actor: a, N: 5}) || lost.Contains(crdt.Dot{Actor: a, N: 4}) {
		t.Fatalf("%v is lost", lost)
	}
	token, dropped := tok.Without(lost)
	tok, err = Open(secret, token, part.Place)
	if err != nil || dropped != 0 {
		t.Fatal(err, dropped)
	}
	if again := losses.Of(tok.Part().Needs(), nil); again != nil {
		t.Errorf("it is told again of %v", again.All())
	}
	// The token of an operation that began before comes back late.
	token = Compose(append([]Piece{piece}, func() []Piece { p, _ := Split(token); return p }()...))
	if tok, err = Open(secret, token, part.Place); err != nil || losses.Of(tok.Part().Needs(), nil) != nil {
		t.Error("it is told again after a token from before", err)
	}
	later := losses.Join(&Losses{Ends: []crdt.Dot{{Actor: a, N: 5}}})
	missing := &crdt.Clock{}
	missing.Add(crdt.Dot{Actor: a, N: 6})
	if lost := later.Of(tok.Part().Needs(), missing); lost == nil || !lost.Equal(missing) {
		t.Errorf("of a later loss it is told %v", lost)
	}
}

func FuzzDecodeLosses(f *testing.F) {
	l := &Losses{Ends: []crdt.Dot{{Actor: 65, N: 0}, {Actor: 66, N: 7}}, Cuts: []Cut{{Region: 2, Fence: 3}, {Region: 4, Fence: 1, Open: true}}}
	l.Void.Add(crdt.Dot{Actor: 65, N: 3})
	l.Cuts[0].Survives.Add(crdt.Dot{Actor: 66, N: 2})
	f.Add(AppendLosses(nil, l))
	f.Add([]byte{0})
	f.Fuzz(func(t *testing.T, b []byte) {
		l, _, err := DecodeLosses(b)
		if err != nil {
			return
		}
		again, rest, err := DecodeLosses(AppendLosses(nil, l))
		if err != nil || len(rest) != 0 || !again.Equal(l) {
			t.Fatalf("%+v became %+v, %v", l, again, err)
		}
	})
}
