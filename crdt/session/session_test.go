package session

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
)

var secret = crdt.Keys{crdt.Secret("a secret")}

// facts are the dumb twin of a Part: everything that was seen, one by one.
type facts struct {
	dots    map[crdt.Dot]bool
	stamp   hlc.Stamp
	ballots map[Ballot]bool
}

func drawPart(t *rapid.T, place Place, most int) (*Part, facts) {
	p := &Part{Place: place}
	f := facts{map[crdt.Dot]bool{}, 0, map[Ballot]bool{}}
	for range rapid.IntRange(0, most).Draw(t, "dots") {
		d := crdt.Dot{Actor: crdt.MakeActor(rapid.Uint32Range(1, 4).Draw(t, "seq"), rapid.Uint8Range(1, 2).Draw(t, "region")), N: rapid.Uint64Range(1, 60).Draw(t, "n")}
		s := hlc.Stamp(rapid.Uint64Range(1, 1<<50).Draw(t, "stamp"))
		if rapid.IntRange(0, 9).Draw(t, "kind") == 0 {
			b := Ballot{rapid.Uint64Range(0, 1).Draw(t, "key"), d}
			p.SawBallot(b.KeyHash, b.Dot, s)
			f.ballots[b] = true
		} else {
			p.Saw(d, s)
			f.dots[d] = true
		}
		f.stamp = max(f.stamp, s)
	}
	return p, f
}

func (f facts) in(t *rapid.T, p *Part) {
	for d := range f.dots {
		if !p.Clock.Contains(d) {
			t.Fatalf("S1: %v was seen and is not known", d)
		}
	}
	if p.Stamp < f.stamp {
		t.Fatalf("S1: stamp %v was seen, %v is known", f.stamp, p.Stamp)
	}
	for b := range f.ballots {
		if !p.Covers(&Part{Ballots: []Ballot{b}}) {
			t.Fatalf("S1: ballot %v was seen and is not known: %v", b, p.Ballots)
		}
	}
}

func joined(parts ...*Part) *Part {
	out := &Part{Place: parts[0].Place}
	for _, p := range parts {
		out.Join(p)
	}
	return out
}

func same(a, b *Part) bool { return a.Covers(b) && b.Covers(a) }

func TestJoinLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, fa := drawPart(t, Place{}, 12)
		b, fb := drawPart(t, Place{}, 12)
		c, fc := drawPart(t, Place{}, 12)
		if !same(joined(a, b), joined(b, a)) || !same(joined(a, a), a) || !same(joined(joined(a, b), c), joined(a, joined(b, c))) {
			t.Fatalf("S1: not a join: %+v %+v %+v", a, b, c)
		}
		all := joined(a, b, c)
		for _, f := range []facts{fa, fb, fc} {
			f.in(t, all)
		}
		// Nothing is known that nobody saw.
		for _, run := range all.Clock.All() {
			for n := run.Lo; n <= run.Hi; n++ {
				d := crdt.Dot{Actor: run.Actor, N: n}
				if !fa.dots[d] && !fb.dots[d] && !fc.dots[d] {
					t.Fatalf("%v is known and was never seen", d)
				}
			}
		}
	})
}

// What the server makes of a token, and what a client without a secret makes of
// several, knows everything that was seen, however often it goes round.
func TestTokens(t *testing.T) {
	const bits = 2
	rapid.Check(t, func(t *rapid.T) {
		known := map[Place][]facts{}
		token := Begin()
		for range rapid.IntRange(1, 6).Draw(t, "rounds") {
			var back []Piece
			for range rapid.IntRange(1, 3).Draw(t, "at once") {
				place := Place{bits, uint16(rapid.IntRange(0, 3).Draw(t, "place"))}
				seen, f := drawPart(t, place, 25)
				known[place] = append(known[place], f)
				tok, err := Open(secret, token, place)
				if err != nil {
					t.Fatal(err)
				}
				answer, dropped := tok.With(seen)
				pieces, err := Split(answer)
				if err != nil || dropped > 0 {
					t.Fatal(dropped, err)
				}
				for _, p := range pieces {
					if !slices.ContainsFunc(back, func(q Piece) bool { return bytes.Equal(p.Sealed, q.Sealed) }) {
						back = append(back, p)
					}
				}
			}
			token = Compose(back)
		}
		for place, all := range known {
			tok, err := Open(secret, token, place)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range all {
				part := tok.Part()
				if part == nil {
					part = &Part{}
				}
				f.in(t, part)
			}
		}
	})
}

// What a region lacks that catches up is the long gap between what a session saw before
// the cut and what it sees of what is written now: it does not wait for that.
func TestFold(t *testing.T) {
	const cut, writes = 100_000, 200
	a, b := crdt.MakeActor(1, 1), crdt.MakeActor(2, 1)
	p := &Part{}
	p.Saw(crdt.Dot{Actor: a, N: 1}, 1)
	p.Saw(crdt.Dot{Actor: b, N: 7_000}, 1)
	for i := range uint64(MaxExact - 1) {
		p.Saw(crdt.Dot{Actor: a, N: cut + 3*i}, 1)
	}
	p.fold()
	if p.Clock.Contains(crdt.Dot{Actor: a, N: cut + 1}) {
		t.Fatal("folded although it is within bounds")
	}
	seen := map[uint64]bool{1: true}
	for i := range uint64(writes) {
		n := cut + i*i%(5*writes)
		p.Saw(crdt.Dot{Actor: a, N: n}, 1)
		seen[n] = true
		p.fold()
		for n := range seen {
			if !p.Clock.Contains(crdt.Dot{Actor: a, N: n}) {
				t.Fatalf("%d was seen and is not known", n)
			}
		}
	}
	for _, d := range p.Clock.All() {
		if d.Actor == a && d.Lo <= cut-1 && d.Hi > 1 {
			t.Errorf("the session asks for %d to %d, of which it has seen no more than the end", d.Lo, d.Hi)
		}
	}
	if p.Clock.Contains(crdt.Dot{Actor: b, N: 6_999}) {
		t.Error("another actor's gap was folded, which is longer")
	}
	runs := 0
	for _, d := range p.Clock.All() {
		if d.Lo > 1 {
			runs++
		}
	}
	if runs > MaxExact {
		t.Errorf("%d runs, at most %d are kept", runs, MaxExact)
	}
}

// Of many actors each has its base, and the least is folded to it.
func TestFoldManyActors(t *testing.T) {
	p := &Part{}
	for i := range uint32(MaxExact + 1) {
		p.Saw(crdt.Dot{Actor: crdt.MakeActor(i+1, 1), N: 100 - uint64(i)}, 1)
	}
	p.fold()
	for i := range uint32(MaxExact + 1) {
		want := uint64(0)
		if i == MaxExact {
			want = 100 - uint64(i)
		}
		if got := p.Clock.Base(crdt.MakeActor(i+1, 1)); got != want {
			t.Errorf("the base of actor %d is %d, want %d", i+1, got, want)
		}
	}
}

func TestDropped(t *testing.T) {
	const places = 3000
	token := Begin()
	dropped := 0
	for i := range uint16(places) {
		seen := &Part{Place: Place{16, i}}
		seen.Saw(crdt.Dot{Actor: crdt.MakeActor(1, 1), N: uint64(i) + 100}, hlc.FromMillis(1_700_000_000_000))
		tok, err := Open(secret, token, seen.Place)
		if err != nil {
			t.Fatal(err)
		}
		var d int
		token, d = tok.With(seen)
		dropped += d
		if len(token) > MaxToken {
			t.Fatalf("%d bytes", len(token))
		}
	}
	pieces, err := Split(token)
	if err != nil || len(pieces)+dropped != places {
		t.Fatalf("%d partitions are in the token and %d were told to be dropped: %v", len(pieces), dropped, err)
	}
	if len(pieces) < 150 {
		t.Errorf("only %d partitions have room", len(pieces))
	}
	if pieces[0].Place.Prefix != uint16(dropped) || pieces[len(pieces)-1].Place.Prefix != places-1 {
		t.Error("not the oldest ones were dropped")
	}
	// One that cannot be sealed is told, too.
	seen := &Part{Place: Place{16, 1}}
	for i := range uint32(MaxActors + 1) {
		seen.Saw(crdt.Dot{Actor: crdt.MakeActor(i+1, 1), N: 1}, 1)
	}
	tok, _ := Open(secret, Begin(), seen.Place)
	if token, d := tok.With(seen); d != 1 || !bytes.Equal(token, Begin()) {
		t.Errorf("%d dropped, %d bytes", d, len(token))
	}
}

// The fullest part of a partition that can be sealed is within its bound, one that
// is fuller is refused, and a token with it still is within its own.
func TestFullestPiece(t *testing.T) {
	full := &Part{Place: Place{16, 1 << 15}}
	sealed := 0
	for i := range uint32(2 * MaxActors) {
		a := crdt.MakeActor(1<<19+i, 63)
		for n := range uint64(3) {
			full.Saw(crdt.Dot{Actor: a, N: crdt.MaxN - 9*n}, hlc.FromMillis(1<<47))
			full.Told.Add(crdt.Dot{Actor: a, N: crdt.MaxN - 9*n - 1})
		}
		if i < MaxBallots {
			full.SawBallot(uint64(i), crdt.Dot{Actor: crdt.MakeActor(1<<25+i, 63), N: crdt.MaxN}, 1)
		}
		p, ok := full.Seal(secret)
		if !ok {
			continue
		}
		sealed++
		if len(p.Sealed) > MaxPiece {
			t.Fatalf("%d bytes with %d actors", len(p.Sealed), i+1)
		}
		tok, err := Open(secret, Compose([]Piece{p}), full.Place)
		if err != nil || !tok.Part().Covers(full) {
			t.Fatalf("with %d actors: %v", i+1, err)
		}
		if token, dropped := tok.With(full); dropped != 0 || len(token) > MaxToken {
			t.Fatalf("%d bytes, %d dropped", len(token), dropped)
		}
	}
	if sealed < MaxActors/4 || sealed == 2*MaxActors {
		t.Errorf("%d sizes could be sealed", sealed)
	}
}

// A token is refused as a whole when any byte of it differs, or is cut off.
func TestForged(t *testing.T) {
	var pieces []Piece
	for i := range uint16(3) {
		p := &Part{Place: Place{3, i}}
		p.Saw(crdt.Dot{Actor: 65, N: 9}, 77<<16)
		p.SawBallot(5, crdt.Dot{Actor: 1<<31 + 1, N: 2}, 78<<16)
		s, ok := p.Seal(secret)
		if !ok {
			t.Fatal("does not fit")
		}
		pieces = append(pieces, s)
	}
	token := Compose(pieces)
	if _, err := Open(secret, token, pieces[1].Place); err != nil {
		t.Fatal(err)
	}
	for i := range token {
		for _, bit := range []byte{1, 0x80} {
			forged := bytes.Clone(token)
			forged[i] ^= bit
			if _, err := Open(secret, forged, pieces[1].Place); !errors.Is(err, ErrBad) {
				t.Fatalf("byte %d differs: %v", i, err)
			}
		}
	}
	for name, b := range map[string][]byte{
		"empty": {}, "cut": token[:len(token)-1], "longer": append(bytes.Clone(token), 1),
		"oversize": append([]byte{1}, bytes.Repeat(pieces[0].Sealed, 1+MaxSent/len(pieces[0].Sealed))...),
	} {
		if _, err := Open(secret, b, pieces[1].Place); !errors.Is(err, ErrBad) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Open(crdt.Keys{crdt.Secret("another")}, token, pieces[1].Place); !errors.Is(err, ErrBad) {
		t.Error("a token of another deployment:", err)
	}
	if _, err := Open(secret, token, Place{4, 1}); !errors.Is(err, ErrBad) {
		t.Error("another number of partitions:", err)
	}
	// A context is no token, nor the other way round.
	ctx := crdt.AppendContext(nil, secret, []byte("k"), crdt.Context{Stamp: 9})
	if _, err := Open(secret, ctx, pieces[1].Place); !errors.Is(err, ErrBad) {
		t.Error("a context:", err)
	}
	if _, err := crdt.DecodeContext(secret, []byte("k"), token); !errors.Is(err, crdt.ErrBadContext) {
		t.Error("a token as a context:", err)
	}
}

// While a secret is replaced, tokens of either one hold, and answers are signed
// with the one that stays: all their pieces.
func TestRotation(t *testing.T) {
	old, next := crdt.Secret("old"), crdt.Secret("next")
	var pieces []Piece
	for i := range uint16(2) {
		p := &Part{Place: Place{3, i}}
		p.Saw(crdt.Dot{Actor: 65, N: 9}, 77<<16)
		s, _ := p.Seal(crdt.Keys{old})
		pieces = append(pieces, s)
	}
	tok, err := Open(crdt.Keys{next, old}, Compose(pieces), pieces[0].Place)
	if err != nil {
		t.Fatal(err)
	}
	token, _ := tok.With(&Part{Place: pieces[0].Place})
	for _, p := range pieces {
		tok, err := Open(crdt.Keys{next}, token, p.Place)
		if err != nil || tok.Part() == nil || !tok.Part().Clock.Contains(crdt.Dot{Actor: 65, N: 9}) {
			t.Errorf("%v: %v", p.Place, err)
		}
	}
	if _, err := Open(nil, Compose(pieces), pieces[0].Place); !errors.Is(err, ErrBad) {
		t.Error("without keys:", err)
	}
}

// How large tokens get; docs/consistency.md has the table.
func TestSizes(t *testing.T) {
	for _, c := range []struct{ partitions, dots, actors int }{
		{1, 1, 1}, {1, 16, 3}, {5, 1, 1}, {5, 4, 3}, {20, 2, 2}, {100, 2, 2},
	} {
		var pieces []Piece
		for i := range c.partitions {
			p := &Part{Place: Place{10, uint16(i)}}
			for j := range c.dots {
				d := crdt.Dot{Actor: crdt.MakeActor(uint32(40+j%c.actors), uint8(1+j%c.actors)), N: 100_000 + uint64(j)*17}
				p.Saw(d, hlc.FromMillis(1_800_000_000_000))
			}
			s, ok := p.Seal(secret)
			if !ok {
				t.Fatal("does not fit")
			}
			pieces = append(pieces, s)
		}
		token := Compose(pieces)
		t.Logf("%3d partitions, %2d writes of %d nodes in each: %4d bytes, %4d as base64", c.partitions, c.dots, c.actors, len(token), (len(token)*4+2)/3)
		if c.partitions == 5 && len(token)*4/3 > 4096-256 {
			t.Error("a handful of partitions does not fit into a cookie")
		}
	}
}

func FuzzOpen(f *testing.F) {
	p := &Part{Place: Place{3, 2}}
	p.Saw(crdt.Dot{Actor: 65, N: 9}, 77<<16)
	p.SawBallot(5, crdt.Dot{Actor: 1<<31 + 1, N: 2}, 78<<16)
	s, _ := p.Seal(secret)
	f.Add(Compose([]Piece{s, s}), false)
	f.Add(s.Sealed[1:len(s.Sealed)-mac], true)
	f.Add(Begin(), false)
	p.SawDecided(5, crdt.Dot{Actor: 1<<31 + 1, N: 3}, crdt.Dot{Actor: 65, N: 10}, 79<<16)
	s, _ = p.Seal(secret)
	f.Add(Compose([]Piece{s}), false)
	f.Add(s.Sealed[1:len(s.Sealed)-mac], true)
	f.Fuzz(func(t *testing.T, b []byte, seal bool) {
		token := b
		if seal { // behind a good MAC
			tag := secret.Sign(purpose, b)
			body := append(bytes.Clone(b), tag[:]...)
			token = append(binary.AppendUvarint([]byte{format}, uint64(len(body))), body...)
		}
		tok, err := Open(secret, token, Place{3, 2})
		if err != nil {
			if !errors.Is(err, ErrBad) {
				t.Fatal("another error:", err)
			}
			return
		}
		again, dropped := tok.With(&Part{Place: Place{3, 2}})
		more, err := Open(secret, again, Place{3, 2})
		if err != nil {
			t.Fatalf("what With made of %x does not open: %v", token, err)
		}
		if before, after := tok.Part(), more.Part(); dropped == 0 && before != nil && (after == nil || !after.Covers(before)) {
			t.Fatalf("%+v became %+v", before, after)
		}
	})
}

func BenchmarkAnswer(b *testing.B) {
	p := &Part{Place: Place{10, 2}}
	p.Saw(crdt.Dot{Actor: 65, N: 9}, 77<<16)
	s, _ := p.Seal(secret)
	token := Compose([]Piece{s})
	for _, news := range []bool{false, true} {
		b.Run(fmt.Sprint("news=", news), func(b *testing.B) {
			b.ReportAllocs()
			seen := &Part{Place: Place{10, 2}}
			seen.Saw(crdt.Dot{Actor: 65, N: 9}, 77<<16)
			if news {
				seen.Saw(crdt.Dot{Actor: 66, N: 9}, 78<<16)
			}
			for b.Loop() {
				t, err := Open(secret, token, Place{10, 2})
				if err != nil {
					b.Fatal(err)
				}
				t.With(seen)
			}
		})
	}
}

// A session that reads one actor's writes of a partition here and there, one with each
// operation: bytes of its token, and what it takes to take it apart and to make the next.
func BenchmarkScattered(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 2))
	place, token, size := Place{6, 3}, Begin(), 0
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		seen := &Part{Place: place}
		seen.Saw(crdt.Dot{Actor: crdt.MakeActor(1, 1), N: 1 + uint64(r.IntN(3000+n/10))}, hlc.FromMillis(1_700_000_000_000))
		t, err := Open(secret, token, place)
		if err != nil {
			b.Fatal(err)
		}
		token, _ = t.With(seen)
		size += len(token)
	}
	b.ReportMetric(float64(size)/float64(b.N), "bytes/token")
}
