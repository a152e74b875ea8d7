package wire

import (
	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/crdt/session"
	"github.com/atolldb/atoll/hashring"
)

// Floors of a partition at one owner: stamps, 0 for none. They only rise.
type Floors struct {
	// Promised: the owner mints nothing at or below it. Raised: the late-message
	// rule holds for what is at or below it. Completed: every owner has raised
	// it; what is dead at or below it is absent. Swept: nothing of that is in the
	// store any more.
	Promised, Raised, Completed, Swept hlc.Stamp
}

// floors are one byte while nothing was ever promised.
func (w *writer) floors(f Floors) {
	w.bool(f != Floors{})
	if f == (Floors{}) {
		return
	}
	for _, s := range []hlc.Stamp{f.Promised, f.Raised, f.Completed, f.Swept} {
		w.uvarint(uint64(s))
	}
}

func (w *writer) losses(l *session.Losses) { w.b = session.AppendLosses(w.b, l) }

func (r *reader) losses() *session.Losses {
	if r.Bad {
		return nil
	}
	l, rest, err := session.DecodeLosses(r.B)
	if r.Bad = err != nil; r.Bad {
		return nil
	}
	r.B = rest
	return l
}

func (r *reader) floors() Floors {
	if !r.bool() {
		return Floors{}
	}
	next := func() hlc.Stamp { return hlc.Stamp(r.Uvarint()) }
	return Floors{next(), next(), next(), next()}
}

// Apply asks an owner to join finished records; the reply is empty and means
// that all of them are durable.
type Apply struct {
	Entries []Entry
}

// AppendApply appends the encoding of m.
func AppendApply(dst []byte, m Apply) []byte {
	w := writer{dst}
	w.entries(m.Entries)
	return w.b
}

// DecodeApply decodes an Apply.
func DecodeApply(b []byte) (Apply, error) {
	r := newReader(b)
	m := Apply{Entries: r.entries()}
	return m, r.end()
}

// Sum is a partition's state in 16 bytes.
type Sum struct {
	Partition hashring.Partition
	// Clock is a hash of the delivery clock, and of the floors that decide what
	// counts as absent; Digest that of the records.
	Clock, Digest uint64
}

// Under is the sum as it is sent in a Compare: owners that have raised different
// floors, or know of different losses (of which it takes a hash), differ, so that
// they show them to each other. A Difference carries the digest as it is.
func (s Sum) Under(f Floors, losses uint64) Sum {
	// 2^64 divided by the golden ratio: any odd number would do.
	s.Digest ^= uint64(f.Raised)*0x9e3779b97f4a7c15 ^ losses
	return s
}

// Afar says who asks, where that is a node of another region: it is shown what
// both regions have. It stands at the end of a request: one byte that is 0 where
// Region is empty, else 1 and the two fields.
type Afar struct {
	// Region that asks.
	Region string
	// Apart is a hash of which buckets not both have, 0 for none: digests are
	// compared between those only who know the same.
	Apart uint64
}

func (w *writer) afar(a Afar) {
	if w.bool(a.Region != ""); a.Region != "" {
		w.string(a.Region)
		w.uint64(a.Apart)
	}
}

func (r *reader) afar() (a Afar) {
	if !r.bool() || r.Bad {
		return a
	}
	a = Afar{r.string(), r.Uint64()}
	r.Bad = r.Bad || a.Region == ""
	return a
}

// Compare asks which of the partitions differ at the receiver; the reply is
// the receiver's Differences.
type Compare struct {
	Sums []Sum
	Afar Afar
}

// AppendCompare appends the encoding of m.
func AppendCompare(dst []byte, m Compare) []byte {
	w := writer{dst}
	w.uvarint(uint64(len(m.Sums)))
	for _, s := range m.Sums {
		w.uvarint(uint64(s.Partition))
		w.uint64(s.Clock)
		w.uint64(s.Digest)
	}
	w.afar(m.Afar)
	return w.b
}

// DecodeCompare decodes a Compare.
func DecodeCompare(b []byte) (Compare, error) {
	r := newReader(b)
	m := Compare{}
	if n := r.count(17); n > 0 {
		m.Sums = make([]Sum, n)
		for i := range m.Sums {
			m.Sums[i] = Sum{r.partition(), r.Uint64(), r.Uint64()}
		}
	}
	m.Afar = r.afar()
	return m, r.end()
}

// Untold stands for a digest that the sender cannot compare: it knows of other
// buckets that not both regions have.
const Untold = 1<<64 - 1

// Difference is a partition whose state differs, as it is at the sender of it.
type Difference struct {
	Sum
	Clock  *crdt.Clock
	Floors Floors
	Losses *session.Losses // nil for none
}

// AppendDifferences appends the encoding of a Compare reply.
func AppendDifferences(dst []byte, ds []Difference) []byte {
	w := writer{dst}
	w.uvarint(uint64(len(ds)))
	for _, d := range ds {
		w.uvarint(uint64(d.Partition))
		w.uint64(d.Sum.Clock)
		w.uint64(d.Digest)
		w.clock(d.Clock)
		w.floors(d.Floors)
		w.losses(d.Losses)
	}
	return w.b
}

// DecodeDifferences decodes a Compare reply.
func DecodeDifferences(b []byte) ([]Difference, error) {
	r := newReader(b)
	n := r.count(21)
	ds := make([]Difference, n)
	for i := range ds {
		ds[i] = Difference{Sum{r.partition(), r.Uint64(), r.Uint64()}, r.clock(), r.floors(), r.losses()}
	}
	return ds, r.end()
}

// Pull asks for the records behind the dots of a partition that Clock lacks.
type Pull struct {
	Partition hashring.Partition
	Clock     *crdt.Clock
	// MaxBytes bounds the entries of the reply, of which there is at least one
	// if there is anything to send.
	MaxBytes int
	Afar     Afar
}

// AppendPull appends the encoding of m.
func AppendPull(dst []byte, m Pull) []byte {
	w := writer{dst}
	w.uvarint(uint64(m.Partition))
	w.uvarint(uint64(m.MaxBytes))
	w.clock(m.Clock)
	w.afar(m.Afar)
	return w.b
}

// DecodePull decodes a Pull.
func DecodePull(b []byte) (Pull, error) {
	r := newReader(b)
	m := Pull{Partition: r.partition()}
	m.MaxBytes = int(min(r.Uvarint(), 16<<20))
	m.Clock = r.clock()
	m.Afar = r.afar()
	return m, r.end()
}

// Pulled answers a Pull.
type Pulled struct {
	Entries []Entry
	// More: there are more missing dots than this reply delivers.
	More bool
	// Full: the index no longer knows some missing dot, so that only a full
	// sync (Scan) can deliver it.
	Full bool
	// Floors of the sender, before it read the entries.
	Floors Floors
}

// AppendPulled appends the encoding of m.
func AppendPulled(dst []byte, m Pulled) []byte {
	w := writer{dst}
	w.bool(m.More)
	w.bool(m.Full)
	w.floors(m.Floors)
	w.entries(m.Entries)
	return w.b
}

// DecodePulled decodes a Pulled.
func DecodePulled(b []byte) (Pulled, error) {
	r := newReader(b)
	m := Pulled{More: r.bool(), Full: r.bool(), Floors: r.floors()}
	m.Entries = r.entries()
	return m, r.end()
}

// BucketBits is the binary logarithm of the number of a Buckets reply's parts:
// few, so that finding one record among many costs some hundred bytes.
const BucketBits = 4

// Buckets asks for the digests of the 16 equal parts of a range of key hashes:
// those whose top Bits bits are Prefix (in the low bits of Prefix). The reply
// is 16 pairs of digest and number of keys.
type Buckets struct {
	Bits   uint8
	Prefix uint64
	Afar   Afar
}

// Bucket is one part of a Buckets reply.
type Bucket struct {
	Digest uint64
	Keys   uint64
}

// AppendBuckets appends the encoding of m.
func AppendBuckets(dst []byte, m Buckets) []byte {
	w := writer{dst}
	w.uvarint(uint64(m.Bits))
	w.uvarint(m.Prefix)
	w.afar(m.Afar)
	return w.b
}

// DecodeBuckets decodes a Buckets.
func DecodeBuckets(b []byte) (Buckets, error) {
	r := newReader(b)
	bits := r.Uvarint()
	if bits > 64-BucketBits {
		r.Bad = true
	}
	m := Buckets{Bits: uint8(bits), Prefix: r.Uvarint()}
	if m.Prefix>>bits != 0 {
		r.Bad = true
	}
	m.Afar = r.afar()
	return m, r.end()
}

// AppendBucketList appends the encoding of a Buckets reply.
func AppendBucketList(dst []byte, bs []Bucket) []byte {
	w := writer{dst}
	w.uvarint(uint64(len(bs)))
	for _, b := range bs {
		w.uint64(b.Digest)
		w.uvarint(b.Keys)
	}
	return w.b
}

// DecodeBucketList decodes a Buckets reply.
func DecodeBucketList(b []byte) ([]Bucket, error) {
	r := newReader(b)
	n := r.count(9)
	bs := make([]Bucket, n)
	for i := range bs {
		bs[i] = Bucket{r.Uint64(), r.Uvarint()}
	}
	return bs, r.end()
}

// Scan asks for a page of the records whose key hash is in First..Last, in the
// store's order, starting behind the full key After (empty: at First).
type Scan struct {
	Partition   hashring.Partition
	First, Last uint64
	After       []byte
	MaxBytes    int
	Afar        Afar
}

// AppendScan appends the encoding of m.
func AppendScan(dst []byte, m Scan) []byte {
	w := writer{dst}
	w.uvarint(uint64(m.Partition))
	w.uint64(m.First)
	w.uint64(m.Last)
	w.bytes(m.After)
	w.uvarint(uint64(m.MaxBytes))
	w.afar(m.Afar)
	return w.b
}

// DecodeScan decodes a Scan.
func DecodeScan(b []byte) (Scan, error) {
	r := newReader(b)
	m := Scan{Partition: r.partition(), First: r.Uint64(), Last: r.Uint64(), After: r.bytes()}
	m.MaxBytes = int(min(r.Uvarint(), 16<<20))
	m.Afar = r.afar()
	return m, r.end()
}

// Page answers a Scan.
type Page struct {
	Entries []Entry
	// More: there is a next page behind the last entry.
	More bool
	// Behind: the sender is catching up; what it has is not all it should.
	Behind bool
	// Clock is the delivery clock of the partition before the page was read:
	// whoever has joined all pages has everything that the first page's clock
	// has.
	Clock *crdt.Clock
	// Floors of the sender, before the page was read.
	Floors Floors
	// Losses of the sender, after the clock was read; nil for none.
	Losses *session.Losses
}

// AppendPage appends the encoding of m.
func AppendPage(dst []byte, m Page) []byte {
	w := writer{dst}
	w.bool(m.More)
	w.bool(m.Behind)
	w.clock(m.Clock)
	w.floors(m.Floors)
	w.losses(m.Losses)
	w.entries(m.Entries)
	return w.b
}

// DecodePage decodes a Page.
func DecodePage(b []byte) (Page, error) {
	r := newReader(b)
	m := Page{More: r.bool(), Behind: r.bool(), Clock: r.clock(), Floors: r.floors(), Losses: r.losses()}
	m.Entries = r.entries()
	return m, r.end()
}
