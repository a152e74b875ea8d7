package badgerstore

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/dgraph-io/badger/v4"

	"github.com/atolldb/atoll/node/storage"
)

// A value larger than pieceSize is kept in pieces of pieceSize (the last one
// may be shorter) under keys of their own, written in the same transaction as
// the entry under the caller's key, whose payload then is
//
//	length of the value   4 bytes, little endian
//	CRC-32C of the value  4 bytes, little endian
//
// The second checksum notices pieces of another version of the value. The
// directory entry tells at open which keys have pieces, so that a Put knows,
// without reading the old value, which pieces to delete.

const (
	pieceSize = 512 << 10
	maxPieces = (storage.MaxValue + pieceSize - 1) / pieceSize
)

func pieceCount(length int) int { return (length + pieceSize - 1) / pieceSize }

// description is what stands in the place of a large value.
type description struct {
	length int
	crc    uint32
}

func describe(value []byte) description {
	return description{len(value), crc32.Checksum(value, castagnoli)}
}

func (d description) encode() []byte {
	b := binary.LittleEndian.AppendUint32(nil, uint32(d.length))
	return binary.LittleEndian.AppendUint32(b, d.crc)
}

func decodeDescription(b []byte) (description, bool) {
	if len(b) != 8 {
		return description{}, false
	}
	d := description{int(binary.LittleEndian.Uint32(b)), binary.LittleEndian.Uint32(b[4:])}
	return d, d.length > pieceSize && d.length <= storage.MaxValue
}

// assemble reads the value of key from its pieces.
func assemble(tx *badger.Txn, key, payload []byte) ([]byte, error) {
	ik := inSpace(spaceKey, key)
	d, ok := decodeDescription(payload)
	if !ok {
		return nil, corrupt(ik, "description of pieces is malformed")
	}
	value := make([]byte, 0, d.length)
	for i := range pieceCount(d.length) {
		pk := pieceKey(key, i)
		item, err := tx.Get(pk)
		if err != nil {
			return nil, corrupt(ik, fmt.Sprintf("piece %d cannot be read: %v", i, err))
		}
		err = item.Value(func(sealed []byte) error {
			k, piece, err := unseal(pk, sealed)
			if err != nil {
				return err
			}
			if k != kindPiece || len(piece) != min(pieceSize, d.length-i*pieceSize) {
				return corrupt(ik, fmt.Sprintf("piece %d has the wrong size", i))
			}
			value = append(value, piece...)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	if describe(value) != d {
		return nil, corrupt(ik, "checksum over all pieces differs")
	}
	return value, nil
}

// directory knows how many pieces each key has. It is the writer's.
type directory map[string]int

func loadDirectory(tx *badger.Txn) directory {
	d := make(directory)
	it := tx.NewIterator(badger.IteratorOptions{Prefix: []byte{spaceDir}})
	defer it.Close()
	for it.Rewind(); it.Valid(); it.Next() {
		key := it.Item().Key()
		n := maxPieces // to be safe: a delete of what is not there does no harm
		_ = it.Item().Value(func(sealed []byte) error {
			if k, p, err := unseal(key, sealed); err == nil && k == kindCount && len(p) == 1 {
				n = int(p[0])
			}
			return nil
		})
		d[string(key[1:])] = n
	}
	return d
}

// apply takes over what a committed transaction changed; 0 is no pieces.
func (d directory) apply(changed directory) {
	for key, n := range changed {
		if n == 0 {
			delete(d, key)
		} else {
			d[key] = n
		}
	}
}
