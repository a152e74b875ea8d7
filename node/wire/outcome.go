package wire

import "github.com/atolldb/atoll/crdt"

// Ask is what a VerbOutcome request asks an owner of a key: whether an event of
// the key carried out the request of that id. If not, it leaves a fence.
type Ask struct {
	Key []byte // full key
	ID  crdt.RequestID
	// Ballot of the fence; not 0.
	Ballot uint64
}

// AppendAsk appends the encoding of m.
func AppendAsk(dst []byte, m Ask) []byte {
	w := writer{dst}
	w.bytes(m.Key)
	w.b = append(w.b, m.ID[:]...)
	w.uint64(m.Ballot)
	return w.b
}

// DecodeAsk decodes an Ask.
func DecodeAsk(b []byte) (Ask, error) {
	r := newReader(b)
	m := Ask{Key: r.bytes()}
	r.id(&m.ID)
	m.Ballot = r.Uint64()
	r.Bad = r.Bad || len(m.Key) == 0 || m.Ballot == 0 || m.ID.IsZero()
	return m, r.end()
}

// Known answers an Ask; see replica.Known.
type Known struct {
	Dot          crdt.Dot
	Stamp        uint64
	Record       []byte
	Sure, Higher bool
}

// AppendKnown appends the encoding of m.
func AppendKnown(dst []byte, m Known) []byte {
	w := writer{dst}
	w.dot(m.Dot)
	w.uvarint(m.Stamp)
	w.bytes(m.Record)
	w.bool(m.Sure)
	w.bool(m.Higher)
	return w.b
}

// DecodeKnown decodes a Known.
func DecodeKnown(b []byte) (Known, error) {
	r := newReader(b)
	m := Known{Dot: r.dot(), Stamp: r.Uvarint(), Record: r.bytes(), Sure: r.bool(), Higher: r.bool()}
	return m, r.end()
}

// id reads the 16 bytes of a request id.
func (r *reader) id(id *crdt.RequestID) { copy(id[:], r.Take(len(id))) }
