package crdt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"slices"

	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/internal/strict"
)

// The canonical encoding of a record: the same bytes on disk, between nodes
// and between regions; equal records have equal bytes.
//
//	1 byte    format, 1
//	uvarint   number of actors, then the actors ascending: the first as it is,
//	          each other as the difference to the one before (uvarints)
//	uvarint   number of versions, then the versions ascending by dot:
//	  uvarint   index of the dot's actor
//	  uvarint   n
//	  8 bytes   stamp, big-endian
//	  1 byte    flags: 1 dead, 2 has expiry, 4 has meta, 16 has holes in its past
//	  uvarint   expiry in milliseconds, if flagged
//	  uvarint   length of meta, and meta, if flagged
//	  uvarint   number of past entries, then ascending by actor:
//	    uvarint   index of the actor
//	    uvarint   the counter; for the dot's own actor n minus the counter
//	    uvarint   number of holes, if flagged, then ascending each hole:
//	      uvarint   its first counter less the last one of the hole before (the
//	                first: less 0)
//	      uvarint   its last counter less its first
//	  uvarint   length of the value, and the value, unless dead
//	4 bytes   CRC-32C, big-endian, over the key hash (8 bytes, big-endian) and
//	          all of the above
//
// Flag 8 was that of holes of one counter each, and is refused.
//
// All uvarints are minimal, counters at most MaxN. Only actors that occur are
// listed. The checksum binds the record to its key without storing the hash.
//
// One version with one actor takes at most 32 bytes beside key and value while
// the actor is below 2^21, n below 2^35, the last write of the same key less
// than 2^21 writes of the partition ago, and the value shorter than 16 KiB.

const recordFormat = 1

const (
	flagDead   = 1
	flagExpiry = 2
	flagMeta   = 4
	flagHoles  = 16
)

// ErrCorrupt says that bytes are not an encoding that this package wrote for
// this key.
var ErrCorrupt = errors.New("corrupt encoding")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(keyHash uint64, b []byte) uint32 {
	var h [8]byte
	binary.BigEndian.PutUint64(h[:], keyHash)
	return crc32.Update(crc32.Checksum(h[:], castagnoli), castagnoli, b)
}

// AppendRecord appends the encoding of r, bound to its key by keyHash.
func AppendRecord(dst []byte, keyHash uint64, r Record) []byte {
	start := len(dst)
	var few [8]Actor
	actors := r.actors(few[:0])
	dst = append(dst, recordFormat)
	dst = binary.AppendUvarint(dst, uint64(len(actors)))
	var last Actor
	for _, a := range actors {
		dst = binary.AppendUvarint(dst, uint64(a-last))
		last = a
	}
	index := func(a Actor) uint64 {
		i, _ := slices.BinarySearch(actors, a)
		return uint64(i)
	}
	dst = binary.AppendUvarint(dst, uint64(len(r.Versions)))
	for i := range r.Versions {
		v := &r.Versions[i]
		dst = binary.AppendUvarint(dst, index(v.Dot.Actor))
		dst = binary.AppendUvarint(dst, v.Dot.N)
		dst = binary.BigEndian.AppendUint64(dst, uint64(v.Stamp))
		dst = append(dst, v.flags())
		if v.Expiry != 0 {
			dst = binary.AppendUvarint(dst, uint64(v.Expiry))
		}
		if len(v.Meta) > 0 {
			dst = binary.AppendUvarint(dst, uint64(len(v.Meta)))
			dst = append(dst, v.Meta...)
		}
		dst = binary.AppendUvarint(dst, uint64(len(v.Past)))
		holes := v.Past.Ranges() > 0
		for _, e := range v.Past {
			dst = binary.AppendUvarint(dst, index(e.Actor))
			if e.Actor == v.Dot.Actor {
				dst = binary.AppendUvarint(dst, v.Dot.N-e.N)
			} else {
				dst = binary.AppendUvarint(dst, e.N)
			}
			if holes {
				dst = appendHoles(dst, e.Holes)
			}
		}
		if !v.Dead {
			dst = binary.AppendUvarint(dst, uint64(len(v.Value)))
			dst = append(dst, v.Value...)
		}
	}
	return binary.BigEndian.AppendUint32(dst, checksum(keyHash, dst[start:]))
}

func appendHoles(dst []byte, holes []Span) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(holes)))
	var last uint64
	for _, h := range holes {
		dst = binary.AppendUvarint(dst, h.Lo-last)
		dst = binary.AppendUvarint(dst, h.Hi-h.Lo)
		last = h.Hi
	}
	return dst
}

// holes leaves it to valid whether they ascend, do not touch, and end below the
// entry's counter. It checks what valid could not see any more: no sum overflows.
func (d *decoder) holes() []Span {
	n := d.count(2)
	if n == 0 {
		return nil
	}
	holes := make([]Span, n)
	var last uint64
	for i := range holes {
		lo, length := d.Uvarint(), d.Uvarint()
		d.Bad = d.Bad || lo > MaxN || length > MaxN
		holes[i] = Span{last + lo, last + lo + length}
		if last = holes[i].Hi; last > MaxN {
			d.Bad = true
			return nil
		}
	}
	return holes
}

func (v *Version) flags() byte {
	var f byte
	if v.Dead {
		f |= flagDead
	}
	if v.Expiry != 0 {
		f |= flagExpiry
	}
	if len(v.Meta) > 0 {
		f |= flagMeta
	}
	if v.Past.Ranges() > 0 {
		f |= flagHoles
	}
	return f
}

// actors appends the actors that occur in r, ascending and once each.
func (r Record) actors(dst []Actor) []Actor {
	add := func(a Actor) {
		if i, ok := slices.BinarySearch(dst, a); !ok {
			dst = slices.Insert(dst, i, a)
		}
	}
	for i := range r.Versions {
		add(r.Versions[i].Dot.Actor)
		for _, e := range r.Versions[i].Past {
			add(e.Actor)
		}
	}
	return dst
}

// DecodeRecord decodes what AppendRecord wrote for the same key hash. Values
// and metadata alias b. Any other bytes give an error that wraps ErrCorrupt.
func DecodeRecord(keyHash uint64, b []byte) (Record, error) {
	if len(b) < 5 {
		return Record{}, fmt.Errorf("%w: record of %d bytes", ErrCorrupt, len(b))
	}
	body, sum := b[:len(b)-4], binary.BigEndian.Uint32(b[len(b)-4:])
	if checksum(keyHash, body) != sum {
		return Record{}, fmt.Errorf("%w: record checksum", ErrCorrupt)
	}
	d := decoder{strict.Reader{B: body}}
	r := d.record()
	if d.Bad || len(d.B) != 0 {
		return Record{}, fmt.Errorf("%w: record structure", ErrCorrupt)
	}
	return r, nil
}

func (d *decoder) record() Record {
	if d.Byte() != recordFormat {
		d.Bad = true
		return Record{}
	}
	n := d.count(1)
	actors := make([]Actor, n)
	var last uint64
	for i := range actors {
		diff := d.Uvarint()
		last += diff
		if diff == 0 || diff > 1<<32-1 || last > 1<<32-1 {
			d.Bad = true
			return Record{}
		}
		actors[i] = Actor(last)
	}
	used := make([]bool, n)
	actor := func() Actor {
		i := d.Uvarint()
		if i >= uint64(len(actors)) {
			d.Bad = true
			return 0
		}
		used[i] = true
		return actors[i]
	}
	// A version takes at least 12 bytes: index, n, stamp, flags, past count.
	r := Record{Versions: make([]Version, d.count(12))}
	for i := range r.Versions {
		v := &r.Versions[i]
		d.version(v, actor)
		if d.Bad || i > 0 && r.Versions[i-1].Dot.Compare(v.Dot) >= 0 {
			d.Bad = true
			return Record{}
		}
	}
	if slices.Contains(used, false) {
		d.Bad = true
	}
	for i := range r.Versions {
		// No past holds its own version's dot, so any cover is another's.
		d.Bad = d.Bad || coveredBy(r.Versions, r.Versions[i].Dot)
	}
	return r
}

func (d *decoder) version(v *Version, actor func() Actor) {
	v.Dot = Dot{actor(), d.Uvarint()}
	v.Stamp = hlc.Stamp(d.Uint64())
	flags := d.Byte()
	v.Dead = flags&flagDead != 0
	if flags&flagExpiry != 0 {
		v.Expiry = int64(d.Uvarint())
		d.Bad = d.Bad || v.Expiry <= 0
	}
	if flags&flagMeta != 0 {
		v.Meta = d.Bytes(math.MaxInt)
		d.Bad = d.Bad || len(v.Meta) == 0
	}
	if n := d.count(2); n > 0 {
		v.Past = make(VV, n)
		for i := range v.Past {
			e := Entry{Actor: actor(), N: d.Uvarint()}
			if e.Actor == v.Dot.Actor {
				if e.N >= v.Dot.N {
					d.Bad = true
				}
				e.N = v.Dot.N - e.N
				d.Bad = d.Bad || e.N == v.Dot.N
			}
			if flags&flagHoles != 0 {
				e.Holes = d.holes()
			}
			v.Past[i] = e
		}
		d.Bad = d.Bad || !v.Past.valid()
	}
	d.Bad = d.Bad || flags&flagHoles != 0 && v.Past.Ranges() == 0
	if !v.Dead {
		v.Value = d.Bytes(math.MaxInt)
	}
	d.Bad = d.Bad || v.Dot.N == 0 || v.Dot.N > MaxN || flags&^(flagDead|flagExpiry|flagMeta|flagHoles) != 0
}

// decoder reads strictly; values alias what it reads.
type decoder struct{ strict.Reader }

// count reads a number of elements that take at least size bytes each.
func (d *decoder) count(size int) int { return d.Count(math.MaxInt, size) }
