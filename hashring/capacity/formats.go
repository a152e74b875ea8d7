package capacity

import "math"

// Sizes that the formats fix, in bytes. The tests write, encode and store real
// records, clocks and messages and compare.

const (
	// A record beside its variable parts: format, number of actors and of
	// versions, index of the dot's actor, stamp, flags, number of past
	// entries, index of the past's actor, checksum (crdt/codec.go).
	recordFixed = 1 + 1 + 1 + 1 + 8 + 1 + 1 + 1 + 4
	// A record's key in the node's store has its space and the key hash in
	// front of the full key; an index entry's key is space, partition, actor
	// and counter, its value the digest delta, what is known of
	// its request, and the full key; a clock snapshot's key is space and
	// partition, its value the digest, the clock, and a digest for each bucket:
	// one, with a name of 6 bytes, is counted (node/replica/keys.go, digests.go).
	recordKeyFixed  = 1 + 8
	indexKeySize    = 1 + 2 + 4 + 8
	indexValueFixed = 8 + 1
	// Badger keeps of a key what differs from the first one of its block. Of
	// hashes that is nearly all; entries of the index share the store's space,
	// their own, partition, actor and the upper half of the counter.
	indexShared   = 1 + 1 + 2 + 4 + 4
	snapshotFixed = 1 + 2 + 8 + 1 + (1 + 6 + 8)
	// A request's id, in the index and on the way, where it stands with the
	// event's dot. Its trace has id and key hash, and kind, dot and stamp; those
	// of a group of writes are one entry, a block, whose key is space and number,
	// and which ends after so many seconds (node/replica/requests.go, window.go).
	// Counted is a block for each write, as where few are under way at a time.
	requestBytes = 16
	traceBytes   = requestBytes + 8 + 1 + 4 + 8 + 8
	blockKeySize = 1 + 8
	traceSeconds = 11 * 60
	// In memory a trace is a slot of a map from 4 to 4 bytes, which has 9 bytes
	// for each and is 7/16 to 7/8 full. It is forgotten with those of four
	// minutes, when the last of them has ended.
	fingerprintMemory  = 9 / (7.0 / 16)
	fingerprintSeconds = traceSeconds + 4*60 + 5
	// What the store adds to an entry: its space and its seal
	// (badgerstore/seal.go); and Badger to that: version, header, meta,
	// expiry and offset, and a bloom filter of 1 % false positives.
	sealFixed   = 1 + 5
	badgerFixed = 8 + 4 + 3 + 4
	bloomBytes  = 1.25
	// A Badger block: its offsets' count, checksum and its row in the table's
	// index beside the key that it starts with.
	blockBytes = 4 << 10
	blockFixed = 32
	// Values above pieceBytes are kept in pieces under keys of their own.
	pieceBytes = 512 << 10
	pieceFixed = 4 + 1

	// A clock beside its actors: format and their number; an actor in it has
	// no spans when nothing is missing, and then their number is one byte.
	// One span takes the two numbers that lie between (crdt/codec_clock.go).
	clockFixed = 2
	// In memory: the clock, and what it keeps of one actor.
	clockMemory = 24
	actorMemory = 4 + 4 + 8 + 24
	// A partition beside its clocks, in an owner's memory, with its places in
	// lists and maps of peers.
	partitionMemory = 912

	// A sum of a partition beside its number: clock and digest in short; one that
	// differs says besides that there are no floors and no losses (node/wire). A request's head is id, verb, epoch, timeout and length, a
	// reply's id, 0 and length (node/peer); around both are the fields of the
	// link's message, gRPC's and HTTP/2's.
	sumFixed    = 8 + 8
	differFixed = 1 + 1
	requestHead = 3 + 1 + 1 + 2 + 2
	replyHead   = 3 + 1 + 1
	frameFixed  = 3 + 5 + 9

	// A message of the geo log beside its entries: format, checksum, number of
	// entries (geo/batch.go); its header and id as NATS headers, subject,
	// JetStream's own framing, and the reply subject with which it is
	// delivered, acknowledged by as much again.
	batchFixed   = 1 + 4 + 2
	messageFixed = 300
	ackBytes     = 120
	// A heartbeat beside its clocks: frame, names, session, number, time,
	// average entry, number of clocks (geo/heartbeat.go), and NATS's framing.
	heartbeatFixed = 2 + 4 + 2*12 + 1 + 9 + 4 + 6 + 2 + 2
	heartbeatFrame = 40

	// A table as it is sent: an index for each owner. A member has id, rack,
	// weight and two addresses; in memory a name is two words.
	memberBytes = 96
	nameMemory  = 16
	rowMemory   = 24
)

// uvarint is the length of n as an unsigned varint.
func uvarint(n float64) float64 {
	size := 1.0
	for n >= 128 {
		n /= 128
		size++
	}
	return size
}

// partitionVarint is the average length of a partition's number as a varint.
func partitionVarint(partitions int) float64 {
	total := 0.0
	for lo, size := 0, 1.0; lo < partitions; size++ {
		hi := min(partitions, 1<<(7*int(size)))
		total += float64(hi-lo) * size
		lo = hi
	}
	return total / float64(partitions)
}

// maxActor is the highest actor that a region of so many nodes has handed out:
// a sequence number above the region's six bits.
func maxActor(nodes, incarnations int) float64 { return float64(nodes) * float64(incarnations) * 64 }

// recordBytes is a key's whole record, encoded: one version, whose past names
// one actor. actor and n are the numbers of its dot; the write before it on
// the same key lies anywhere below n.
func recordBytes(actor, n float64, value int) float64 {
	return recordFixed + uvarint(actor) + 2*uvarint(n) + uvarint(float64(value)) + float64(value)
}

// counter is the highest n of a partition's dots after a year of writes to all
// keys that there are.
func (in Input) counter() float64 {
	return (in.Keys + in.WriteRate*365*day) / float64(max(in.Partitions, 1))
}

// record is the size of an average record, encoded.
func (in Input) record() float64 {
	return recordBytes(maxActor(in.Nodes, in.Incarnations), in.counter(), in.ValueSize)
}

// entryBytes is a record with its key, as it travels between nodes.
func (in Input) entryBytes() float64 {
	record := in.record()
	return float64(in.KeySize) + uvarint(float64(in.KeySize)) + record + uvarint(record) + 1
}

// requestOnWire is what the id of a write adds to an entry.
func (in Input) requestOnWire() float64 {
	return 1 + uvarint(maxActor(in.Nodes, in.Incarnations)) + uvarint(in.counter()) + requestBytes
}

// storedBytes is what Badger's tables take for one entry of the node's store,
// incompressible, in whole blocks with their rows in the table's index.
func storedBytes(key, value float64) float64 {
	if value > pieceBytes {
		pieces := math.Ceil(value / pieceBytes)
		return tableBytes(key, 8) + tableBytes(key, 1) + pieces*tableBytes(key+pieceFixed, value/pieces)
	}
	return tableBytes(key, value)
}

func tableBytes(key, value float64) float64 {
	entry := key + value + sealFixed + badgerFixed
	perBlock := max(1, math.Ceil(blockBytes/entry))
	return entry + bloomBytes + (blockFixed+key)/perBlock
}

// tableIndexBytes is the part of storedBytes that a read wants in the page
// cache, whatever it reads: bloom filters and the rows of blocks.
func tableIndexBytes(key, value float64) float64 {
	entry := key + min(value, pieceBytes) + sealFixed + badgerFixed
	return bloomBytes + (blockFixed+key)/max(1, math.Ceil(blockBytes/entry))
}

// clockBytes is a clock of so many actors, encoded, that misses nothing:
// actors lie evenly below highest, and each has minted n.
func clockBytes(actors int, highest, n float64) float64 {
	if actors == 0 {
		return clockFixed
	}
	each := uvarint(highest/float64(actors)) + uvarint(n) + 1
	return 1 + uvarint(float64(actors)) + float64(actors)*each
}

// newDotsBytes is what an actor takes in a clock that has a run of its dots, of
// which the first is n, and nothing before it.
func newDotsBytes(highest, n float64) float64 { return uvarint(highest) + 2 + uvarint(n) + 1 }

// clockMemoryBytes is the same clock in memory.
func clockMemoryBytes(actors int) float64 { return clockMemory + actorMemory*float64(actors) }

// compareBytes is the body of a request that compares so many partitions.
func compareBytes(sums float64, partitions int) float64 {
	return uvarint(sums) + sums*(partitionVarint(partitions)+sumFixed) + 1 // within one region
}

// heartbeatBytes is a heartbeat with so many clocks of the given size, before
// it is packed.
func heartbeatBytes(clocks, clock float64, partitions int) float64 {
	return heartbeatFixed + clocks*(partitionVarint(partitions)+uvarint(clock)+clock)
}

// tableBytesSent is a region's table and members as clients get them.
func tableBytesSent(partitions, copies, nodes int) float64 {
	small := min(nodes, 128)
	index := (float64(small) + 2*float64(nodes-small)) / float64(nodes)
	return float64(partitions*copies)*index + float64(nodes)*memberBytes
}

// tableMemoryBytes is a region's table in a node's memory.
func tableMemoryBytes(partitions, copies int) float64 {
	return float64(partitions) * (rowMemory + float64(copies)*nameMemory)
}
