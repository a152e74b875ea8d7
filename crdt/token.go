package crdt

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/atolldb/atoll/crdt/hlc"
)

// The encoding of a context, as clients hold it:
//
//	1 byte    format, 1
//	8 bytes   key hash, big-endian
//	8 bytes   highest stamp, big-endian
//	uvarint   number of entries, then ascending by actor:
//	  uvarint   difference to the actor before (the first: to 0)
//	  uvarint   counter
//	  uvarint   number of holes, then ascending the difference of each to the
//	            one before (the first: to 0), as uvarints
//	16 bytes  HMAC-SHA-256 over all of the above, cut to 16 bytes
//
// It is opaque to clients, and at most 8 KiB. A context that was made up or
// taken from another key would silently cover writes that its bearer never
// saw: hence the hash and the authentication.

const (
	contextFormat = 1
	contextMAC    = 16
	// MaxContext bounds an encoded context in bytes.
	MaxContext = 8 << 10
)

var (
	// ErrBadContext says that bytes are not a context of this deployment.
	ErrBadContext = errors.New("not a context of this deployment")
	// ErrForeignContext says that a context belongs to another key.
	ErrForeignContext = errors.New("context belongs to another key")
)

// Secret authenticates contexts. It is the same in all regions.
type Secret []byte

// AppendContext appends the encoding of c for the key with this hash.
func AppendContext(dst []byte, secret Secret, keyHash uint64, c Context) []byte {
	start := len(dst)
	dst = append(dst, contextFormat)
	dst = binary.BigEndian.AppendUint64(dst, keyHash)
	dst = binary.BigEndian.AppendUint64(dst, uint64(c.Stamp))
	dst = binary.AppendUvarint(dst, uint64(len(c.Seen)))
	var last Actor
	for _, e := range c.Seen {
		dst = binary.AppendUvarint(dst, uint64(e.Actor-last))
		dst = binary.AppendUvarint(dst, e.N)
		dst = appendHoles(dst, e.Holes)
		last = e.Actor
	}
	return append(dst, sign(secret, dst[start:])...)
}

func sign(secret Secret, b []byte) []byte {
	m := hmac.New(sha256.New, secret)
	m.Write(b)
	return m.Sum(nil)[:contextMAC]
}

// DecodeContext decodes what a client gives back with a write to the key with
// this hash. Empty bytes are the context of someone who has seen nothing.
func DecodeContext(secret Secret, keyHash uint64, b []byte) (Context, error) {
	if len(b) == 0 {
		return Context{}, nil
	}
	if len(b) > MaxContext {
		return Context{}, fmt.Errorf("%w: %d bytes, at most %d", ErrBadContext, len(b), MaxContext)
	}
	if len(b) < 18+contextMAC || b[0] != contextFormat {
		return Context{}, fmt.Errorf("%w: malformed", ErrBadContext)
	}
	body, mac := b[:len(b)-contextMAC], b[len(b)-contextMAC:]
	if !hmac.Equal(mac, sign(secret, body)) {
		return Context{}, fmt.Errorf("%w: not authentic", ErrBadContext)
	}
	d := decoder{b: body[1:]}
	if d.uint64() != keyHash {
		return Context{}, ErrForeignContext
	}
	c := Context{Stamp: hlc.Stamp(d.uint64())}
	if n := d.count(3); n > 0 {
		c.Seen = make(VV, n)
		var last uint64
		for i := range c.Seen {
			last += d.uvarint()
			if last > 1<<32-1 {
				d.bad = true
				break
			}
			c.Seen[i] = Entry{Actor: Actor(last), N: d.uvarint(), Holes: d.holes()}
		}
	}
	if d.bad || len(d.b) != 0 || !c.Seen.valid() {
		return Context{}, fmt.Errorf("%w: malformed", ErrBadContext)
	}
	return c, nil
}
