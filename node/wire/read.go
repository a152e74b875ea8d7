package wire

import "github.com/atolldb/atoll/crdt"

// Read asks an owner for the record of one key.
type Read struct {
	Key []byte
	// Needs, nil for nothing, are dots of the key's partition that must have been
	// delivered to the owner before it reads.
	Needs *crdt.Clock
}

// The flags of a Read, the first byte of its body. Without one the rest is the
// key.
const readNeeds = 1 // the key's length, the key, the clock

// AppendRead appends the encoding of m.
func AppendRead(dst []byte, m Read) []byte {
	if m.Needs == nil {
		return append(append(dst, 0), m.Key...)
	}
	w := writer{append(dst, readNeeds)}
	w.bytes(m.Key)
	w.clock(m.Needs)
	return w.b
}

// DecodeRead decodes a Read.
func DecodeRead(b []byte) (Read, error) {
	r := reader{b: b}
	flags := r.byte()
	var m Read
	switch flags {
	case 0:
		m.Key, r.b = r.b[:len(r.b):len(r.b)], nil
	case readNeeds:
		m.Key, m.Needs = r.bytes(), r.clock()
	default:
		r.bad = true
	}
	r.bad = r.bad || len(m.Key) == 0
	return m, r.end()
}

// Held answers a Read.
type Held struct {
	// Record in its canonical encoding, empty for an absent key.
	Record []byte
	// Pending: a write of the key was accepted by consensus here and is not known
	// to be decided.
	Pending bool
}

// The flags of a Held, the last byte of it: what was read needs no copy then.
const heldPending = 1

// EncodeHeld returns the encoding of m. It may use the room behind m.Record.
func EncodeHeld(m Held) []byte {
	var flags byte
	if m.Pending {
		flags = heldPending
	}
	return append(m.Record, flags)
}

// DecodeHeld decodes a Held.
func DecodeHeld(b []byte) (Held, error) {
	n := len(b) - 1
	if n < 0 || b[n]&^heldPending != 0 {
		return Held{}, ErrMalformed
	}
	return Held{Record: b[:n:n], Pending: b[n] == heldPending}, nil
}
