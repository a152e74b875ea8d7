package capacity

import "math"

// CPU of the busiest node.
type CPU struct {
	// Microseconds of all nodes of a region for a write asked there, a write
	// that comes from another region, and a read.
	PutMicros   float64 `json:"put_us"`
	ApplyMicros float64 `json:"apply_us"`
	GetMicros   float64 `json:"get_us"`
	// Requests is how many cores the load takes, Background the pings and
	// comparisons; Cores is what to buy, to use half of it.
	Requests   float64 `json:"requests_cores"`
	Background float64 `json:"background_cores"`
	Cores      int     `json:"cores"`
}

func (in Input) cpu(r Ring, rep Repair, live Liveness) CPU {
	value := float64(in.ValueSize)
	owners := float64(in.copies()) / measuredOwners
	c := CPU{
		PutMicros:   owners * (putMicros + putMicrosByte*value),
		ApplyMicros: owners * (applyMicros + applyMicrosByte*value),
		GetMicros:   getMicros + getMicrosByte*value,
	}
	region := in.WriteRate*c.PutMicros + in.WriteRate*float64(in.others())*c.ApplyMicros + in.ReadRate*c.GetMicros
	c.Requests = region / 1e6 / float64(in.Nodes) * r.MaxOverMean
	// Each message has two ends, and a node is one of as many as it sends.
	// Half of what it sends for repair are answers.
	sent := 2*live.Pings + rep.Messages + rep.FarMessages
	c.Background = (idleMicros + sent*messageMicros) / 1e6
	c.Cores = int(math.Ceil((c.Requests + c.Background) / maxCoreUse))
	return c
}

// Memory of the busiest node.
type Memory struct {
	// Store is what the store and the queues before it take under load.
	Store float64 `json:"store_bytes"`
	// Partitions with their clocks, tables of all regions, links.
	Partitions float64 `json:"partitions_bytes"`
	Links      float64 `json:"links_bytes"`
	// Requests that are remembered, if every write has an id.
	Requests float64 `json:"requests_bytes"`
	// Pieces is the directory of large values.
	Pieces float64 `json:"pieces_bytes"`
	// Process is all of that: what GOMEMLIMIT should allow.
	Process float64 `json:"process_bytes"`
	// PageCache is what reads want of the files, whatever they read: indexes
	// and bloom filters of tables. It is beside the process.
	PageCache float64 `json:"page_cache_bytes"`

	// Peers of all regions with which the node has links, and their
	// connections.
	Peers       int `json:"peers"`
	Connections int `json:"connections"`
}

func (in Input) memory(r Ring, c Clocks, d Disk) Memory {
	m := Memory{
		Store:      heapFactor * (in.BlockCache + memtables*in.Memtable + queues),
		Partitions: float64(r.OwnedMax)*partitionMemory + c.NodeBytes + r.TableMemory,
		Requests:   in.arriving() * float64(r.OwnedMax) * fingerprintSeconds * fingerprintMemory,
	}
	// Any node may coordinate for any key, and compares itself in turn with
	// all owners of its partitions in other regions.
	m.Peers = in.Nodes - 1 + in.others()*min(in.Nodes, r.PrimaryMax*in.copies())
	m.Connections = connectionsPerPeer * m.Peers
	m.Links = float64(m.Peers) * linkBytes
	if d.RecordBytes > pieceBytes {
		m.Pieces = d.Keys * (recordKeyFixed + float64(in.KeySize) + 48)
	}
	m.Process = idleBytes + m.Store + m.Partitions + m.Links + m.Requests + m.Pieces
	index := 0.0
	if d.IndexEntry > 0 {
		index = d.Index / d.IndexEntry / tableFactor
	}
	key := recordKeyFixed + float64(in.KeySize)
	m.PageCache = tableFactor * (d.Keys*tableIndexBytes(key, d.RecordBytes) +
		index*tableIndexBytes(indexKeySize, indexValueFixed+requestBytes+float64(in.KeySize)))
	return m
}
