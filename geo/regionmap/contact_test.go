package regionmap

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func drawContact(t *rapid.T, label string) (c Contact) {
	text := func(least int) string { return rapid.StringN(least, 4, MaxAddress).Draw(t, label+" text") }
	for range rapid.IntRange(0, 2).Draw(t, label+" servers") {
		c.NATS = append(c.NATS, text(1))
	}
	for i := range rapid.IntRange(0, 2).Draw(t, label+" nodes") {
		c.Members = append(c.Members, Seed{ID: fmt.Sprint("n", i), Rack: text(0), Client: text(0), Peer: text(1)})
	}
	return c
}

// A contact that breaks a bound makes no map.
func TestContactBounds(t *testing.T) {
	seed := Seed{ID: "n", Peer: "h:1"}
	for what, c := range map[string]Contact{
		"an empty URL":   {NATS: []string{""}},
		"a long URL":     {NATS: []string{strings.Repeat("x", MaxAddress+1)}},
		"too many URLs":  {NATS: make([]string, MaxNATS+1)},
		"too many nodes": {Members: make([]Seed, MaxSeeds+1)},
		"no id":          {Members: []Seed{{Peer: "h:1"}}},
		"no address":     {Members: []Seed{{ID: "n"}}},
		"a node twice":   {Members: []Seed{seed, seed}},
		"a long rack":    {Members: []Seed{{ID: "n", Peer: "h:1", Rack: strings.Repeat("x", MaxAddress+1)}}},
		"a long client":  {Members: []Seed{{ID: "n", Peer: "h:1", Client: strings.Repeat("x", MaxAddress+1)}}},
	} {
		m := three()
		m.N, m.Regions[2].Contact = 1, c
		if m.Check() == nil {
			t.Errorf("%s: no error", what)
		}
		if _, err := DecodeKnown(EncodeKnown(Known{Map: m})); err == nil {
			t.Errorf("%s was read", what)
		}
	}
}
