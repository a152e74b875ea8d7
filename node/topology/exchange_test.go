package topology

import (
	"bytes"
	"errors"
	"testing"
)

func TestExchange(t *testing.T) {
	for _, x := range []*Topology{nil, example()} {
		epoch, got, err := DecodeExchange(EncodeExchange(7, x))
		switch {
		case err != nil:
			t.Error(err)
		case epoch != 7 || (got == nil) != (x == nil):
			t.Errorf("epoch %d, %v", epoch, got)
		case x != nil && !bytes.Equal(Encode(got), Encode(x)):
			t.Error("another topology came out")
		}
	}
	if _, _, err := DecodeExchange(make([]byte, 7)); !errors.Is(err, ErrShortExchange) {
		t.Error(err)
	}
	if _, _, err := DecodeExchange(append(make([]byte, 8), 1)); err == nil {
		t.Error("a broken topology is taken")
	}
}

func FuzzDecodeExchange(f *testing.F) {
	f.Add(EncodeExchange(0, nil))
	f.Add(EncodeExchange(3, example()))
	f.Add([]byte{1, 2, 3})
	f.Fuzz(func(t *testing.T, b []byte) {
		epoch, x, err := DecodeExchange(b)
		if err != nil {
			return
		}
		if again := EncodeExchange(epoch, x); !bytes.Equal(again, b) {
			t.Fatalf("accepted %x, writes %x", b, again)
		}
	})
}
