package crdt

import (
	"bytes"
	"testing"
)

// FuzzDecodeRecord feeds bodies behind a valid checksum: without it the
// fuzzer would never get past the first comparison.
func FuzzDecodeRecord(f *testing.F) {
	for _, g := range goldenRecords {
		b := AppendRecord(nil, 7, g.r)
		f.Add(b[:len(b)-4])
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if _, err := DecodeRecord(7, body); err == nil {
			t.Skip("a body that carries its own checksum")
		}
		b := forge(7, bytes.Clone(body))
		r, err := DecodeRecord(7, b)
		if err != nil {
			return
		}
		if again := AppendRecord(nil, 7, r); !bytes.Equal(again, b) {
			t.Fatalf("accepted %x, writes %x", b, again)
		}
		for i := range r.Versions {
			v := &r.Versions[i]
			if v.Dot.N == 0 || v.Dot.Actor == 0 || !v.Past.valid() || v.Past.Covers(v.Dot) {
				t.Fatalf("accepted version %+v", v)
			}
		}
		if !Join(r, r).SameDots(r) {
			t.Fatalf("accepted a record that covers itself: %+v", r)
		}
	})
}

func FuzzDecodeClock(f *testing.F) {
	for _, c := range goldenClocks() {
		f.Add(AppendClock(nil, c))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, rest, err := DecodeClock(b)
		if err != nil {
			return
		}
		used := b[:len(b)-len(rest)]
		if again := AppendClock(nil, c); !bytes.Equal(again, used) {
			t.Fatalf("accepted %x, writes %x", used, again)
		}
		rebuilt := &Clock{}
		rebuilt.Join(c)
		if !rebuilt.Equal(c) || !rebuilt.Covers(c) || !c.Covers(rebuilt) {
			t.Fatalf("accepted %+v, its runs make %+v", c, rebuilt)
		}
	})
}

// FuzzDecodeContext feeds both what a client may send and what carries a good
// signature.
func FuzzDecodeContext(f *testing.F) {
	for _, g := range goldenContexts {
		b := AppendContext(nil, testKeys, testKey, g.c)
		f.Add(b)
		f.Add(b[:len(b)-TagSize])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		check := func(b []byte) {
			c, err := DecodeContext(testKeys, testKey, b)
			if err != nil || len(b) == 0 {
				return
			}
			if again := AppendContext(nil, testKeys, testKey, c); !bytes.Equal(again, b) {
				t.Fatalf("accepted %x, writes %x", b, again)
			}
		}
		check(b)
		check(signed(testKey, b))
	})
}
