package wire

import (
	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/home"
)

// RegionApply asks a node of another region to have its own owners join a
// record, and to say how many have it durably. It answers with a RegionReply.
type RegionApply struct {
	Entry Entry
	// Level says how many owners it takes there, and Owners, where it is not 0,
	// how many in its place.
	Level  uint8
	Owners uint32
}

// AppendRegionApply appends the encoding of m.
func AppendRegionApply(dst []byte, m *RegionApply) []byte {
	w := writer{dst}
	w.byte(m.Level)
	w.uvarint(uint64(m.Owners))
	w.entries([]Entry{m.Entry})
	return w.b
}

// DecodeRegionApply decodes a RegionApply.
func DecodeRegionApply(b []byte) (RegionApply, error) {
	r := newReader(b)
	m := RegionApply{Level: r.Byte(), Owners: r.Uint32()}
	es := r.entries()
	if len(es) != 1 {
		r.Bad = true
		return m, r.end()
	}
	m.Entry = es[0]
	return m, r.end()
}

// Share is how many owners of a region took part in what was asked for.
type Share struct {
	// Yes of Owners took part, and Needed it takes. Of a region that moves
	// partitions, two nodes may be one owner.
	Yes, Needed, Owners uint32
	// Code and Detail say why it was less than needed; 0 if it was not.
	Code   uint8
	Detail string
}

func (w *writer) share(s Share) {
	w.uvarint(uint64(s.Yes))
	w.uvarint(uint64(s.Needed))
	w.uvarint(uint64(s.Owners))
	w.byte(s.Code)
	w.string(s.Detail)
}

func (r *reader) share() Share {
	return Share{Yes: r.Uint32(), Needed: r.Uint32(), Owners: r.Uint32(), Code: r.Byte(), Detail: r.string()}
}

// RegionRead asks a node of another region what its owners hold of a key. It
// answers with a RegionReply.
type RegionRead struct {
	// Key is empty where Needs are asked for, and only then.
	Key []byte
	// Level says how many owners it takes there, and Owners, where it is not 0,
	// how many in its place.
	Level  uint8
	Owners uint32
	// Needs, nil for nothing, are dots of Partition that so many owners must have
	// before there is an answer.
	Partition hashring.Partition
	Needs     *crdt.Clock
	// Home, for a read at the level serial, is the epoch of the bucket's home, 0 for
	// any other read; and Session the client's token, which that region goes by.
	Home    home.Epoch
	Session []byte
}

// AppendRegionRead appends the encoding of m.
func AppendRegionRead(dst []byte, m *RegionRead) []byte {
	w := writer{dst}
	w.byte(m.Level)
	w.uvarint(uint64(m.Owners))
	w.bytes(m.Key)
	w.bool(m.Needs != nil)
	if m.Needs != nil {
		w.uvarint(uint64(m.Partition))
		w.clock(m.Needs)
	}
	w.uvarint(uint64(m.Home))
	w.bytes(m.Session)
	return w.b
}

// DecodeRegionRead decodes a RegionRead.
func DecodeRegionRead(b []byte) (RegionRead, error) {
	r := newReader(b)
	m := RegionRead{Level: r.Byte(), Owners: r.Uint32(), Key: r.bytes()}
	if r.bool() {
		m.Partition, m.Needs = r.partition(), r.clock()
	}
	m.Home, m.Session = r.epoch(), r.bytes()
	r.Bad = r.Bad || len(m.Key) == 0 && m.Needs == nil
	return m, r.end()
}

// RegionReply answers a RegionApply and a RegionRead.
type RegionReply struct {
	Share
	// Record is the join of what so many owners hold, in its canonical encoding:
	// empty for an absent key, where the share is less than needed, and where no
	// key was read.
	Record []byte
}

// AppendRegionReply appends the encoding of m.
func AppendRegionReply(dst []byte, m *RegionReply) []byte {
	w := writer{dst}
	w.share(m.Share)
	w.bytes(m.Record)
	return w.b
}

// DecodeRegionReply decodes a RegionReply.
func DecodeRegionReply(b []byte) (RegionReply, error) {
	r := newReader(b)
	m := RegionReply{Share: r.share(), Record: r.bytes()}
	return m, r.end()
}

// HomePut is a client's write on its way to the home region of its bucket, any
// node of which coordinates it. It answers with a Forwarded.
type HomePut struct {
	// Home is the epoch of the home by which the region was chosen.
	Home home.Epoch
	Put  Forward
}

// AppendHomePut appends the encoding of m.
func AppendHomePut(dst []byte, m *HomePut) []byte {
	w := writer{dst}
	w.uvarint(uint64(m.Home))
	return AppendForward(w.b, &m.Put)
}

// DecodeHomePut decodes a HomePut.
func DecodeHomePut(b []byte) (HomePut, error) {
	r := newReader(b)
	m := HomePut{Home: r.epoch()}
	if r.Bad || m.Home == 0 {
		return m, ErrMalformed
	}
	var err error
	m.Put, err = DecodeForward(r.B)
	return m, err
}
