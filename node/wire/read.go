package wire

import (
	"encoding/binary"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/node/home"
)

// Read asks an owner for the record of one key.
type Read struct {
	Key []byte
	// Needs, nil for nothing, are dots of the key's partition that the reader
	// knows of. With Wait the owner reads when they were delivered to it, however
	// long that takes within the request's time; else at once, and says what is
	// missing.
	Needs *crdt.Clock
	Wait  bool
	// Fresh asks for Held.Fresh.
	Fresh bool
	// Home is the epoch of the bucket's home in which the region is asked, 0 where
	// that does not matter.
	Home home.Epoch
	// Settle, of a serial read, asks that what anybody has accepted for the key is
	// finished or passed over.
	Settle bool
}

// The flags of a Read, the first byte of its body. Without one the rest is the
// key; else follow its length, the key, with readNeeds the clock, and with readHome
// the epoch.
const (
	readNeeds  = 1
	readWait   = 2 // only with readNeeds
	readFresh  = 4
	readHome   = 8
	readSettle = 16
)

// AppendRead appends the encoding of m.
func AppendRead(dst []byte, m Read) []byte {
	var flags byte
	if m.Needs != nil {
		flags = readNeeds
		if m.Wait {
			flags |= readWait
		}
	}
	if m.Fresh {
		flags |= readFresh
	}
	if m.Home != 0 {
		flags |= readHome
	}
	if m.Settle {
		flags |= readSettle
	}
	if flags == 0 {
		return append(append(dst, 0), m.Key...)
	}
	w := writer{append(dst, flags)}
	w.bytes(m.Key)
	if m.Needs != nil {
		w.clock(m.Needs)
	}
	if m.Home != 0 {
		w.uvarint(uint64(m.Home))
	}
	return w.b
}

// DecodeRead decodes a Read.
func DecodeRead(b []byte) (Read, error) {
	r := newReader(b)
	flags := r.Byte()
	m := Read{Wait: flags&readWait != 0, Fresh: flags&readFresh != 0, Settle: flags&readSettle != 0}
	switch {
	case flags == 0:
		m.Key, r.B = r.B[:len(r.B):len(r.B)], nil
	case flags > readNeeds|readWait|readFresh|readHome|readSettle, flags&readNeeds == 0 && m.Wait:
		r.Bad = true
	default:
		m.Key = r.bytes()
		if flags&readNeeds != 0 {
			m.Needs = r.clock()
		}
		if flags&readHome != 0 {
			m.Home = r.epoch()
			r.Bad = r.Bad || m.Home == 0
		}
	}
	r.Bad = r.Bad || len(m.Key) == 0
	return m, r.end()
}

// Held answers a Read.
type Held struct {
	// Record in its canonical encoding, empty for an absent key.
	Record []byte
	// Pending: a write of the key was accepted by consensus here and is not known
	// to be decided.
	Pending bool
	// Missing, nil for nothing, are the dots of Read.Needs that were not delivered
	// to the owner when it read.
	Missing *crdt.Clock
	// Lost, nil for nothing, are those of Read.Needs that the owner knew then to be
	// lost for good.
	Lost *crdt.Clock
	// Fresh says of other regions up to when the owner had, before it read, all of
	// the partition that they had written.
	Fresh []Fresh
}

// Fresh is one region's part of Held.Fresh: its number, and milliseconds since
// 1970 by its clocks.
type Fresh struct {
	Region uint8
	AsOf   uint64
}

// The flags of a Held, the last byte of it: what was read needs no copy then.
// With heldExtras, four bytes before it are the length of what stands between
// them and the record: the clock of what is missing (empty for nothing), and the
// list of what is fresh; with heldLost the clock of what is lost, too.
const (
	heldPending = 1
	heldExtras  = 2
	heldLost    = 4 // only with heldExtras
)

// EncodeHeld returns the encoding of m. It may use the room behind m.Record.
func EncodeHeld(m Held) []byte {
	var flags byte
	if m.Pending {
		flags = heldPending
	}
	if m.Missing == nil && m.Lost == nil && len(m.Fresh) == 0 {
		return append(m.Record, flags)
	}
	w := writer{m.Record}
	missing := m.Missing
	if missing == nil {
		missing = &crdt.Clock{}
	}
	w.clock(missing)
	w.uvarint(uint64(len(m.Fresh)))
	for _, f := range m.Fresh {
		w.byte(f.Region)
		w.uvarint(f.AsOf)
	}
	if m.Lost != nil {
		flags |= heldLost
		w.clock(m.Lost)
	}
	w.b = binary.BigEndian.AppendUint32(w.b, uint32(len(w.b)-len(m.Record)))
	return append(w.b, flags|heldExtras)
}

// DecodeHeld decodes a Held.
func DecodeHeld(b []byte) (Held, error) {
	n := len(b) - 1
	if n < 0 || b[n] > heldPending|heldExtras|heldLost || b[n]&heldLost != 0 && b[n]&heldExtras == 0 {
		return Held{}, ErrMalformed
	}
	m := Held{Pending: b[n]&heldPending != 0}
	if b[n]&heldExtras != 0 {
		n -= 4
		if n < 0 {
			return Held{}, ErrMalformed
		}
		size := int64(binary.BigEndian.Uint32(b[n:]))
		if size > int64(n) {
			return Held{}, ErrMalformed
		}
		r := newReader(b[n-int(size) : n])
		n -= int(size)
		if m.Missing = r.clock(); m.Missing.Equal(&crdt.Clock{}) {
			m.Missing = nil
		}
		for range r.count(2) {
			m.Fresh = append(m.Fresh, Fresh{r.Byte(), r.Uvarint()})
		}
		if b[len(b)-1]&heldLost != 0 {
			if m.Lost = r.clock(); m.Lost.Equal(&crdt.Clock{}) {
				r.Bad = true
			}
		}
		if err := r.end(); err != nil {
			return Held{}, err
		}
	}
	m.Record = b[:n:n]
	return m, nil
}
