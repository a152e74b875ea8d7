package session

import (
	"bytes"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// longer are b with one of its numbers, if it is one, in a longer form.
func longer(b []byte) (out [][]byte) {
	for i, c := range b {
		if c < 0x80 {
			out = append(out, slices.Concat(b[:i], []byte{c | 0x80, 0}, b[i+1:]))
		}
	}
	return out
}

// A token, and what is known to be lost, have one encoding: no number has another form.
func TestShortestForm(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := drawLosses(t, "losses")
		encoded := AppendLosses(nil, l)
		for _, b := range longer(encoded) {
			if got, rest, err := DecodeLosses(b); err == nil && len(rest) == 0 && got.Equal(l) {
				t.Fatalf("%x reads as %x", b, encoded)
			}
		}
		place := Place{3, 2}
		p, _ := drawPart(t, place, 3)
		piece, ok := p.Seal(secret)
		if !ok {
			return
		}
		body, _, err := piece.verify(secret)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range longer(body[header:]) {
			if got, err := decodePart(place, b); err == nil && got.Covers(p) && p.Covers(got) {
				t.Fatalf("%x reads as %x", b, body)
			}
		}
		token := Compose([]Piece{piece})
		if token[1] < 0x80 {
			if _, err := Split(slices.Concat(token[:1], []byte{token[1] | 0x80, 0}, token[2:])); err == nil {
				t.Fatal("a length has two forms")
			}
		}
		if _, err := Open(secret, token, place); err != nil || !bytes.Equal(token[1:], piece.Sealed) {
			t.Fatalf("%x does not open: %v", token, err)
		}
	})
	short, _ := (&Part{Place: Place{3, 2}}).Seal(secret)
	token := Compose([]Piece{short})
	if _, err := Split(token); err != nil || token[1] >= 0x80 {
		t.Fatalf("the shortest token: %x, %v", token, err)
	}
	if _, err := Split(slices.Concat(token[:1], []byte{token[1] | 0x80, 0}, token[2:])); err == nil {
		t.Error("a length has two forms")
	}
}
