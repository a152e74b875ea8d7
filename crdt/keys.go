package crdt

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
)

// Secret authenticates what clients hold. It is the same in all regions.
type Secret []byte

// Keys are the secrets of a deployment that hold now: the first one signs, all
// of them verify. There is more than one only while the secret is replaced, so
// that what was signed with the old one, or by a node that signs with the new
// one already, holds everywhere. Keys are values; nobody changes them.
//
// No keys sign nothing that verifies: whoever has none accepts nothing.
type Keys []Secret

// TagSize of a Tag, in bytes.
const TagSize = 16

// Tag authenticates bytes: HMAC-SHA-256, cut to 16 bytes. It is taken over the
// purpose and all parts, each behind its length (uvarint): what was signed for
// one purpose holds for no other, and parts cannot be shifted.
type Tag [TagSize]byte

// Sign returns the tag of parts for a purpose, by the first key.
func (k Keys) Sign(purpose string, parts ...[]byte) Tag {
	if len(k) == 0 {
		return Tag{}
	}
	return k[0].sign(purpose, parts)
}

// Verify reports whether one of the keys made tag, for this purpose and these
// parts.
func (k Keys) Verify(tag []byte, purpose string, parts ...[]byte) bool {
	for _, s := range k {
		if want := s.sign(purpose, parts); hmac.Equal(tag, want[:]) {
			return true
		}
	}
	return false
}

func (s Secret) sign(purpose string, parts [][]byte) (t Tag) {
	m := hmac.New(sha256.New, s)
	var n [binary.MaxVarintLen64]byte
	length := func(l int) { m.Write(n[:binary.PutUvarint(n[:], uint64(l))]) }
	length(len(purpose))
	m.Write([]byte(purpose))
	for _, p := range parts {
		length(len(p))
		m.Write(p)
	}
	var sum [sha256.Size]byte
	copy(t[:], m.Sum(sum[:0]))
	return t
}
