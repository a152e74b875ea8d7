package crdt

import (
	"bytes"
	"errors"
	"testing"

	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var testSecret = Secret("a secret of this deployment")

func TestContextRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := histories.Draw(t, "history").state(t, "state").rec.Context()
		keyHash := rapid.Uint64().Draw(t, "key hash")
		b := AppendContext([]byte("head"), testSecret, keyHash, want)[4:]
		got, err := DecodeContext(testSecret, keyHash, b)
		if err != nil || !got.Seen.Equal(want.Seen) || got.Stamp != want.Stamp {
			t.Fatalf("%+v became %+v, %v", want, got, err)
		}
		if again := AppendContext(nil, testSecret, keyHash, got); !bytes.Equal(again, b) {
			t.Fatal("not canonical")
		}
	})
}

func TestContextOfAnotherKeyIsRefused(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := histories.Draw(t, "history").state(t, "state").rec.Context()
		k, other := rapid.Uint64().Draw(t, "k"), rapid.Uint64().Draw(t, "other")
		if k == other {
			return
		}
		b := AppendContext(nil, testSecret, k, c)
		if got, err := DecodeContext(testSecret, other, b); !errors.Is(err, ErrForeignContext) {
			t.Fatalf("%+v, %v", got, err)
		}
		// Re-writing the hash by hand does not help.
		copy(b[1:9], AppendContext(nil, testSecret, other, c)[1:9])
		if got, err := DecodeContext(testSecret, other, b); !errors.Is(err, ErrBadContext) {
			t.Fatalf("%+v, %v", got, err)
		}
	})
}

func TestForgedContextIsRefused(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := histories.Draw(t, "history").state(t, "state").rec.Context()
		b := AppendContext(nil, testSecret, 1, c)
		bad := bytes.Clone(b)
		bit := rapid.IntRange(0, len(b)*8-1).Draw(t, "bit")
		bad[bit/8] ^= 1 << (bit % 8)
		if got, err := DecodeContext(testSecret, 1, bad); !errors.Is(err, ErrBadContext) {
			t.Fatalf("bit %d flipped: %+v, %v", bit, got, err)
		}
		if n := bit / 8; n > 0 {
			if got, err := DecodeContext(testSecret, 1, b[:n]); !errors.Is(err, ErrBadContext) {
				t.Fatalf("cut to %d: %+v, %v", n, got, err)
			}
		}
		if got, err := DecodeContext(Secret("another"), 1, b); !errors.Is(err, ErrBadContext) {
			t.Fatalf("another secret: %+v, %v", got, err)
		}
		garbage := rapid.SliceOfN(rapid.Byte(), 1, 80).Draw(t, "garbage")
		if got, err := DecodeContext(testSecret, 1, garbage); !errors.Is(err, ErrBadContext) {
			t.Fatalf("garbage: %+v, %v", got, err)
		}
	})
}

// Even what carries a good signature must have the form: another version of
// the software may have signed it.
func TestContextStructureIsStrict(t *testing.T) {
	head := append([]byte{1, 0, 0, 0, 0, 0, 0, 0, 7}, make([]byte, 8)...)
	for name, tail := range map[string][]byte{
		"no count":              {},
		"trailing byte":         {0, 0},
		"entries descend":       {2, 65, 1, 0, 1},
		"counter zero":          {1, 65, 0},
		"actor zero":            {1, 0, 1},
		"actor too large":       {1, 0x80, 0x80, 0x80, 0x80, 0x10, 1},
		"not minimal":           {1, 65, 0x81, 0},
		"huge number":           {0xff, 0xff, 0x7f},
		"actors wrap around":    {2, 65, 1, 0xc0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 1},
		"less than it promises": {2, 65, 1},
	} {
		b := append(bytes.Clone(head), tail...)
		b = append(b, sign(testSecret, b)...)
		if c, err := DecodeContext(testSecret, 7, b); !errors.Is(err, ErrBadContext) {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
	}
}

func TestContextBounds(t *testing.T) {
	if c, err := DecodeContext(testSecret, 7, nil); err != nil || len(c.Seen) > 0 || c.Stamp != 0 {
		t.Fatalf("no context: %+v, %v", c, err)
	}
	// An actor's entry takes at most 9 bytes below 2^35 writes a partition: 8
	// KiB hold the contexts of 900 actors on one key.
	c := Context{Stamp: 1 << 63}
	for i := range uint32(900) {
		c.Seen = append(c.Seen, Entry{Actor: MakeActor(1+i*1000, 1), N: 1<<35 - 1})
	}
	b := AppendContext(nil, testSecret, 7, c)
	got, err := DecodeContext(testSecret, 7, b)
	if err != nil {
		t.Fatalf("%d bytes: %v", len(b), err)
	}
	if d := cmp.Diff(c, got); d != "" {
		t.Fatal(d)
	}
	for i := range uint32(900) {
		c.Seen = append(c.Seen, Entry{Actor: MakeActor(1<<20+i*1000, 1), N: 1<<35 - 1})
	}
	b = AppendContext(nil, testSecret, 7, c)
	if _, err := DecodeContext(testSecret, 7, b); len(b) <= MaxContext || !errors.Is(err, ErrBadContext) {
		t.Fatalf("%d bytes: %v", len(b), err)
	}
}

// Why contexts carry the highest stamp (history 10 and 24): a writer whose
// clock is behind still stamps above all that it has seen.
func TestContextCarriesItsStamp(t *testing.T) {
	far := hlc.FromMillis(1 << 44)
	c := Record{[]Version{{Dot: Dot{65, 1}, Stamp: far}}}.Context()
	got, err := DecodeContext(testSecret, 7, AppendContext(nil, testSecret, 7, c))
	if err != nil || got.Stamp != far {
		t.Fatalf("%v, %v", got.Stamp, err)
	}
}
