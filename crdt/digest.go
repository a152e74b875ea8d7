package crdt

import (
	"encoding/binary"

	"github.com/cespare/xxhash/v2"
)

// Digest is a 64-bit hash of a record: of its key's hash and its dots, keyed,
// because users choose keys. Values need not be hashed: a dot names one
// immutable value. Digests of a set of records are combined by XOR; an absent
// key counts 0.
func Digest(seed, keyHash uint64, r Record) uint64 {
	if len(r.Versions) == 0 {
		return 0
	}
	var few [16 + 12*8]byte
	b := binary.BigEndian.AppendUint64(few[:0], seed)
	b = binary.BigEndian.AppendUint64(b, keyHash)
	for i := range r.Versions {
		b = binary.BigEndian.AppendUint32(b, uint32(r.Versions[i].Dot.Actor))
		b = binary.BigEndian.AppendUint64(b, r.Versions[i].Dot.N)
	}
	return xxhash.Sum64(b)
}
