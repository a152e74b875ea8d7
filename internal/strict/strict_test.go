package strict

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// What is read is what was written, and nothing else reads as it: the bytes that a
// script of reads takes are those that the values encode to.
func FuzzReader(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4, 5}, []byte{1, 0, 0x80, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 9, 2, 7, 7})
	f.Add([]byte{1}, []byte{0x80, 0})
	f.Add([]byte{3}, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, script, b []byte) {
		r := Reader{B: b}
		var again []byte
		for _, read := range script {
			switch read % 6 {
			case 0:
				again = append(again, r.Byte())
			case 1:
				again = binary.AppendUvarint(again, r.Uvarint())
			case 2:
				again = binary.BigEndian.AppendUint64(again, r.Uint64())
			case 3:
				p := r.Bytes(100)
				again = append(binary.AppendUvarint(again, uint64(len(p))), p...)
				if len(p) > 100 || len(p) != cap(p) {
					t.Fatalf("%d bytes of %d", len(p), cap(p))
				}
			case 4:
				again = append(again, r.Flags(3))
			case 5:
				n := r.Count(1000, 4)
				again = binary.AppendUvarint(again, uint64(n))
				if !r.Bad && n*4 > len(r.B) {
					t.Fatalf("%d elements in %d bytes", n, len(r.B))
				}
			}
			if r.Bad {
				if r.Byte() != 0 || r.Uvarint() != 0 || r.Uint64() != 0 || r.Take(1) != nil || r.Bytes(9) != nil || r.Whole() {
					t.Fatal("something came after a violation")
				}
				return
			}
		}
		if !bytes.Equal(append(again, r.B...), b) {
			t.Fatalf("%x reads as %x and %x", b, again, r.B)
		}
	})
}

func TestBounds(t *testing.T) {
	bad := map[string]func(*Reader){
		"a number with a shorter form":    func(r *Reader) { r.B = []byte{0x80, 0}; r.Uvarint() },
		"a number that is cut":            func(r *Reader) { r.B = []byte{0x80}; r.Uvarint() },
		"a number of more than 64 bits":   func(r *Reader) { r.B = bytes.Repeat([]byte{0xff}, 11); r.Uvarint() },
		"a number of more than 32 bits":   func(r *Reader) { r.B = binary.AppendUvarint(nil, 1<<32); r.Uint32() },
		"more elements than there can be": func(r *Reader) { r.B = []byte{2, 0, 0, 0}; r.Count(9, 2) },
		"more elements than allowed":      func(r *Reader) { r.B = []byte{2, 0, 0, 0}; r.Count(1, 1) },
		"a length beyond the end":         func(r *Reader) { r.B = []byte{2, 0}; r.Bytes(9) },
		"a length beyond the limit":       func(r *Reader) { r.B = []byte{2, 0, 0}; r.Bytes(1) },
		"an unknown flag":                 func(r *Reader) { r.B = []byte{4}; r.Flags(3) },
		"an end":                          func(r *Reader) { r.Byte() },
		"eight bytes of seven":            func(r *Reader) { r.B = make([]byte, 7); r.Uint64() },
	}
	for what, read := range bad {
		r := &Reader{}
		if read(r); !r.Bad {
			t.Error(what)
		}
	}
	r := Reader{B: append([]byte{1, 'x', 3}, binary.AppendUvarint(nil, 1<<32-1)...)}
	if string(r.Bytes(1)) != "x" || r.Flags(3) != 3 || r.Uint32() != 1<<32-1 || !r.Whole() {
		t.Errorf("%+v", r)
	}
}
