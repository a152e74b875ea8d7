package jetstream

import (
	"testing"

	"github.com/atolldb/atoll/geo"
)

func TestHeaderRoundTrip(t *testing.T) {
	for _, h := range []geo.Header{
		{Origin: "east", Node: "east-1", Incarnation: 65, Session: 7, Number: 1, Count: 3, Codec: "s2"},
		{Origin: "e", Node: "n", Incarnation: 1<<32 - 1, Session: 1<<64 - 1, Number: 1<<64 - 1, Count: 1<<31 - 1, Codec: "none"},
	} {
		if got, err := decodeHeader(encodeHeader(h)); err != nil || got != h {
			t.Errorf("%+v came back as %+v, %v", h, got, err)
		}
	}
}

// The decoder takes exactly what the encoder writes.
//
//fuzz:slow 4
func FuzzDecodeHeader(f *testing.F) {
	f.Add("1 east east-1 65 7 1 3 s2")
	f.Add("1 east east-1 065 7 1 3 s2")
	f.Add("2 east east-1 65 7 1 3 s2")
	f.Add("1 east  east-1 65 7 1 3 s2 x")
	f.Fuzz(func(t *testing.T, text string) {
		h, err := decodeHeader(text)
		if err == nil && encodeHeader(h) != text {
			t.Fatalf("%q is taken as %+v", text, h)
		}
	})
}
