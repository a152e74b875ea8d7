package capacity

// Disk is what a node keeps.
type Disk struct {
	// Keys of the whole data set that a node has.
	Keys float64 `json:"keys"`
	// RecordBytes is a record, encoded; EntryBytes that with its key on the
	// wire; StoredBytes that in the store's tables, incompressible.
	RecordBytes float64 `json:"record_bytes"`
	EntryBytes  float64 `json:"entry_bytes"`
	StoredBytes float64 `json:"stored_bytes"`
	// PartitionBytes is what one copy of a partition takes to move.
	PartitionBytes float64 `json:"partition_bytes"`
	// Records in tables, with what they take over the bytes in them.
	Records float64 `json:"records_bytes"`
	// IndexEntry is one write in the dot index, in tables; IndexPerDay what
	// the writes of a day add on a node; Index what is kept at a time.
	IndexEntry  float64 `json:"index_entry_bytes"`
	IndexPerDay float64 `json:"index_bytes_per_day"`
	Index       float64 `json:"index_bytes"`
	// Requests that are remembered, if every write has an id.
	Requests float64 `json:"requests_bytes"`
	// Snapshots of clocks.
	Snapshots float64 `json:"snapshots_bytes"`
	// Fixed are the logs of memtables, and the geo log on a node that is one
	// of the region's NATS servers.
	Fixed float64 `json:"fixed_bytes"`
	// Total of the busiest node, and the part of its disk: 0 if that is
	// unknown.
	Total float64 `json:"total_bytes"`
	Used  float64 `json:"used"`
}

// Clocks are a partition's, each of which knows all actors that ever minted
// there.
type Clocks struct {
	Actors int `json:"actors"`
	// WireBytes is a clock, encoded, SnapshotBytes an entry of the store with
	// it, MemoryBytes what an owner's two states of it take.
	WireBytes     float64 `json:"wire_bytes"`
	SnapshotBytes float64 `json:"snapshot_bytes"`
	MemoryBytes   float64 `json:"memory_bytes"`
	// NodeBytes is what the clocks of all owned partitions take in memory,
	// with what was last told of them to other regions, and what the owners of
	// those last told.
	NodeBytes float64 `json:"node_memory_bytes"`
}

// clocks assumes the worst: every owner has minted in each of its lives.
func (in Input) clocks(r Ring) Clocks {
	own := in.copies() * in.Incarnations
	highest := maxActor(in.Nodes, in.Incarnations)
	n := in.counter() / float64(in.copies())
	c := Clocks{Actors: own * in.Regions}
	c.WireBytes = clockBytes(c.Actors, highest, n)
	c.SnapshotBytes = storedBytes(1+2, snapshotFixed-3+c.WireBytes)
	c.MemoryBytes = 2 * clockMemoryBytes(c.Actors)
	c.NodeBytes = float64(r.OwnedMax) * c.MemoryBytes
	if in.others() > 0 {
		c.NodeBytes += float64(r.OwnedMax) * clockMemoryBytes(c.Actors) * float64(1+in.others()*in.copies())
	}
	return c
}

func (in Input) disk(r Ring, c Clocks) Disk {
	owned := float64(r.OwnedMax) / float64(in.Partitions)
	key, record := recordKeyFixed+float64(in.KeySize), in.record()
	indexKey, indexValue := float64(indexKeySize-indexShared), indexValueFixed+requestBytes+float64(in.KeySize)
	d := Disk{
		Keys:        in.Keys * owned,
		RecordBytes: record,
		EntryBytes:  in.entryBytes(),
		StoredBytes: storedBytes(key, record),
		IndexEntry:  storedBytes(indexKey, indexValue),
		Snapshots:   float64(r.OwnedMax) * c.SnapshotBytes * tableFactor,
		Fixed:       memtables * in.Memtable,
	}
	d.PartitionBytes = in.Keys / float64(in.Partitions) * d.EntryBytes
	d.Records = d.Keys * d.StoredBytes * tableFactor
	writes := in.arriving() * float64(r.OwnedMax)
	d.IndexPerDay = writes * day * d.IndexEntry * tableFactor
	d.Index = writes * in.IndexRetention * d.IndexEntry * tableFactor
	if in.others() > 0 {
		d.Fixed += in.LogBytes
	}
	d.Requests = writes * traceSeconds * storedBytes(blockKeySize, traceBytes) * tableFactor
	d.Total = d.Records + d.Index + d.Requests + d.Snapshots + d.Fixed
	if in.Disk > 0 {
		d.Used = d.Total / in.Disk
	}
	return d
}

// usedAfter is the part of its disk that a node uses when it has taken over so
// many partitions more.
func (in Input) usedAfter(r Ring, d Disk, more int) float64 {
	if in.Disk == 0 {
		return 0
	}
	grown := float64(r.OwnedMax+more) / float64(r.OwnedMax)
	return ((d.Total-d.Fixed)*grown + d.Fixed) / in.Disk
}
