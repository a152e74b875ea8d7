package capacity

import (
	"errors"
	"fmt"

	"github.com/atolldb/atoll/hashring"
)

// Input is what is asked: the shape of a deployment and its load. All regions
// are alike.
type Input struct {
	// Nodes and Racks of each region. 0 racks are as many as replicas, or
	// nodes if these are fewer.
	Nodes int `json:"nodes"`
	Racks int `json:"racks"`
	// Regions, each of which holds everything: 1..63.
	Regions int `json:"regions"`
	// Replicas of each partition in each region.
	Replicas int `json:"replicas"`
	// Partitions of the key space; 0 takes the recommended number.
	Partitions int `json:"partitions"`

	// Keys of the whole data set, each counted once; KeySize is the average of
	// bucket, a separator and key, ValueSize that of values, in bytes.
	Keys      float64 `json:"keys"`
	KeySize   int     `json:"key_bytes"`
	ValueSize int     `json:"value_bytes"`

	// WriteRate and ReadRate are what clients ask of each region, a second.
	// Reads are at a quorum.
	WriteRate float64 `json:"writes_per_second"`
	ReadRate  float64 `json:"reads_per_second"`
	// RTT between two regions, in seconds.
	RTT float64 `json:"region_rtt_seconds"`

	// Disk of a node in bytes, 0 for unknown.
	Disk float64 `json:"disk_bytes"`
	// Throttle is how many bytes a second a node reads or writes to move
	// partitions.
	Throttle float64 `json:"throttle_bytes_per_second"`
	// IndexRetention is for how long, in seconds, entries of the dot index are
	// kept: until the slowest owner of the slowest region has the write.
	IndexRetention float64 `json:"index_retention_seconds"`
	// Incarnations is how many actors each node has had: one, and one for
	// each stop that was not clean.
	Incarnations int `json:"incarnations"`

	// BlockCache, Memtable and LogBytes are the configuration's
	// memory.block_cache, memory.memtable and half of nats.max_store.
	BlockCache float64 `json:"block_cache_bytes"`
	Memtable   float64 `json:"memtable_bytes"`
	LogBytes   float64 `json:"log_bytes"`
}

// Default is a region of three nodes without load, configured as a node is by
// default.
func Default() Input {
	return Input{
		Nodes: 3, Regions: 1, Replicas: 3,
		KeySize: 32, ValueSize: 1 << 10, RTT: 0.08,
		Throttle: 100 << 20, IndexRetention: 72 * 3600, Incarnations: 4,
		BlockCache: 64 << 20, Memtable: 128 << 20, LogBytes: 4 << 30,
	}
}

// Bounds that Plan checks. The largest key and value are a node's own.
const (
	maxRegions = 63
	maxKey     = 64 + 1<<10
	maxValue   = 8 << 20
	maxNumber  = 1e15
)

// complete fills in what is 0 for "as usual", and reports all that is out of
// bounds at once.
func (in Input) complete() (Input, error) {
	var errs []error
	check := func(name string, value, lo, hi float64) {
		if !(value >= lo && value <= hi) { // NaN is out of bounds
			errs = append(errs, fmt.Errorf("%s %g: want %g..%g", name, value, lo, hi))
		}
	}
	check("nodes", float64(in.Nodes), 1, hashring.MaxMembers)
	check("regions", float64(in.Regions), 1, maxRegions)
	check("replicas", float64(in.Replicas), 1, hashring.MaxReplicas)
	check("racks", float64(in.Racks), 0, max(1, float64(in.Nodes)))
	check("keys", in.Keys, 0, maxNumber)
	check("key size", float64(in.KeySize), 3, maxKey)
	check("value size", float64(in.ValueSize), 0, maxValue)
	check("write rate", in.WriteRate, 0, 1e9)
	check("read rate", in.ReadRate, 0, 1e9)
	check("round trip between regions", in.RTT, 0, 60)
	check("disk", in.Disk, 0, maxNumber)
	check("throttle", in.Throttle, 1, maxNumber)
	check("index retention", in.IndexRetention, 0, 10*365*day)
	check("incarnations", float64(in.Incarnations), 1, 1<<16)
	check("block cache", in.BlockCache, 0, maxNumber)
	check("memtable", in.Memtable, 0, maxNumber)
	check("log", in.LogBytes, 0, maxNumber)
	if len(errs) == 0 {
		if in.Racks == 0 {
			in.Racks = min(in.Nodes, in.Replicas)
		}
		if in.Partitions == 0 {
			in.Partitions = RecommendPartitions(in.Nodes, in.Replicas, in.Keys*in.entryBytes())
		}
		rules := hashring.Rules{Partitions: in.Partitions, Replicas: in.Replicas}
		errs = append(errs, rules.Validate())
	}
	return in, errors.Join(errs...)
}

const day = 24 * 3600.0

// copies of a partition in a region.
func (in Input) copies() int { return min(in.Nodes, in.Replicas) }

// others is the number of other regions.
func (in Input) others() int { return in.Regions - 1 }

// arriving is how many writes a second a partition of a region receives, its
// own and those of other regions.
func (in Input) arriving() float64 {
	return in.WriteRate * float64(in.Regions) / float64(in.Partitions)
}
