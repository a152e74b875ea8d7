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

// A heartbeat is what a region announces: that it lives, and which dots one of
// its nodes has, per partition. Those of its own region's actors say what there
// is to be had from it; those of the receiver's say what has arrived. On the wire:
//
//	1 byte    format, 3
//	1 byte    0: the body follows, 1: its s2 block
//	          body
//	4 bytes   CRC-32C, little endian, of all bytes before it
//
// The body, numbers as unsigned varints in their shortest form:
//
//	length of region, region   (1..63 bytes)
//	region id                  (1..63), in the low bits of the region's actors
//	length of node, node       (1..63 bytes)
//	session, seq               one run of the announcer, and its messages from 1
//	base                       seq of the first message of its last full round
//	more                       1: more of what was known at that time follows, else 0
//	time                       milliseconds since 1970, by the sender, before it
//	                           looked at its clocks
//	entry bytes                average of the sender's entries, 0: unknown
//	number of partitions, then each, ascending: partition, length, clock
//
// A clock is in crdt's encoding. It has the dots that are new since the last
// heartbeat, and in a full round all. Nothing may follow.
const (
	heartbeatFormat = 3
	heartbeatFrame  = 2 + 4

	// maxHeartbeat bounds a message, packed or not: it shares a connection
	// with batches and with pings.
	maxHeartbeat = 512 << 10
	// heartbeatFill is the body size at which an announcer begins another
	// message. One clock above the rest of the bound is left out: repair
	// compares clocks anyway.
	heartbeatFill = 256 << 10
	maxName       = 63
	maxRegionID   = 63
)

type heartbeat struct {
	region, node string
	regionID     uint8
	session, seq uint64
	base         uint64
	more         bool
	millis       uint64
	entryBytes   uint64
	clocks       []partitionClock
}

type partitionClock struct {
	partition hashring.Partition
	clock     *crdt.Clock
}

// ofRegion returns the part of a clock that names actors of a region.
func ofRegion(c *crdt.Clock, id uint8) *crdt.Clock {
	out := new(crdt.Clock)
	for _, d := range c.All() {
		if d.Actor.Region() == id {
			out.AddSpan(d)
		}
	}
	return out
}

// Heartbeat is one that another region's node announced.
type Heartbeat struct{ heartbeat }

// DecodeHeartbeat of what a Feed's Announced got.
func DecodeHeartbeat(data []byte) (*Heartbeat, error) {
	h, err := decodeHeartbeat(data)
	if err != nil {
		return nil, fmt.Errorf("take heartbeat: %w", err)
	}
	return &Heartbeat{*h}, nil
}

// Region that it is from.
func (h *Heartbeat) Region() string { return h.region }

// Node of the region that it is from.
func (h *Heartbeat) Node() string { return h.node }

var errHeartbeat = errors.New("heartbeat does not decode")

// encodeHeartbeat returns h as a message. Clocks of h whose partitions do not
// ascend do not decode again.
func encodeHeartbeat(h *heartbeat) []byte {
	msg := appendHeartbeat([]byte{heartbeatFormat, 0}, h)
	body := msg[2:]
	if block := s2.Encode(nil, body); len(block) < len(body) {
		msg = append([]byte{heartbeatFormat, 1}, block...)
	}
	return binary.LittleEndian.AppendUint32(msg, crc32.Checksum(msg, castagnoli))
}

// appendHeartbeat appends the body of h.
func appendHeartbeat(to []byte, h *heartbeat) []byte {
	to = appendName(to, h.region)
	to = binary.AppendUvarint(to, uint64(h.regionID))
	to = appendName(to, h.node)
	more := uint64(0)
	if h.more {
		more = 1
	}
	for _, v := range []uint64{h.session, h.seq, h.base, more, h.millis, h.entryBytes, uint64(len(h.clocks))} {
		to = binary.AppendUvarint(to, v)
	}
	var clock []byte
	for _, c := range h.clocks {
		to = binary.AppendUvarint(to, uint64(c.partition))
		clock = crdt.AppendClock(clock[:0], c.clock)
		to = binary.AppendUvarint(to, uint64(len(clock)))
		to = append(to, clock...)
	}
	return to
}

func appendName(to []byte, name string) []byte {
	return append(binary.AppendUvarint(to, uint64(len(name))), name...)
}

func decodeHeartbeat(msg []byte) (*heartbeat, error) {
	if len(msg) < heartbeatFrame || len(msg) > maxHeartbeat || msg[0] != heartbeatFormat || msg[1] > 1 {
		return nil, fmt.Errorf("%w: frame", errHeartbeat)
	}
	framed := msg[:len(msg)-4]
	if crc32.Checksum(framed, castagnoli) != binary.LittleEndian.Uint32(msg[len(msg)-4:]) {
		return nil, fmt.Errorf("%w: checksum differs", errHeartbeat)
	}
	body := framed[2:]
	if msg[1] == 1 {
		n, err := s2.DecodedLen(body)
		if err != nil || n > maxHeartbeat {
			return nil, fmt.Errorf("%w: block out of bounds", errHeartbeat)
		}
		if body, err = s2.Decode(nil, body); err != nil {
			return nil, fmt.Errorf("%w: %w", errHeartbeat, err)
		}
	}
	h, err := decodeHeartbeatBody(body)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errHeartbeat, err)
	}
	return h, nil
}

func decodeHeartbeatBody(body []byte) (*heartbeat, error) {
	r := reader{rest: body}
	h := &heartbeat{region: string(r.bytes(1, maxName))}
	h.regionID = uint8(r.uvarint(maxRegionID))
	if r.err == nil && h.regionID == 0 {
		return nil, errors.New("region has no id")
	}
	h.node = string(r.bytes(1, maxName))
	for _, to := range []*uint64{&h.session, &h.seq, &h.base} {
		*to = r.uvarint(1<<64 - 1)
	}
	h.more = r.uvarint(1) == 1
	for _, to := range []*uint64{&h.millis, &h.entryBytes} {
		*to = r.uvarint(1<<64 - 1)
	}
	last := -1
	for range r.count(1<<16, 4) {
		p := int(r.uvarint(1<<16 - 1))
		data := r.bytes(1, maxHeartbeat)
		if r.err != nil {
			return nil, r.err
		}
		if p <= last {
			return nil, errors.New("partitions do not ascend")
		}
		last = p
		clock, rest, err := crdt.DecodeClock(data)
		if err != nil {
			return nil, err
		}
		if len(rest) > 0 {
			return nil, errors.New("bytes after a clock")
		}
		h.clocks = append(h.clocks, partitionClock{hashring.Partition(p), clock})
	}
	if r.err == nil && len(r.rest) > 0 {
		r.err = errors.New("bytes after the last clock")
	}
	return h, r.err
}
