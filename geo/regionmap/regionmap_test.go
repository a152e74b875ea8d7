package regionmap

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

func three() *Map {
	return First([]Region{{Name: "us", ID: 2}, {Name: "eu", ID: 1}, {Name: "ap", ID: 3}})
}

func drawMap(t *rapid.T, label string) *Map {
	m := three()
	m.N = rapid.Uint64Range(0, 3).Draw(t, label+" n")
	m.Forced = rapid.Bool().Draw(t, label+" forced")
	m.By = rapid.Uint8Range(1, 3).Draw(t, label+" by")
	for i := range m.Regions {
		m.Regions[i].State = State(rapid.IntRange(1, 5).Draw(t, label+" state"))
		m.Regions[i].Fence = rapid.Uint64Range(0, 2).Draw(t, label+" fence")
		if rapid.IntRange(0, 3).Draw(t, label+" came in") == 0 {
			m.Regions[i].Contact = drawContact(t, label)
		}
	}
	if rapid.Bool().Draw(t, label+" home") {
		m.SetHome("cart", "us")
	}
	if rapid.Bool().Draw(t, label+" lease") {
		m.Lease = Lease{Ms: 6000, Among: rapid.Uint64Range(0, 14).Draw(t, label+" among")}
	}
	if rapid.Bool().Draw(t, label+" operation") {
		m.Operation = []byte("op")
	}
	if m.N == 0 { // the configured one is the same everywhere
		return three()
	}
	return m
}

func drawKnown(t *rapid.T, label string) Known {
	if rapid.IntRange(0, 9).Draw(t, label+" knows") == 0 {
		return Known{}
	}
	m := drawMap(t, label)
	return Known{Map: m, Contested: m.N > 0 && rapid.IntRange(0, 5).Draw(t, label+" contested") == 0}
}

func same(a, b Known) bool { return bytes.Equal(EncodeKnown(a), EncodeKnown(b)) }

func TestJoinLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := drawKnown(t, "a"), drawKnown(t, "b"), drawKnown(t, "c")
		if !same(Join(a, a), a) {
			t.Fatal("not idempotent")
		}
		if !same(Join(a, b), Join(b, a)) {
			t.Fatal("not commutative")
		}
		if !same(Join(Join(a, b), c), Join(a, Join(b, c))) {
			t.Fatal("not associative")
		}
		j := Join(a, b)
		if News(a, b) == same(j, a) {
			t.Fatal("News says the opposite of Join")
		}
		for _, k := range []Known{a, b} {
			if k.Map != nil && j.Map.Version.Compare(k.Map.Version) < 0 {
				t.Fatal("the version went down")
			}
		}
	})
}

func TestContested(t *testing.T) {
	a, b := three(), three()
	a.N, a.By, b.N, b.By = 4, 1, 4, 2
	a.Regions[2].State = Fenced
	b.Forced = true
	j := Join(Known{Map: a}, Known{Map: b})
	if !j.Contested || !j.Map.Equal(b) {
		t.Errorf("two contents of a number: contested %v, map %s", j.Contested, j.Map.Version)
	}
	next := three()
	next.N = 5
	if j = Join(j, Known{Map: next}); j.Contested || j.Map.N != 5 {
		t.Errorf("a higher number ends it: %+v", j)
	}
}

func TestCodec(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k := drawKnown(t, "k")
		got, err := DecodeKnown(EncodeKnown(k))
		if err != nil || !same(got, k) {
			t.Fatalf("%+v came back as %+v, %v", k, got, err)
		}
		r := Register{Promised: Ballot{7, 2, 9}, Decided: k}
		if rapid.Bool().Draw(t, "accepted") {
			r.At, r.Accepted = Ballot{6, 1, 1 << 31}, drawMap(t, "accepted")
		}
		b := EncodeRegister(r)
		back, err := DecodeRegister(b)
		if err != nil || !bytes.Equal(EncodeRegister(back), b) {
			t.Fatalf("register came back as %+v, %v", back, err)
		}
		b[rapid.IntRange(0, len(b)-1).Draw(t, "at")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		if _, err := DecodeRegister(b); !errors.Is(err, ErrMalformed) {
			t.Fatalf("a flipped bit: %v", err)
		}
	})
}

func FuzzDecodeRegister(f *testing.F) {
	m := three()
	m.N, m.Operation = 3, []byte("what")
	f.Add(EncodeRegister(Register{Promised: Ballot{3, 1, 4}, At: Ballot{2, 1, 4}, Accepted: m, Decided: Known{Map: three(), Contested: true}}))
	f.Add(EncodeKnown(Known{Map: m}))
	came := m.Clone()
	came.Regions[2].Contact = Contact{NATS: []string{"nats://h:1"}, Members: []Seed{{ID: "ap-1", Peer: "h:2"}}}
	f.Add(EncodeRegister(Register{Decided: Known{Map: came}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		// The frame is no secret: try the body behind a right checksum, too.
		for _, in := range [][]byte{b, seal(append([]byte{format}, b...))} {
			if r, err := DecodeRegister(in); err == nil && !bytes.Equal(EncodeRegister(r), in) {
				t.Errorf("register is not canonical: %x", in)
			}
			if k, err := DecodeKnown(in); err == nil && !bytes.Equal(EncodeKnown(k), in) {
				t.Errorf("known is not canonical: %x", in)
			}
		}
	})
}

func TestChanges(t *testing.T) {
	m := three()
	for _, s := range []State{Draining, Fenced, Rejoining, Fenced, Rejoining, Active} {
		if err := m.Set("us", s); err != nil {
			t.Fatal(err)
		}
	}
	if f := m.Get("us").Fence; f != 2 {
		t.Errorf("fenced twice, and the number is %d", f)
	}
	if m.Set("us", Rejoining) == nil {
		t.Error("an active region was rejoining without having been fenced")
	}
	if m.Set("mars", Fenced) == nil {
		t.Error("a region was fenced that there is not")
	}
	m.SetHome("cart", "us")
	m.SetHome("cart", "ap")
	if h, _ := m.Home("cart"); h.Region != "ap" || h.Epoch != 3 {
		t.Errorf("home of cart: %+v", h)
	}
	if h, moved := m.Home("other"); moved {
		t.Errorf("home of all others: %+v", h)
	}
	if err := m.Add("sa", 4, Contact{}); err != nil || m.State("sa") != Rejoining || m.Counts("sa") {
		t.Errorf("a new region: %v, %s", err, m.State("sa"))
	}
	if m.Add("xx", 4, Contact{}) == nil {
		t.Error("two regions have one number")
	}
	if got := fmt.Sprint(m.Voters(), m.Majority()); got != "[eu us ap sa] 3" {
		t.Error(got)
	}
}

// TestRegister has proposers of three regions race, each message lost or not, each
// interrupted anywhere: no two contents are decided under one number, and each
// decision is made from the one before it.
func TestRegister(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		regs := make([]Register, 3)
		first := Known{Map: three()}
		decided := map[uint64]*Map{0: first.Map}
		type proposer struct {
			by       uint8
			ballot   Ballot
			promised map[int]Register
			value    *Map
			accepted map[int]bool
		}
		var ps []*proposer
		for i := range 3 {
			ps = append(ps, &proposer{by: uint8(i + 1)})
		}
		round := uint64(0)
		for range rapid.IntRange(20, 120).Draw(t, "steps") {
			p := ps[rapid.IntRange(0, 2).Draw(t, "who")]
			at := rapid.IntRange(0, 2).Draw(t, "where")
			switch rapid.IntRange(0, 3).Draw(t, "what") {
			case 0: // begin anew
				round++
				*p = proposer{by: p.by, ballot: Ballot{Round: round, By: p.by}, promised: map[int]Register{}, accepted: map[int]bool{}}
			case 1:
				if p.promised == nil || p.value != nil {
					continue
				}
				r, err := regs[at].Prepare(p.ballot)
				if err != nil {
					continue
				}
				regs[at] = r
				p.promised[at] = r
				if len(p.promised) == 2 {
					var answers []Register
					for _, r := range p.promised {
						answers = append(answers, r)
					}
					base, finish := Base(first, answers)
					p.value = finish
					if finish == nil {
						p.value = base.Map.Clone()
						p.value.Version = Version{N: base.Map.N + 1, By: p.by}
						p.value.Operation = fmt.Appendf(nil, "%d", round)
					}
				}
			case 2:
				if p.value == nil {
					continue
				}
				r, err := regs[at].Accept(p.ballot, p.value)
				if err != nil {
					continue
				}
				regs[at] = r
				p.accepted[at] = true
				if len(p.accepted) == 2 {
					if have := decided[p.value.N]; have != nil && !have.Equal(p.value) {
						t.Fatalf("two contents of number %d", p.value.N)
					}
					if decided[p.value.N-1] == nil {
						t.Fatalf("number %d is decided before the one below", p.value.N)
					}
					decided[p.value.N] = p.value
				}
			case 3: // somebody tells
				for n := uint64(1); n <= round; n++ {
					if m := decided[n]; m != nil && rapid.Bool().Draw(t, "tell") {
						regs[at] = regs[at].Decide(Known{Map: m})
					}
				}
			}
		}
		for _, r := range regs {
			if r.Decided.Contested {
				t.Fatal("contested without force")
			}
		}
	})
}
