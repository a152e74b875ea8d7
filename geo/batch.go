package geo

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/klauspost/compress/s2"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
)

// Data of a batch, all numbers unsigned varints in their shortest form:
//
//	1 byte    format, 1
//	          body, or its s2 block when Header.Codec is "s2"
//	4 bytes   CRC-32C, little endian, of all bytes before it
//
// The body is the number of entries, then each entry:
//
//	partition
//	length of key,    key     (1..MaxKey bytes)
//	length of record, record  (0..MaxBody bytes; without one there are dots)
//	twice the number of dots, plus one if ids follow them
//	each dot: actor (not 0), counter (not 0)
//	if so, number of ids, then each: dot, 16 bytes
//	without a record, its size: that of a claim, or 0 for dots alone, without ids
//
// Nothing may follow the last entry. The decoder accepts exactly what the
// encoder writes, so that equal entries have equal bodies.
const (
	batchFormat = 1
	batchFrame  = 1 + 4

	// CodecNone and CodecS2 are the values of Header.Codec.
	CodecNone = "none"
	CodecS2   = "s2"

	// MaxBody bounds a body in bytes, before and after decompression. An
	// entry above it does not travel by the log: the clocks show its dots as
	// missing, and repair fetches it.
	MaxBody = 16<<20 - 64<<10
	// MaxMessage is what a log must be able to take in one message: a body,
	// its frame, and the header.
	MaxMessage = 16 << 20
	// MaxKey bounds a full key in bytes.
	MaxKey = 4 << 10
	// maxEntries bounds the entries of a body; it keeps a hostile count from
	// reserving memory.
	maxEntries = 1 << 16

	// minEntry is the least an entry takes in a body: partition, two lengths,
	// a byte of key, a byte of record, no dots.
	minEntry = 6
)

// sampleSize is how many bytes are compressed on trial, and a body is
// compressed when the sample shrinks below sampleGood of its size: below that
// the bytes saved are not worth the cycles at both ends.
const (
	sampleSize = 4 << 10
	sampleGood = 0.9
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// EncodeBatch returns entries as Data and its codec. It returns an error that
// wraps ErrTooLarge when they do not fit into one body.
func EncodeBatch(entries []Entry) (data []byte, codec string, err error) {
	if len(entries) == 0 || len(entries) > maxEntries {
		return nil, "", fmt.Errorf("encode %d entries: a batch has 1 to %d", len(entries), maxEntries)
	}
	size := batchFrame + binary.MaxVarintLen64
	for _, e := range entries {
		size += entrySize(e)
	}
	data = make([]byte, 0, size)
	data = append(data, batchFormat)
	data = binary.AppendUvarint(data, uint64(len(entries)))
	for _, e := range entries {
		if len(e.Key) == 0 || len(e.Key) > MaxKey {
			return nil, "", fmt.Errorf("encode entry: key of %d bytes, a key has 1 to %d", len(e.Key), MaxKey)
		}
		if !e.whole() {
			return nil, "", errors.New("encode entry: neither a record nor dots alone")
		}
		data = appendEntry(data, e)
	}
	body := data[1:]
	if len(body) > MaxBody {
		return nil, "", fmt.Errorf("encode body of %d bytes: %w", len(body), ErrTooLarge)
	}
	codec = CodecNone
	if shrinks(body) {
		packed := make([]byte, 1+s2.MaxEncodedLen(len(body))+4)
		packed[0] = batchFormat
		block := s2.Encode(packed[1:], body)
		if len(block) < len(body) {
			data, codec = packed[:1+len(block)], CodecS2
		}
	}
	return binary.LittleEndian.AppendUint32(data, crc32.Checksum(data, castagnoli)), codec, nil
}

// DecodeBatch returns the entries of data. Their slices may alias data. Every
// error wraps ErrPoison.
func DecodeBatch(data []byte, codec string) ([]Entry, error) {
	entries, err := decodeBatch(data, codec)
	if err != nil {
		return nil, fmt.Errorf("decode batch of %d bytes: %w: %w", len(data), ErrPoison, err)
	}
	return entries, nil
}

func decodeBatch(data []byte, codec string) ([]Entry, error) {
	if len(data) < batchFrame || len(data) > MaxMessage {
		return nil, errors.New("length out of bounds")
	}
	if data[0] != batchFormat {
		return nil, fmt.Errorf("format %d is unknown", data[0])
	}
	framed, sum := data[:len(data)-4], binary.LittleEndian.Uint32(data[len(data)-4:])
	if crc32.Checksum(framed, castagnoli) != sum {
		return nil, errors.New("checksum differs")
	}
	body := framed[1:]
	switch codec {
	case CodecNone:
	case CodecS2:
		n, err := s2.DecodedLen(body)
		if err != nil {
			return nil, err
		}
		if n > MaxBody {
			return nil, fmt.Errorf("body of %d bytes is above the bound", n)
		}
		if body, err = s2.Decode(nil, body); err != nil {
			return nil, err
		}
	default:
		return nil, errors.New("codec is unknown")
	}
	return decodeBody(body)
}

func decodeBody(body []byte) ([]Entry, error) {
	if len(body) > MaxBody {
		return nil, errors.New("body is above the bound")
	}
	r := reader{rest: body}
	count := r.count(maxEntries, minEntry)
	if r.err == nil && count == 0 {
		return nil, errors.New("no entries")
	}
	entries := make([]Entry, 0, count)
	for range count {
		e := Entry{
			Partition: hashring.Partition(r.uvarint(1<<16 - 1)),
			Key:       r.bytes(1, MaxKey),
			Record:    r.bytes(0, MaxBody),
		}
		r.events(&e)
		if len(e.Record) == 0 {
			e.Size = int(r.uvarint(MaxBody))
		}
		if r.err == nil && !e.whole() {
			r.err = errors.New("neither a record nor dots alone")
		}
		if r.err != nil {
			return nil, r.err
		}
		entries = append(entries, e)
	}
	if r.err == nil && len(r.rest) > 0 {
		r.err = errors.New("bytes after the last entry")
	}
	return entries, r.err
}

func appendEntry(to []byte, e Entry) []byte {
	to = binary.AppendUvarint(to, uint64(e.Partition))
	to = binary.AppendUvarint(to, uint64(len(e.Key)))
	to = append(to, e.Key...)
	to = binary.AppendUvarint(to, uint64(len(e.Record)))
	to = append(to, e.Record...)
	n := uint64(len(e.Dots)) << 1
	if len(e.IDs) > 0 {
		n |= 1
	}
	to = binary.AppendUvarint(to, n)
	dot := func(d crdt.Dot) {
		to = binary.AppendUvarint(to, uint64(d.Actor))
		to = binary.AppendUvarint(to, d.N)
	}
	for _, d := range e.Dots {
		dot(d)
	}
	if len(e.IDs) > 0 {
		to = binary.AppendUvarint(to, uint64(len(e.IDs)))
	}
	for _, id := range e.IDs {
		dot(id.Dot)
		to = append(to, id.ID[:]...)
	}
	if len(e.Record) == 0 {
		to = binary.AppendUvarint(to, uint64(e.Size))
	}
	return to
}

// whole reports whether e is a record, a claim of one, or dots alone.
func (e *Entry) whole() bool {
	return len(e.Record) > 0 || len(e.Dots) > 0 && (e.Size > 0 || len(e.IDs) == 0)
}

// entrySize bounds the bytes of e in a body from above.
func entrySize(e Entry) int {
	return len(e.Key) + len(e.Record) + 26 + 15*len(e.Dots) + 31*len(e.IDs)
}

// sizeOf is entrySize for all of them.
func sizeOf(entries []Entry) (bytes int) {
	for _, e := range entries {
		bytes += entrySize(e)
	}
	return bytes
}

// shrinks tells from a sample of the middle of body whether s2 helps.
func shrinks(body []byte) bool {
	sample := body
	if len(body) > sampleSize {
		at := (len(body) - sampleSize) / 2
		sample = body[at : at+sampleSize]
	}
	return float64(len(s2.Encode(nil, sample))) < sampleGood*float64(len(sample))
}

// reader takes a body apart; after the first error it returns zeros.
type reader struct {
	rest []byte
	err  error
}

func (r *reader) uvarint(max uint64) uint64 {
	if r.err != nil {
		return 0
	}
	v, n := binary.Uvarint(r.rest)
	switch {
	case n <= 0:
		r.err = errors.New("number is cut short or overflows")
	case n > 1 && r.rest[n-1] == 0:
		r.err = errors.New("number is not in its shortest form")
	case v > max:
		r.err = fmt.Errorf("number %d is above %d", v, max)
	default:
		r.rest = r.rest[n:]
		return v
	}
	return 0
}

// count reads the number of items that take at least size bytes each.
func (r *reader) count(max, size int) int {
	n := int(r.uvarint(uint64(max)))
	if r.err == nil && n > len(r.rest)/size {
		r.err = errors.New("more items told than bytes left")
		return 0
	}
	return n
}

func (r *reader) dot() crdt.Dot {
	d := crdt.Dot{Actor: crdt.Actor(r.uvarint(1<<32 - 1)), N: r.uvarint(1<<64 - 1)}
	if r.err == nil && (d.Actor == 0 || d.N == 0) {
		r.err = errors.New("dot of no actor or with counter 0")
	}
	return d
}

// events reads dots and ids.
func (r *reader) events(e *Entry) {
	n := int(r.uvarint(2*MaxBody + 1))
	dots := n / 2
	if r.err == nil && dots > len(r.rest)/2 {
		r.err = errors.New("more dots told than bytes left")
	}
	if r.err == nil && dots > 0 {
		e.Dots = make([]crdt.Dot, 0, dots)
		for range dots {
			e.Dots = append(e.Dots, r.dot())
		}
	}
	if n%2 == 0 || r.err != nil {
		return
	}
	ids := r.count(MaxBody, 2+16)
	if r.err == nil && ids == 0 {
		r.err = errors.New("ids told and none there")
	}
	for range ids {
		id := crdt.EventID{Dot: r.dot()}
		if r.err == nil && len(r.rest) < len(id.ID) {
			r.err = errors.New("id is cut short")
		}
		if r.err != nil {
			return
		}
		r.rest = r.rest[copy(id.ID[:], r.rest):]
		e.IDs = append(e.IDs, id)
	}
}

func (r *reader) bytes(min, max int) []byte {
	n := int(r.uvarint(uint64(max)))
	switch {
	case r.err != nil:
		return nil
	case n < min:
		r.err = errors.New("empty field")
		return nil
	case n > len(r.rest):
		r.err = errors.New("field is cut short")
		return nil
	}
	b := r.rest[:n:n]
	r.rest = r.rest[n:]
	return b
}
