package jetstream

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestWhatAStreamHasLost(t *testing.T) {
	was := Position{Stream: "a", Floor: 10, Last: 20, Holes: 1}
	for _, c := range []struct {
		name  string
		was   Position
		now   Position
		first uint64
		want  string
	}{
		{"nothing", was, Position{"a", 15, 25, 1}, 11, ""},
		{"nothing is known", Position{}, Position{"a", 15, 25, 3}, 11, ""},
		{"another stream", was, Position{"b", 15, 25, 1}, 1, "made anew"},
		{"the beginning", was, Position{"a", 15, 25, 1}, 12, "fell off"},
		{"the end", was, Position{"a", 10, 19, 1}, 5, "the end"},
		{"the middle", was, Position{"a", 12, 25, 4}, 5, "3 messages inside"},
	} {
		got := c.was.lost(c.now, c.first)
		if c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q", c.name, got)
		}
	}
}

func TestPositionDecodes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := Position{
			Stream: rapid.StringN(0, 60, 60).Draw(t, "id"), Floor: rapid.Uint64().Draw(t, "floor"),
			Last: rapid.Uint64().Draw(t, "last"), Holes: rapid.Uint64().Draw(t, "holes"),
		}
		got, err := DecodePosition(EncodePosition(p))
		if err != nil || got != p {
			t.Fatalf("%+v became %+v, %v", p, got, err)
		}
	})
}

//fuzz:slow 4
func FuzzDecodePosition(f *testing.F) {
	f.Add(EncodePosition(Position{"id", 1, 2, 3}))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := DecodePosition(b)
		if err == nil && string(EncodePosition(p)) != string(b) {
			t.Fatalf("%x decodes and is encoded otherwise", b)
		}
	})
}
