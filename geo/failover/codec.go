package failover

import (
	"encoding/binary"
	"errors"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/internal/strict"
)

// The encoding of an operation, as it stands in the map of regions:
//
//	1 byte    format, 1
//	uvarint   id
//	1 byte    kind
//	bytes     region, to, by
//	1 byte    flags: 1 forced, 2 aborted, 4 ended, 8 some was lost meanwhile,
//	          16 missing writes are counted by bucket
//	1 byte    stage
//	uvarint   began, since, closed
//	twice, what is missing, and what the survivors had:
//	  1 byte    1 if it was counted
//	  uvarint   writes, milliseconds since the region was heard
//	  uvarint   number of spans, then each: partition, actor, from, to (uvarint)
//	the same once more, if its flag is set: what was lost meanwhile, which is counted
//	if its flag is set, missing writes by bucket, in the order of names:
//	  uvarint   number of buckets, 1 or more, then each: bytes name, uvarint writes
//
// Bytes are a uvarint and that many bytes; all uvarints are minimal.

const format = 1

// ErrMalformed says that bytes are no operation that this version knows.
var ErrMalformed = errors.New("malformed operation on regions")

// Append appends the encoding of o.
func (o *Operation) Append(dst []byte) []byte {
	dst = binary.AppendUvarint(append(dst, format), o.ID)
	dst = append(dst, byte(o.Kind))
	for _, s := range []string{o.Region, o.To, o.By} {
		dst = append(binary.AppendUvarint(dst, uint64(len(s))), s...)
	}
	flags := byte(0)
	for i, set := range []bool{o.Forced, o.Aborted, o.Ended, o.Lost.Counted, len(o.Missing.Buckets) > 0} {
		if set {
			flags |= 1 << i
		}
	}
	dst = append(dst, flags, o.Stage)
	for _, n := range []uint64{o.Began, o.Since, o.Closed} {
		dst = binary.AppendUvarint(dst, n)
	}
	dst = o.Had.append(o.Missing.append(dst))
	if o.Lost.Counted { // versions that do not know it can read all others
		dst = o.Lost.append(dst)
	}
	if len(o.Missing.Buckets) > 0 {
		dst = binary.AppendUvarint(dst, uint64(len(o.Missing.Buckets)))
	}
	for _, b := range o.Missing.Buckets {
		dst = append(binary.AppendUvarint(dst, uint64(len(b.Bucket))), b.Bucket...)
		dst = binary.AppendUvarint(dst, b.Writes)
	}
	return dst
}

func (m *Missing) append(dst []byte) []byte {
	counted := byte(0)
	if m.Counted {
		counted = 1
	}
	dst = append(dst, counted)
	for _, n := range []uint64{m.Writes, m.HeardMs, uint64(len(m.Spans))} {
		dst = binary.AppendUvarint(dst, n)
	}
	for _, s := range m.Spans {
		for _, n := range []uint64{uint64(s.Partition), uint64(s.Dots.Actor), s.Dots.Lo, s.Dots.Hi} {
			dst = binary.AppendUvarint(dst, n)
		}
	}
	return dst
}

// Decode decodes an operation, or returns ErrMalformed.
func Decode(b []byte) (*Operation, error) {
	d := decoder{strict.Reader{B: b}}
	if d.Byte() != format {
		return nil, ErrMalformed
	}
	o := &Operation{ID: d.Uvarint(), Kind: Kind(d.Byte())}
	for _, to := range []*string{&o.Region, &o.To, &o.By} {
		*to = string(d.Bytes(64))
	}
	flags := d.Flags(31)
	o.Forced, o.Aborted, o.Ended = flags&1 != 0, flags&2 != 0, flags&4 != 0
	o.Stage = d.Byte()
	for _, to := range []*uint64{&o.Began, &o.Since, &o.Closed} {
		*to = d.Uvarint()
	}
	o.Missing, o.Had = d.missing(), d.missing()
	if flags&8 != 0 {
		o.Lost = d.missing()
		d.Bad = d.Bad || !o.Lost.Counted
	}
	if flags&16 != 0 {
		o.Missing.Buckets = d.buckets()
	}
	if d.Bad || len(d.B) > 0 || int(o.Stage) >= len(Stages(o.Kind)) {
		return nil, ErrMalformed
	}
	return o, nil
}

func (d *decoder) missing() (m Missing) {
	counted := d.Byte()
	m.Counted, m.Writes, m.HeardMs = counted == 1, d.Uvarint(), d.Uvarint()
	n := d.Uvarint()
	d.Bad = d.Bad || counted > 1 || n > MaxSpans || n > uint64(len(d.B)/4)
	for i := uint64(0); i < n && !d.Bad; i++ {
		p, actor := d.Uvarint(), d.Uvarint()
		s := Span{Partition: uint32(p), Dots: crdt.Dots{Actor: crdt.Actor(actor), Span: crdt.Span{Lo: d.Uvarint(), Hi: d.Uvarint()}}}
		d.Bad = d.Bad || p > 1<<32-1 || actor > 1<<32-1 || s.Dots.Lo == 0 || s.Dots.Lo > s.Dots.Hi
		m.Spans = append(m.Spans, s)
	}
	return m
}

func (d *decoder) buckets() (out []BucketWrites) {
	n := d.Uvarint()
	d.Bad = d.Bad || n == 0 || n > MaxBuckets
	for i := uint64(0); i < n && !d.Bad; i++ {
		b := BucketWrites{Bucket: string(d.Bytes(maxBucketName)), Writes: d.Uvarint()}
		d.Bad = d.Bad || b.Bucket == "" || b.Writes == 0 || i > 0 && out[i-1].Bucket >= b.Bucket
		out = append(out, b)
	}
	return out
}

type decoder struct{ strict.Reader }
