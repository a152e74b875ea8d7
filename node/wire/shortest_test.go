package wire_test

import (
	"bytes"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/node/wire"
)

// No message is told by other bytes in which a number has a longer form.
func TestShortestForm(t *testing.T) {
	for _, c := range codecs {
		t.Run(c.name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				want := c.pack(c.draw(t))
				for i, b := range want {
					if b >= 0x80 {
						continue
					}
					longer := slices.Concat(want[:i], []byte{b | 0x80, 0}, want[i+1:])
					if m, err := c.unpack(longer); err == nil && bytes.Equal(c.pack(m), want) {
						t.Fatalf("%x reads as %x", longer, want)
					}
				}
			})
		})
	}
}

// What an owner unpacks of a small write, and of a batch of repair.
func BenchmarkDecodeApply(b *testing.B) {
	for name, n := range map[string]int{"1 entry": 1, "64 entries": 64} {
		b.Run(name, func(b *testing.B) {
			var m wire.Apply
			for i := range n {
				m.Entries = append(m.Entries, wire.Entry{
					Key: []byte("bucket\x00key000001"), Record: bytes.Repeat([]byte{7}, 100),
					Dots: []crdt.Dot{{Actor: 65, N: uint64(1000 + i)}, {Actor: 129, N: 70000}},
				})
			}
			p := wire.AppendApply(nil, m)
			b.SetBytes(int64(len(p)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := wire.DecodeApply(p); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// What a node unpacks of a put that it is forwarded.
func BenchmarkDecodeForward(b *testing.B) {
	p := wire.AppendForward(nil, &wire.Forward{Bucket: "bucket", Key: []byte("key000001"), Value: bytes.Repeat([]byte{7}, 100), Context: bytes.Repeat([]byte{7}, 30), Level: 3, RequestID: &[16]byte{1}})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := wire.DecodeForward(p); err != nil {
			b.Fatal(err)
		}
	}
}
