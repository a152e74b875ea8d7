package crdt

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cespare/xxhash/v2"

	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/internal/strict"
)

// The encoding of a context, as clients hold it:
//
//	1 byte    format, 3
//	8 bytes   hash of the full key (bucket, NUL, key: XXH64), big-endian
//	8 bytes   highest stamp, big-endian
//	uvarint   number of entries, then ascending by actor:
//	  uvarint   difference to the actor before (the first: to 0)
//	  uvarint   counter
//	  uvarint   number of holes, then the holes as in a record
//	16 bytes  Tag for "context", over the full key and all of the above
//
// It is opaque to clients, and at most 8 KiB. A context that was made up or
// taken from another key would silently cover writes that its bearer never
// saw: hence the authentication, which binds it to the key itself, since keys
// of equal hashes are easily found. The hash is there to tell the one mistake
// from the other.

const (
	contextFormat  = 3
	contextPurpose = "context"
	// MaxContext bounds an encoded context in bytes.
	MaxContext = 8 << 10
)

var (
	// ErrBadContext says that bytes are not a context of this deployment.
	ErrBadContext = errors.New("not a context of this deployment")
	// ErrForeignContext says that a context belongs to another key.
	ErrForeignContext = errors.New("context belongs to another key")
)

// AppendContext appends the encoding of c for the full key (bucket and key). It
// may come out longer than MaxContext, and then nobody takes it back.
func AppendContext(dst []byte, keys Keys, fullKey []byte, c Context) []byte {
	start := len(dst)
	dst = append(dst, contextFormat)
	dst = binary.BigEndian.AppendUint64(dst, xxhash.Sum64(fullKey))
	dst = binary.BigEndian.AppendUint64(dst, uint64(c.Stamp))
	dst = binary.AppendUvarint(dst, uint64(len(c.Seen)))
	var last Actor
	for _, e := range c.Seen {
		dst = binary.AppendUvarint(dst, uint64(e.Actor-last))
		dst = binary.AppendUvarint(dst, e.N)
		dst = appendHoles(dst, e.Holes)
		last = e.Actor
	}
	tag := keys.Sign(contextPurpose, fullKey, dst[start:])
	return append(dst, tag[:]...)
}

// DecodeContext decodes what a client gives back with a write to this full
// key. Empty bytes are the context of someone who has seen nothing.
func DecodeContext(keys Keys, fullKey, b []byte) (Context, error) {
	if len(b) == 0 {
		return Context{}, nil
	}
	if len(b) > MaxContext {
		return Context{}, fmt.Errorf("%w: %d bytes, at most %d", ErrBadContext, len(b), MaxContext)
	}
	if len(b) < 18+TagSize || b[0] != contextFormat {
		return Context{}, fmt.Errorf("%w: malformed", ErrBadContext)
	}
	body, tag := b[:len(b)-TagSize], b[len(b)-TagSize:]
	d := decoder{strict.Reader{B: body[1:]}}
	if d.Uint64() != xxhash.Sum64(fullKey) {
		return Context{}, ErrForeignContext
	}
	if !keys.Verify(tag, contextPurpose, fullKey, body) {
		return Context{}, fmt.Errorf("%w: not authentic", ErrBadContext)
	}
	c := Context{Stamp: hlc.Stamp(d.Uint64())}
	if n := d.count(3); n > 0 {
		c.Seen = make(VV, n)
		var last uint64
		for i := range c.Seen {
			last += d.Uvarint()
			if last > 1<<32-1 {
				d.Bad = true
				break
			}
			c.Seen[i] = Entry{Actor: Actor(last), N: d.Uvarint(), Holes: d.holes()}
		}
	}
	if d.Bad || len(d.B) != 0 || !c.Seen.valid() {
		return Context{}, fmt.Errorf("%w: malformed", ErrBadContext)
	}
	return c, nil
}
