package regionmap

import (
	"errors"
	"testing"
)

// R5: what was removed stays so, its number is never given again, and its name stands
// for the region that has it now.
func TestRemoved(t *testing.T) {
	m := three()
	m.N = 1
	if err := m.Set("ap", Removed); err != nil {
		t.Fatal(err)
	}
	for s := Active; s < Removed; s++ {
		if err := m.Clone().Set("ap", s); err == nil {
			t.Errorf("a removed region became %s", s)
		}
	}
	if err := m.Clone().Add("ap", 3, Contact{}); err == nil {
		t.Error("the number of a removed region was given again")
	}
	if err := m.Clone().Add("jp", 1, Contact{}); err == nil {
		t.Error("the number of another region was given")
	}
	for _, id := range []uint8{9, 4} { // above and below the one of before
		next := m.Clone()
		if err := next.Add("ap", id, Contact{NATS: []string{"nats://h:1"}, Members: []Seed{{ID: "ap-9", Peer: "h:2"}}}); err != nil {
			t.Fatal(err)
		}
		if r := next.Get("ap"); r.ID != id || next.State("ap") != Rejoining || !next.Gone(3) || next.Gone(id) || len(next.Voters()) != 3 {
			t.Errorf("the new one: %+v of %+v", r, next.Regions)
		}
		if err := next.Check(); err != nil {
			t.Error(err)
		}
		k, err := DecodeKnown(EncodeKnown(Known{Map: next}))
		if err != nil || !k.Map.Equal(next) {
			t.Errorf("%v", err)
		}
	}
	twice := three()
	twice.Regions[0].Name = "ap"
	if err := twice.Check(); !errors.Is(err, ErrInvalid) {
		t.Errorf("two regions of a name: %v", err)
	}
}
