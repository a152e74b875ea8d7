package regionmap

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"slices"

	"github.com/atolldb/atoll/internal/strict"
)

// The encodings. A map, whose equal contents have equal bytes:
//
//	uvarint   n
//	1 byte    flags: 1 forced, 2 some region has a contact, 4 there is a lease
//	1 byte    the region of the change
//	uvarint   number of regions, then each:
//	  bytes     name
//	  1 byte    number
//	  1 byte    state
//	  uvarint   fence
//	  with flag 2: uvarint number of URLs, and they; uvarint number of nodes, and
//	            of each its id, rack, client and peer address (bytes)
//	uvarint   number of homes, then each:
//	  bytes     bucket
//	  bytes     region
//	  uvarint   epoch
//	bytes     operation
//	uvarint   milliseconds of the lease, and
//	uvarint   whom it binds, if there is one
//
// What is known: 1 byte flags (1 there is a map, 2 contested), and the map.
// A register: promised and accepted ballot (uvarint round, 1 byte region, uvarint
// nonce), 1 byte whether something is accepted, that map, and what is decided.
//
// Known and registers are told and stored in a frame: 1 byte format, 1; the body; 4
// bytes CRC-32C of all before, little endian. Bytes are a uvarint and that many
// bytes; all uvarints are minimal.

const format = 1

// ErrMalformed says that bytes are nothing of this format.
var ErrMalformed = errors.New("malformed map of regions")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// AppendMap appends the encoding of m.
func AppendMap(dst []byte, m *Map) []byte {
	dst = binary.AppendUvarint(dst, m.N)
	contacts := slices.ContainsFunc(m.Regions, func(r Region) bool { return !r.Contact.Empty() })
	dst = append(dst, flag(m.Forced, 1)|flag(contacts, 2)|flag(m.Lease.Ms > 0, 4), m.By)
	dst = binary.AppendUvarint(dst, uint64(len(m.Regions)))
	for _, r := range m.Regions {
		dst = appendString(dst, r.Name)
		dst = append(dst, r.ID, byte(r.State))
		dst = binary.AppendUvarint(dst, r.Fence)
		if contacts {
			dst = r.Contact.append(dst)
		}
	}
	dst = binary.AppendUvarint(dst, uint64(len(m.Homes)))
	for _, h := range m.Homes {
		dst = appendString(appendString(dst, h.Bucket), h.Region)
		dst = binary.AppendUvarint(dst, h.Epoch)
	}
	dst = append(binary.AppendUvarint(dst, uint64(len(m.Operation))), m.Operation...)
	if m.Lease.Ms > 0 {
		dst = binary.AppendUvarint(binary.AppendUvarint(dst, m.Lease.Ms), m.Lease.Among)
	}
	return dst
}

func flag(set bool, bit byte) byte {
	if set {
		return bit
	}
	return 0
}

func appendString(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

func appendKnown(dst []byte, k Known) []byte {
	dst = append(dst, flag(k.Map != nil, 1)|flag(k.Contested, 2))
	if k.Map != nil {
		dst = AppendMap(dst, k.Map)
	}
	return dst
}

func appendBallot(dst []byte, b Ballot) []byte {
	dst = append(binary.AppendUvarint(dst, b.Round), b.By)
	return binary.AppendUvarint(dst, uint64(b.Nonce))
}

func seal(b []byte) []byte {
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// EncodeKnown returns k in its frame.
func EncodeKnown(k Known) []byte { return seal(appendKnown([]byte{format}, k)) }

// DecodeKnown decodes what EncodeKnown returned, or returns ErrMalformed. A map in
// it breaks no rule.
func DecodeKnown(b []byte) (Known, error) {
	d := open(b)
	k := d.known()
	return k, d.end()
}

// EncodeRegister returns r in its frame.
func EncodeRegister(r Register) []byte {
	b := appendBallot(appendBallot([]byte{format}, r.Promised), r.At)
	b = append(b, flag(r.Accepted != nil, 1))
	if r.Accepted != nil {
		b = AppendMap(b, r.Accepted)
	}
	return seal(appendKnown(b, r.Decided))
}

// DecodeRegister decodes what EncodeRegister returned, or returns ErrMalformed.
func DecodeRegister(b []byte) (Register, error) {
	d := open(b)
	r := Register{Promised: d.ballot(), At: d.ballot()}
	if d.Flags(1) == 1 {
		r.Accepted = d.theMap()
	} else if r.At != (Ballot{}) {
		d.Bad = true
	}
	r.Decided = d.known()
	return r, d.end()
}

type decoder struct{ strict.Reader }

func open(b []byte) *decoder {
	n := len(b) - 4
	if n < 1 || b[0] != format || crc32.Checksum(b[:n], castagnoli) != binary.LittleEndian.Uint32(b[n:]) {
		return &decoder{strict.Reader{Bad: true}}
	}
	return &decoder{strict.Reader{B: b[1:n]}}
}

func (d *decoder) end() error {
	if !d.Whole() {
		return ErrMalformed
	}
	return nil
}

func (d *decoder) ballot() Ballot {
	b := Ballot{Round: d.Uvarint(), By: d.Byte()}
	nonce := d.Uvarint()
	d.Bad = d.Bad || nonce > 1<<32-1
	b.Nonce = uint32(nonce)
	return b
}

func (d *decoder) known() Known {
	f := d.Flags(3)
	k := Known{Contested: f&2 != 0}
	if f&1 != 0 {
		k.Map = d.theMap()
	} else if k.Contested {
		d.Bad = true
	}
	return k
}

func (d *decoder) theMap() *Map {
	m := &Map{Version: Version{N: d.Uvarint()}}
	flags := d.Flags(7)
	m.Forced, m.By = flags&1 != 0, d.Byte()
	contacts := false
	for range d.Count(MaxRegions, 4) {
		r := Region{Name: string(d.Bytes(MaxName)), ID: d.Byte(), State: State(d.Byte()), Fence: d.Uvarint()}
		if flags&2 != 0 {
			r.Contact = d.contact()
			contacts = contacts || !r.Contact.Empty()
		}
		m.Regions = append(m.Regions, r)
	}
	d.Bad = d.Bad || flags&2 != 0 && !contacts
	for range d.Count(MaxHomes, 3) {
		m.Homes = append(m.Homes, Home{Bucket: string(d.Bytes(MaxBucket)), Region: string(d.Bytes(MaxName)), Epoch: d.Uvarint()})
	}
	if op := d.Bytes(MaxOperation); len(op) > 0 {
		m.Operation = append([]byte(nil), op...)
	}
	if flags&4 != 0 {
		m.Lease = Lease{Ms: d.Uvarint(), Among: d.Uvarint()}
		d.Bad = d.Bad || m.Lease.Ms == 0
	}
	if !d.Bad && m.Check() != nil {
		d.Bad = true
	}
	return m
}
