package crdt

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"strings"

	"github.com/atolldb/atoll/crdt/hlc"
)

// RequestID names a write of a client in all its attempts. Zero is none. An id
// that is a UUID of version 7 (RFC 9562) says when it was made; by that the
// owners know whether they would still remember it.
type RequestID [16]byte

// EventID says which request an event carried out.
type EventID struct {
	Dot Dot
	ID  RequestID
}

// MakeRequestID returns the UUID of version 7 of a time, in milliseconds since
// 1970, and ten bytes of chance.
func MakeRequestID(ms int64, chance [10]byte) RequestID {
	var id RequestID
	binary.BigEndian.PutUint64(id[:], uint64(ms)<<16)
	copy(id[6:], chance[:])
	id[6] = id[6]&0x0f | 0x70
	id[8] = id[8]&0x3f | 0x80
	return id
}

// MadeAt returns when id was made by its maker's clock, in milliseconds since
// 1970, if it says so.
func (id RequestID) MadeAt() (ms int64, ok bool) {
	if id[6]>>4 != 7 || id[8]>>6 != 2 {
		return 0, false
	}
	return int64(binary.BigEndian.Uint64(id[:]) >> 16), true
}

// IsZero reports whether id is none.
func (id RequestID) IsZero() bool { return id == RequestID{} }

// String gives an id as UUIDs are written.
func (id RequestID) String() string {
	s := hex.EncodeToString(id[:])
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}

// ErrRequestID says that a text is no request id.
var ErrRequestID = errors.New("not a request id: 32 hexadecimal digits, as a UUID has them, not all zero")

// ParseRequestID takes what String gives, with or without the dashes.
func ParseRequestID(s string) (RequestID, error) {
	b, err := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
	if err != nil || len(b) != 16 || RequestID(b).IsZero() {
		return RequestID{}, ErrRequestID
	}
	return RequestID(b), nil
}

// Again returns the context of an answer to a write that had been carried out
// before, as d, with what is stored of the key by now.
//
// If that still has the version, its own past tells what its writer had seen, and
// what its minter had came along with it. If not, somebody has replaced it, and the
// context is c, what the request came with: what else d had replaced, as an
// overwrite or a conditional write does, nobody can tell any more, and a context
// that had d without that would not be closed: owners that get one first and the
// other later would differ from those that get them the other way round. What the
// writer does next stands beside what replaced d, which he has not seen.
func (c Context) Again(now Record, d Dot, stamp hlc.Stamp) Context {
	is := now.Find(d)
	if is == nil {
		return Context{Seen: c.Seen, Stamp: max(stamp, c.Stamp)}
	}
	return Context{Seen: is.Past}.After(now, is)
}
