// Package strict reads binary forms that have one encoding each: a form of disk or
// wire that is compared, hashed or signed has to be told from everything that only
// resembles it. It knows no form; codecs embed its Reader and add their own types.
//
// Invariants:
//
//	R1  The first violation sets Bad, and every read after it gives zero.
//	R2  A number that has a shorter form is a violation.
//	R3  What a length or a count says is there: no read reserves more memory than
//	    the bytes that are left.
//	R4  What is returned aliases B and cannot grow into the rest of it.
package strict

import "encoding/binary"

// Reader reads from the front of B.
type Reader struct {
	B   []byte
	Bad bool
}

// Check sets Bad unless ok.
func (r *Reader) Check(ok bool) { r.Bad = r.Bad || !ok }

// Whole reports whether all of B was read and nothing was bad.
func (r *Reader) Whole() bool { return !r.Bad && len(r.B) == 0 }

// Take reads n bytes, nil if there are fewer.
func (r *Reader) Take(n int) []byte {
	if r.Bad || n > len(r.B) {
		r.Bad = true
		return nil
	}
	out := r.B[:n:n]
	r.B = r.B[n:]
	return out
}

// Byte reads one byte.
func (r *Reader) Byte() byte {
	if r.Bad || len(r.B) == 0 {
		r.Bad = true
		return 0
	}
	c := r.B[0]
	r.B = r.B[1:]
	return c
}

// Flags reads a byte of which only the known bits may be set.
func (r *Reader) Flags(known byte) byte {
	f := r.Byte()
	r.Check(f&^known == 0)
	return f
}

// Uint64 reads eight bytes, big-endian.
func (r *Reader) Uint64() uint64 {
	if r.Bad || len(r.B) < 8 {
		r.Bad = true
		return 0
	}
	n := binary.BigEndian.Uint64(r.B)
	r.B = r.B[8:]
	return n
}

// Uvarint reads a number in its shortest form.
func (r *Reader) Uvarint() uint64 {
	if r.Bad {
		return 0
	}
	if len(r.B) > 0 && r.B[0] < 0x80 { // as most are
		n := r.B[0]
		r.B = r.B[1:]
		return uint64(n)
	}
	n, size := binary.Uvarint(r.B)
	if size <= 0 || size > 1 && r.B[size-1] == 0 {
		r.Bad = true
		return 0
	}
	r.B = r.B[size:]
	return n
}

// Uint32 reads a number below 2^32.
func (r *Reader) Uint32() uint32 {
	n := r.Uvarint()
	r.Check(n <= 1<<32-1)
	return uint32(n)
}

// Count reads the number of elements that take at least size bytes each, at most
// most of them.
func (r *Reader) Count(most, size int) int {
	n := r.Uvarint()
	if r.Bad || n > uint64(most) || n > uint64(len(r.B)/size) {
		r.Bad = true
		return 0
	}
	return int(n)
}

// Bytes reads a length, at most most, and so many bytes.
func (r *Reader) Bytes(most int) []byte {
	n := r.Uvarint()
	if r.Bad || n > uint64(most) || n > uint64(len(r.B)) {
		r.Bad = true
		return nil
	}
	out := r.B[:n:n]
	r.B = r.B[n:]
	return out
}
