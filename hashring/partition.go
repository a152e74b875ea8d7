package hashring

import "github.com/cespare/xxhash/v2"

// Partition is one of the P fixed ranges of the hash space, 0..P-1.
type Partition uint16

// KeyHash is the 64-bit xxHash of a full key (bucket, NUL, key). Its top bits
// name the partition and it orders the store, so it is a wire and disk format.
func KeyHash(fullKey []byte) uint64 { return xxhash.Sum64(fullKey) }

// PartitionOf returns the partition of a key hash among count partitions,
// which must be a power of two in 1..65536.
func PartitionOf(keyHash uint64, count int) Partition {
	shift := 64
	for n := count; n > 1; n >>= 1 {
		shift--
	}
	if shift == 64 {
		return 0
	}
	return Partition(keyHash >> shift)
}

// Range returns the first and last key hash of partition p among count.
func Range(p Partition, count int) (first, last uint64) {
	width := uint64(1) << 63 / uint64(count) * 2 // 2^64/count; 0 when count is 1
	first = uint64(p) * width
	return first, first + width - 1
}
