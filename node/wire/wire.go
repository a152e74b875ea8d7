// Package wire holds the bodies of the requests between nodes and their packed
// encoding. It is pure.
//
// Everything is packed with uvarints in their shortest form, length-prefixed bytes
// and 8-byte big-endian words, in the order of the struct's fields; lists are a
// count and then the elements. Decoded values alias the input. A decoder fails
// with ErrMalformed on anything that is short, oversized or has bytes left.
// Records and clocks travel in crdt's canonical encodings, which carry or get
// their own checks.
package wire

import (
	"encoding/binary"
	"errors"
	"math"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/internal/strict"
)

// ErrMalformed says that a body does not decode.
var ErrMalformed = errors.New("malformed message body")

// Entry is one key's record and the event dots delivered with it.
type Entry struct {
	Key    []byte // the full key: bucket, NUL, key
	Record []byte // canonical encoding
	// Dots that are delivered by this entry beyond those of the record's
	// versions: writes that the record covers by now.
	Dots []crdt.Dot
	// Skip is the partition of an entry without a record: its dots are of keys of
	// a bucket that the receiver's region does not have, and are delivered
	// without them. Its key is the bucket's name and NUL.
	Skip hashring.Partition
	// IDs say which requests some events carried out: of Dots, or what the record
	// covers. Who minted an event knows its request; others may not.
	IDs []crdt.EventID
}

// Skips reports whether e tells of dots only.
func (e Entry) Skips() bool { return len(e.Record) == 0 }

// Size in bytes, roughly.
func (e Entry) Size() int { return len(e.Key) + len(e.Record) + 16*len(e.Dots) + 32*len(e.IDs) + 8 }

type writer struct{ b []byte }

func (w *writer) uvarint(n uint64) { w.b = binary.AppendUvarint(w.b, n) }
func (w *writer) uint64(n uint64)  { w.b = binary.BigEndian.AppendUint64(w.b, n) }
func (w *writer) bytes(p []byte) {
	w.uvarint(uint64(len(p)))
	w.b = append(w.b, p...)
}
func (w *writer) byte(c byte) { w.b = append(w.b, c) }
func (w *writer) string(s string) {
	w.uvarint(uint64(len(s)))
	w.b = append(w.b, s...)
}
func (w *writer) strings(list []string) {
	w.uvarint(uint64(len(list)))
	for _, s := range list {
		w.string(s)
	}
}
func (w *writer) bool(v bool) {
	if v {
		w.b = append(w.b, 1)
	} else {
		w.b = append(w.b, 0)
	}
}
func (w *writer) dot(d crdt.Dot) {
	w.uvarint(uint64(d.Actor))
	w.uvarint(d.N)
}
func (w *writer) dots(dots []crdt.Dot) {
	w.uvarint(uint64(len(dots)))
	for _, d := range dots {
		w.dot(d)
	}
}
func (w *writer) clock(c *crdt.Clock) { w.b = crdt.AppendClock(w.b, c) }
func (w *writer) entries(es []Entry) {
	w.uvarint(uint64(len(es)))
	for _, e := range es {
		w.bytes(e.Key)
		w.bytes(e.Record)
		w.events(e)
		if e.Skips() {
			w.uvarint(uint64(e.Skip))
		}
	}
}

// events packs dots and ids. The lowest bit of the number of dots says that ids
// follow: their number, not 0, and each with its dot.
func (w *writer) events(e Entry) {
	n := uint64(len(e.Dots)) << 1
	if len(e.IDs) > 0 {
		n |= 1
	}
	w.uvarint(n)
	for _, d := range e.Dots {
		w.dot(d)
	}
	if n&1 == 0 {
		return
	}
	w.uvarint(uint64(len(e.IDs)))
	for _, id := range e.IDs {
		w.dot(id.Dot)
		w.b = append(w.b, id.ID[:]...)
	}
}

// reader adds what bodies are made of.
type reader struct{ strict.Reader }

func newReader(b []byte) reader { return reader{strict.Reader{B: b}} }

// count reads the length of a list whose elements take at least size bytes.
func (r *reader) count(size int) int { return r.Count(math.MaxInt, size) }

func (r *reader) bytes() []byte { return r.Bytes(math.MaxInt) }

func (r *reader) string() string { return string(r.bytes()) }

func (r *reader) strings() []string {
	n := r.count(1)
	if n > maxNodes {
		r.Bad = true
	}
	if r.Bad || n == 0 {
		return nil
	}
	list := make([]string, n)
	for i := range list {
		list[i] = r.string()
	}
	return list
}

func (r *reader) bool() bool { return r.Flags(1) == 1 }

// dot reads one that may be zero, or name nobody.
func (r *reader) dot() crdt.Dot { return crdt.Dot{Actor: crdt.Actor(r.Uint32()), N: r.Uvarint()} }

func (r *reader) dots() []crdt.Dot { return r.someDots(r.count(2)) }

func (r *reader) someDots(n int) []crdt.Dot {
	if n == 0 {
		return nil
	}
	dots := make([]crdt.Dot, n)
	for i := range dots {
		dots[i] = r.event()
		if r.Bad {
			return nil
		}
	}
	return dots
}

// event reads a dot that names one.
func (r *reader) event() crdt.Dot {
	a, c := r.Uvarint(), r.Uvarint()
	if a == 0 || a > 1<<32-1 || c == 0 || c > crdt.MaxN {
		r.Bad = true
	}
	return crdt.Dot{Actor: crdt.Actor(a), N: c}
}

// events undoes writer.events.
func (r *reader) events(e *Entry) {
	n := r.Uvarint()
	if n>>1 > uint64(len(r.B)/2) {
		r.Bad = true
		return
	}
	e.Dots = r.someDots(int(n >> 1))
	if n&1 == 0 || r.Bad {
		return
	}
	ids := r.count(18)
	r.Bad = r.Bad || ids == 0
	for range ids {
		id := crdt.EventID{Dot: r.event()}
		if r.id(&id.ID); r.Bad {
			return
		}
		e.IDs = append(e.IDs, id)
	}
}

func (r *reader) clock() *crdt.Clock {
	if r.Bad {
		return &crdt.Clock{}
	}
	c, rest, err := crdt.DecodeClock(r.B)
	if err != nil {
		r.Bad = true
		return &crdt.Clock{}
	}
	r.B = rest
	return c
}

func (r *reader) partition() hashring.Partition {
	n := r.Uvarint()
	if n > 1<<16-1 {
		r.Bad = true
	}
	return hashring.Partition(n)
}

func (r *reader) entries() []Entry {
	n := r.count(4)
	if n == 0 {
		return nil
	}
	// An entry takes many times its least size in memory: what a count says
	// is not reserved before entries have come.
	es := make([]Entry, 0, min(n, 1024))
	for range n {
		e := Entry{Key: r.bytes(), Record: r.bytes()}
		r.events(&e)
		if e.Skips() {
			e.Skip = r.partition()
		}
		if r.Bad || len(e.Key) == 0 {
			r.Bad = true
			return nil
		}
		es = append(es, e)
	}
	return es
}

func (r *reader) end() error {
	if !r.Whole() {
		return ErrMalformed
	}
	return nil
}
