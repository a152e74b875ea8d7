package crdt

import (
	"bytes"
	"errors"
	"testing"

	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var (
	testSecret = Secret("a secret of this deployment")
	testKeys   = Keys{testSecret}
	testKey    = []byte("default\x00key")
)

var anyKey = rapid.SliceOfN(rapid.Byte(), 1, 20)

func TestContextRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := histories.Draw(t, "history").state(t, "state").rec.Context()
		key := anyKey.Draw(t, "key")
		b := AppendContext([]byte("head"), testKeys, key, want)[4:]
		got, err := DecodeContext(testKeys, key, b)
		if err != nil || !got.Seen.Equal(want.Seen) || got.Stamp != want.Stamp {
			t.Fatalf("%+v became %+v, %v", want, got, err)
		}
		if again := AppendContext(nil, testKeys, key, got); !bytes.Equal(again, b) {
			t.Fatal("not canonical")
		}
	})
}

func TestContextOfAnotherKeyIsRefused(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := histories.Draw(t, "history").state(t, "state").rec.Context()
		k, other := anyKey.Draw(t, "k"), anyKey.Draw(t, "other")
		if bytes.Equal(k, other) {
			return
		}
		b := AppendContext(nil, testKeys, k, c)
		if got, err := DecodeContext(testKeys, other, b); !errors.Is(err, ErrForeignContext) {
			t.Fatalf("%+v, %v", got, err)
		}
		// Re-writing the hash by hand does not help.
		copy(b[1:9], AppendContext(nil, testKeys, other, c)[1:9])
		if got, err := DecodeContext(testKeys, other, b); !errors.Is(err, ErrBadContext) {
			t.Fatalf("%+v, %v", got, err)
		}
	})
}

func TestForgedContextIsRefused(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := histories.Draw(t, "history").state(t, "state").rec.Context()
		b := AppendContext(nil, testKeys, testKey, c)
		bad := bytes.Clone(b)
		bit := rapid.IntRange(0, len(b)*8-1).Draw(t, "bit")
		bad[bit/8] ^= 1 << (bit % 8)
		if got, err := DecodeContext(testKeys, testKey, bad); !errors.Is(err, ErrBadContext) && !errors.Is(err, ErrForeignContext) {
			t.Fatalf("bit %d flipped: %+v, %v", bit, got, err)
		}
		if n := bit / 8; n > 0 {
			if got, err := DecodeContext(testKeys, testKey, b[:n]); !errors.Is(err, ErrBadContext) {
				t.Fatalf("cut to %d: %+v, %v", n, got, err)
			}
		}
		if got, err := DecodeContext(Keys{Secret("another")}, testKey, b); !errors.Is(err, ErrBadContext) {
			t.Fatalf("another secret: %+v, %v", got, err)
		}
		garbage := rapid.SliceOfN(rapid.Byte(), 1, 80).Draw(t, "garbage")
		if got, err := DecodeContext(testKeys, testKey, garbage); !errors.Is(err, ErrBadContext) && !errors.Is(err, ErrForeignContext) {
			t.Fatalf("garbage: %+v, %v", got, err)
		}
	})
}

// signed adds a good tag to what need not be a context.
func signed(key, b []byte) []byte {
	tag := testKeys.Sign(contextPurpose, key, b)
	return append(bytes.Clone(b), tag[:]...)
}

// Even what carries a good signature must have the form: another version of
// the software may have signed it.
func TestContextStructureIsStrict(t *testing.T) {
	head := AppendContext(nil, testKeys, testKey, Context{})[:17]
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
		b = signed(testKey, b)
		if c, err := DecodeContext(testKeys, testKey, b); !errors.Is(err, ErrBadContext) {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
	}
}

func TestContextBounds(t *testing.T) {
	if c, err := DecodeContext(testKeys, testKey, nil); err != nil || len(c.Seen) > 0 || c.Stamp != 0 {
		t.Fatalf("no context: %+v, %v", c, err)
	}
	// An actor's entry takes at most 9 bytes below 2^35 writes a partition: 8
	// KiB hold the contexts of 900 actors on one key.
	c := Context{Stamp: 1 << 63}
	for i := range uint32(900) {
		c.Seen = append(c.Seen, Entry{Actor: MakeActor(1+i*1000, 1), N: 1<<35 - 1})
	}
	b := AppendContext(nil, testKeys, testKey, c)
	got, err := DecodeContext(testKeys, testKey, b)
	if err != nil {
		t.Fatalf("%d bytes: %v", len(b), err)
	}
	if d := cmp.Diff(c, got); d != "" {
		t.Fatal(d)
	}
	for i := range uint32(900) {
		c.Seen = append(c.Seen, Entry{Actor: MakeActor(1<<20+i*1000, 1), N: 1<<35 - 1})
	}
	b = AppendContext(nil, testKeys, testKey, c)
	if _, err := DecodeContext(testKeys, testKey, b); len(b) <= MaxContext || !errors.Is(err, ErrBadContext) {
		t.Fatalf("%d bytes: %v", len(b), err)
	}
}

// Why contexts carry the highest stamp (history 10 and 24): a writer whose
// clock is behind still stamps above all that it has seen.
func TestContextCarriesItsStamp(t *testing.T) {
	far := hlc.FromMillis(1 << 44)
	c := Record{[]Version{{Dot: Dot{65, 1}, Stamp: far}}}.Context()
	got, err := DecodeContext(testKeys, testKey, AppendContext(nil, testKeys, testKey, c))
	if err != nil || got.Stamp != far {
		t.Fatalf("%v, %v", got.Stamp, err)
	}
}
