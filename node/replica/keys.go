package replica

import (
	"encoding/binary"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
)

// The key spaces of a node's store, by first byte; numbers are big-endian, so
// that the store's order is theirs. The committer's group markers have 'g'.
//
//	'r' key-hash(8) full-key            -> record (canonical encoding)
//	'i' partition(2) actor(4) n(8)      -> digest delta (8), request, full key;
//	                                       see index.go
//	's' partition(2)                    -> digest (8), clock, digests by bucket
//	'c' partition(2) actor(4)           -> counter (8): what the geo log has
//	'b' partition(2)                    -> 1: the node is behind there
//	'd' partition(2)                    -> 1: being dropped; see drop.go
//	'o' partition(2)                    -> actor (4), n (8): the highest dot of
//	                                       this node's in what was dropped
//	'u' key-hash(8) full-key            -> 1: the record was unreadable and is
//	                                       another by now; see damage.go
//	'f' partition(2)                    -> floors; see floor.go
//	'x' partition(2)                    -> what is lost for good; see losses.go
//	'l' partition(2) key-hash(8) dot(12) full-key
//	                                    -> record: kept back; see sidelog.go
//	'p' key-hash(8) full-key            -> acceptor state of the key's consensus
//	'a' key-hash(8) full-key            -> 1: something is accepted there and not
//	                                       known to be decided
//	'y' partition(2)                    -> ballot (8): nothing below is accepted
//	'q' number(8)                       -> what is known of requests, for some
//	                                       minutes; see window.go
//	'k' partition(2)                    -> ms (8): since when they are
//	'm' name                            -> the node's own facts
//	'h' ...                             -> hints; see package hint
//
// The partition is the top of the key hash, so a partition's records, and any
// bucket of them by hash prefix, are one contiguous range.
const (
	spaceRecord   = 'r'
	spaceIndex    = 'i'
	spaceSnapshot = 's'
	spaceCursor   = 'c'
	spaceBehind   = 'b'
	spaceDropping = 'd'
	spaceOwn      = 'o'
	spaceReplaced = 'u'
	spaceFloor    = 'f'
	spaceLoss     = 'x'
	spaceAside    = 'l'
	spaceSerial   = 'p'
	spacePending  = 'a'
	spaceBallots  = 'y'
	spaceRequest  = 'q'
	spaceMemory   = 'k'
)

var (
	keyIdentity = []byte("midentity")
	keyClean    = []byte("mclean")
	keyActors   = []byte("mactors")
	keyFormer   = []byte("mformer")
)

func recordKey(dst []byte, keyHash uint64, fullKey []byte) []byte {
	dst = append(dst, spaceRecord)
	dst = binary.BigEndian.AppendUint64(dst, keyHash)
	return append(dst, fullKey...)
}

func replacedKey(keyHash uint64, fullKey []byte) []byte {
	k := recordKey(nil, keyHash, fullKey)
	k[0] = spaceReplaced
	return k
}

// replacedRange is for a recordRange what that is for records.
func replacedRange(lo, hi []byte) ([]byte, []byte) {
	move := func(k []byte) []byte {
		k = append([]byte(nil), k...)
		k[0] += spaceReplaced - spaceRecord
		return k
	}
	return move(lo), move(hi)
}

// recordRange covers the records whose key hash is in first..last.
func recordRange(first, last uint64) (lo, hi []byte) {
	lo = binary.BigEndian.AppendUint64([]byte{spaceRecord}, first)
	if last == 1<<64-1 {
		return lo, []byte{spaceRecord + 1}
	}
	return lo, binary.BigEndian.AppendUint64([]byte{spaceRecord}, last+1)
}

func splitRecordKey(k []byte) (keyHash uint64, fullKey []byte) {
	return binary.BigEndian.Uint64(k[1:]), k[9:]
}

func indexKey(dst []byte, p hashring.Partition, d crdt.Dot) []byte {
	dst = append(dst, spaceIndex)
	dst = binary.BigEndian.AppendUint16(dst, uint16(p))
	dst = binary.BigEndian.AppendUint32(dst, uint32(d.Actor))
	return binary.BigEndian.AppendUint64(dst, d.N)
}

// indexEnd is the key behind all index entries of a partition.
func indexEnd(p hashring.Partition) []byte {
	k := binary.BigEndian.AppendUint16([]byte{spaceIndex}, uint16(p))
	return append(k, 0xff, 0xff, 0xff, 0xff, 0xff)
}

func splitIndexKey(k []byte) crdt.Dot {
	return crdt.Dot{
		Actor: crdt.Actor(binary.BigEndian.Uint32(k[3:])),
		N:     binary.BigEndian.Uint64(k[7:]),
	}
}

func partitionKey(space byte, p hashring.Partition) []byte {
	return binary.BigEndian.AppendUint16([]byte{space}, uint16(p))
}

func snapshotKey(p hashring.Partition) []byte { return partitionKey(spaceSnapshot, p) }
func behindKey(p hashring.Partition) []byte   { return partitionKey(spaceBehind, p) }
func droppingKey(p hashring.Partition) []byte { return partitionKey(spaceDropping, p) }
func floorKey(p hashring.Partition) []byte    { return partitionKey(spaceFloor, p) }
func lossKey(p hashring.Partition) []byte     { return partitionKey(spaceLoss, p) }
func ownKey(p hashring.Partition) []byte      { return partitionKey(spaceOwn, p) }

func cursorKey(p hashring.Partition, a crdt.Actor) []byte {
	k := binary.BigEndian.AppendUint16([]byte{spaceCursor}, uint16(p))
	return binary.BigEndian.AppendUint32(k, uint32(a))
}
