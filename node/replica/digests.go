package replica

import (
	"bytes"
	"encoding/binary"
	"math"
	"slices"

	"github.com/atolldb/atoll/internal/strict"
)

// digests are those of a partition's records, bucket by bucket, ascending by
// name: since not every region has every bucket, what two owners have to have
// equal is the sum over the buckets that both their regions have. They say
// nothing of which these are, so that a definition that comes late, or changes,
// leaves them as they are. There is no entry for 0.
type digests []bucketDigest

type bucketDigest struct {
	bucket string
	digest uint64
}

// bucketOf is the bucket that a full key names.
func bucketOf(fullKey []byte) []byte {
	name, _, _ := bytes.Cut(fullKey, []byte{0})
	return name
}

// total is the digest of all records.
func (d digests) total() (sum uint64) {
	for i := range d {
		sum ^= d[i].digest
	}
	return sum
}

// flip adds or takes away what delta is the digest of.
func (d *digests) flip(bucket []byte, delta uint64) {
	if delta == 0 {
		return
	}
	i, ok := slices.BinarySearchFunc(*d, bucket, func(x bucketDigest, name []byte) int {
		switch {
		case x.bucket == string(name):
			return 0
		case x.bucket < string(name):
			return -1
		}
		return 1
	})
	switch {
	case !ok:
		*d = slices.Insert(*d, i, bucketDigest{string(bucket), delta})
	case (*d)[i].digest == delta:
		*d = slices.Delete(*d, i, i+1)
	default:
		(*d)[i].digest ^= delta
	}
}

// apply flips all of other.
func (d *digests) apply(other digests) {
	for i := range other {
		d.flip([]byte(other[i].bucket), other[i].digest)
	}
}

// minus is what has to be applied to other to make it d.
func (d digests) minus(other digests) digests {
	out := slices.Clone(d)
	out.apply(other)
	return out
}

// appendDigests packs them: their number, then of each the length of its name,
// the name, and 8 bytes.
func appendDigests(dst []byte, d digests) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(d)))
	for i := range d {
		dst = binary.AppendUvarint(dst, uint64(len(d[i].bucket)))
		dst = append(dst, d[i].bucket...)
		dst = binary.BigEndian.AppendUint64(dst, d[i].digest)
	}
	return dst
}

// decodeDigests undoes appendDigests; false for what it does not write.
func decodeDigests(b []byte) (digests, bool) {
	r := strict.Reader{B: b}
	var d digests
	for range r.Count(math.MaxInt, 9) {
		x := bucketDigest{string(r.Bytes(math.MaxInt)), r.Uint64()}
		if x.digest == 0 || len(d) > 0 && d[len(d)-1].bucket >= x.bucket {
			return nil, false
		}
		d = append(d, x)
	}
	return d, r.Whole()
}
