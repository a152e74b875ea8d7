package badgerstore

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/atolldb/atoll/node/storage"
)

// Every entry in Badger is sealed:
//
//	kind    1 byte
//	crc     4 bytes, little endian: CRC-32C over kind, Badger's key, payload
//	payload the rest
//
// The key is in the checksum so that a right value in a wrong place is found
// too. Badger's keys are one byte that names a space, then what the space
// says:
//
//	'k' key                                what callers see
//	'c' length of key (2 bytes BE) key i   the i-th piece of a large value
//	'd' key                                directory: how many pieces key has
type kind byte

const (
	kindPlain  kind = 1 // in space k: payload is the value
	kindPieces kind = 2 // in space k: payload describes the pieces
	kindPiece  kind = 3 // in space c
	kindCount  kind = 4 // in space d: payload is the number of pieces, 1 byte

	sealSize = 5

	spaceKey   = 'k'
	spacePiece = 'c'
	spaceDir   = 'd'
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func sum(k kind, key, payload []byte) uint32 {
	c := crc32.Update(0, castagnoli, []byte{byte(k)})
	c = crc32.Update(c, castagnoli, key)
	return crc32.Update(c, castagnoli, payload)
}

func seal(k kind, key, payload []byte) []byte {
	b := make([]byte, sealSize, sealSize+len(payload))
	b[0] = byte(k)
	binary.LittleEndian.PutUint32(b[1:], sum(k, key, payload))
	return append(b, payload...)
}

// unseal returns the payload, a part of sealed, or an error that wraps
// storage.ErrCorrupt.
func unseal(key, sealed []byte) (kind, []byte, error) {
	if len(sealed) < sealSize {
		return 0, nil, corrupt(key, "entry is cut short")
	}
	k, payload := kind(sealed[0]), sealed[sealSize:]
	if sum(k, key, payload) != binary.LittleEndian.Uint32(sealed[1:]) {
		return 0, nil, corrupt(key, "checksum differs")
	}
	return k, payload, nil
}

// corrupt names the caller's key whatever the space.
func corrupt(key []byte, reason string) error {
	switch {
	case len(key) > 4 && key[0] == spacePiece:
		key = key[3 : len(key)-1]
	case len(key) > 0:
		key = key[1:]
	}
	return &storage.CorruptError{Key: append([]byte(nil), key...), Reason: reason}
}

func inSpace(space byte, key []byte) []byte {
	return append(append(make([]byte, 0, 1+len(key)), space), key...)
}

func pieceKey(key []byte, i int) []byte {
	b := make([]byte, 0, 4+len(key))
	b = append(b, spacePiece, byte(len(key)>>8), byte(len(key)))
	return append(append(b, key...), byte(i))
}
