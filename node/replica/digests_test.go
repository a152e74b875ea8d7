package replica

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"
)

// Digests by bucket are what a map would be, and their sum is the digest of all.
func TestDigests(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var d digests
		twin := map[string]uint64{}
		for range rapid.IntRange(0, 40).Draw(t, "flips") {
			name := rapid.SampledFrom([]string{"a", "b", "default", "x", ""}).Draw(t, "bucket")
			delta := rapid.Uint64Range(0, 3).Draw(t, "delta")
			d.flip([]byte(name), delta)
			if twin[name] ^= delta; twin[name] == 0 {
				delete(twin, name)
			}
		}
		var sum uint64
		for i, x := range d {
			sum ^= x.digest
			if twin[x.bucket] != x.digest || i > 0 && d[i-1].bucket >= x.bucket {
				t.Fatalf("%v, not %v", d, twin)
			}
		}
		if len(d) != len(twin) || d.total() != sum {
			t.Fatalf("%v with sum %d, not %v", d, d.total(), twin)
		}
		back, ok := decodeDigests(appendDigests(nil, d))
		if wrong := back.minus(d); !ok || len(wrong) > 0 {
			t.Fatalf("%v comes back as %v", d, back)
		}
	})
}

func FuzzDecodeDigests(f *testing.F) {
	f.Add(appendDigests(nil, nil))
	f.Add(appendDigests(nil, digests{{"a", 7}, {"default", 1 << 63}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, ok := decodeDigests(b)
		if !ok {
			return
		}
		again, ok := decodeDigests(appendDigests(nil, d))
		if wrong := again.minus(d); !ok || len(wrong) > 0 || !bytes.Equal(appendDigests(nil, again), appendDigests(nil, d)) {
			t.Fatalf("%x is read as %v, and then as %v", b, d, again)
		}
	})
}
