package session

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/atolldb/atoll/crdt"
)

func drawSoft(t *rapid.T, name string) *Part {
	p := &Part{Place: Place{3, 2}}
	for range rapid.IntRange(0, 12).Draw(t, name) {
		n := rapid.Uint64Range(1, 40).Draw(t, name+" version")
		p.SawDecided(rapid.Uint64Range(1, 5).Draw(t, name+" key"), crdt.Dot{Actor: 1<<31 | 65, N: n},
			crdt.Dot{Actor: crdt.MakeActor(uint32(1+n%2), 1), N: n}, 9)
	}
	return p
}

// Soft events are a join, too: the latest of all that are known. Whoever is asked is
// asked for all that is not soft, and for what is soft of the key alone.
func TestSoft(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := drawSoft(t, "a"), drawSoft(t, "b"), drawSoft(t, "c")
		equal := func(x, y *Part) bool { return slices.Equal(x.Soft, y.Soft) && same(x, y) }
		if !equal(joined(a, b), joined(b, a)) || !equal(joined(a, a), a) || !equal(joined(joined(a, b), c), joined(a, joined(b, c))) {
			t.Fatalf("not a join: %v %v %v", a.Soft, b.Soft, c.Soft)
		}
		all := joined(a, b, c)
		hard := crdt.Dot{Actor: crdt.MakeActor(9, 1), N: 3}
		all.Saw(hard, 9)
		piece, ok := all.Seal(secret)
		if !ok {
			t.Fatal("does not fit")
		}
		tok, err := Open(secret, Compose([]Piece{piece}), all.Place)
		if err != nil || !equal(tok.Part(), all) {
			t.Fatalf("%v: %+v of %+v", err, tok.Part(), all)
		}
		firm := all.Firm()
		if !firm.Contains(hard) {
			t.Fatal("what is not soft is not asked for")
		}
		for _, run := range all.Clock.All() {
			for n := run.Lo; n <= run.Hi; n++ {
				d := crdt.Dot{Actor: run.Actor, N: n}
				soft := func(key uint64) bool {
					return slices.ContainsFunc(all.Soft, func(s Soft) bool { return s.Event == d && (key == 0 || s.KeyHash != key) })
				}
				if firm.Contains(d) == soft(0) {
					t.Fatalf("%v is asked for: %v, soft: %v", d, firm.Contains(d), soft(0))
				}
				for key := uint64(1); key <= 5; key++ {
					if all.NeedsOf(key).Contains(d) == soft(key) {
						t.Fatalf("%v is asked for of key %d: %v", d, key, !soft(key))
					}
				}
			}
		}
	})
}

// A token whose soft events are not events that it knows, or in another order, is
// none.
func TestSoftMalformed(t *testing.T) {
	p := &Part{Place: Place{3, 2}}
	p.SawDecided(1, crdt.Dot{Actor: 1<<31 | 65, N: 7}, crdt.Dot{Actor: 65, N: 7}, 9)
	p.SawDecided(1, crdt.Dot{Actor: 1<<31 | 65, N: 8}, crdt.Dot{Actor: 65, N: 8}, 9)
	open := func() error {
		s, ok := p.seal(secret)
		if !ok {
			t.Fatal("does not fit")
		}
		_, err := Open(secret, Compose([]Piece{s}), p.Place)
		return err
	}
	if err := open(); err != nil {
		t.Fatal(err)
	}
	slices.Reverse(p.Soft)
	if open() == nil {
		t.Error("the order does not matter")
	}
	slices.Reverse(p.Soft)
	p.Soft[0].Event.N = 9
	if open() == nil {
		t.Error("it names an event that it does not know")
	}
}
