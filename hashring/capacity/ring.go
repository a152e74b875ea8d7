package capacity

import (
	"fmt"
	"math"

	"github.com/atolldb/atoll/hashring"
)

// Ring is how partitions spread over the nodes of a region.
type Ring struct {
	Partitions  int `json:"partitions"`
	Recommended int `json:"recommended_partitions"`
	// Owned by a node, as its primary or not: the smallest and the largest
	// share of the planner's optimum, rounded to whole partitions.
	OwnedMin    int     `json:"owned_min"`
	OwnedMax    int     `json:"owned_max"`
	OwnedMean   float64 `json:"owned_mean"`
	MaxOverMean float64 `json:"owned_max_over_mean"`
	PrimaryMin  int     `json:"primary_min"`
	PrimaryMax  int     `json:"primary_max"`
	// Peers are the nodes of the region that share a partition with a node.
	Peers int `json:"peers"`
	// TableBytes is the table with its members as clients get it, TableMemory
	// what the tables of all regions take in each node.
	TableBytes  float64 `json:"table_bytes"`
	TableMemory float64 `json:"table_memory_bytes"`

	sharesRacks bool // two owners of a partition may be in one rack
}

// RecommendPartitions is the number of partitions for a region that will ever
// have so many nodes, and so many bytes of records, each counted once: the
// least power of two that gives each node minPerNode partitions and none more
// than maxPartitionBytes. It cannot be changed later: plan for the largest.
func RecommendPartitions(nodes, replicas int, bytes float64) int {
	p := fewestPartitions
	for p < hashring.MaxPartitions &&
		(p*min(nodes, replicas) < minPerNode*nodes || bytes > maxPartitionBytes*float64(p)) {
		p *= 2
	}
	return p
}

// members of a region: alike, and dealt to racks in turn.
func (in Input) members() []hashring.Member {
	out := make([]hashring.Member, in.Nodes)
	for i := range out {
		out[i] = hashring.Member{ID: fmt.Sprintf("n%04d", i), Rack: fmt.Sprintf("r%04d", i%in.Racks)}
	}
	return out
}

func (in Input) ring() (Ring, error) {
	ideal, err := hashring.Optimum(in.members(), hashring.Rules{Partitions: in.Partitions, Replicas: in.Replicas})
	if err != nil {
		return Ring{}, err
	}
	least := math.Inf(1)
	for _, share := range ideal.Fair {
		least = min(least, share)
	}
	r := Ring{
		Partitions:  in.Partitions,
		Recommended: RecommendPartitions(in.Nodes, in.Replicas, in.Keys*in.entryBytes()),
		OwnedMin:    int(least), OwnedMax: ideal.Max, OwnedMean: ideal.Mean,
		MaxOverMean: float64(ideal.Max) / ideal.Mean,
		PrimaryMin:  int(least) / ideal.Copies, PrimaryMax: (ideal.Max + ideal.Copies - 1) / ideal.Copies,
		TableBytes:  tableBytesSent(in.Partitions, ideal.Copies, in.Nodes),
		TableMemory: float64(in.Regions) * tableMemoryBytes(in.Partitions, ideal.Copies),
		sharesRacks: ideal.RackLimit > 1,
	}
	r.Peers = min(in.strangers(r.sharesRacks), r.OwnedMax*(ideal.Copies-1))
	return r, nil
}

// strangers are the nodes that may own a partition together with a given one:
// those of other racks, unless racks have to be shared.
func (in Input) strangers(sharesRacks bool) int {
	if sharesRacks {
		return in.Nodes - 1
	}
	return in.Nodes - in.Nodes/in.Racks
}

// Loss is what follows when a node is lost for good.
type Loss struct {
	// Bytes of records that it had.
	Bytes float64 `json:"bytes"`
	// Sources have copies of them. Receivers may take them: all other nodes,
	// but only those of the same rack where there are just as many racks as
	// replicas; 0 where nobody is left that may.
	Sources   int `json:"sources"`
	Receivers int `json:"receivers"`
	// SpreadSeconds until the receivers have them, 0 if there are none;
	// ReplaceSeconds until one new node has, at the throttle.
	SpreadSeconds  float64 `json:"spread_seconds"`
	ReplaceSeconds float64 `json:"replace_seconds"`
	// DiskUsed is the part of a receiver's disk that is then in use.
	DiskUsed float64 `json:"disk_used"`

	most int // partitions that one receiver takes
}

func (in Input) loss(r Ring, d Disk) Loss {
	l := Loss{Bytes: float64(r.OwnedMax) * d.PartitionBytes, Sources: r.Peers}
	switch {
	case in.Nodes <= in.Replicas || in.copies() == 1:
		// Nobody who does not have a copy already, or nobody who has one.
	case !r.sharesRacks && in.Racks == in.Replicas && in.Nodes/in.Racks == 1:
		// The rack is gone, and those who are two in theirs share one.
		l.Receivers = min(2*(in.Nodes%in.Racks), r.OwnedMax)
	case !r.sharesRacks && in.Racks == in.Replicas:
		l.Receivers = min(in.Nodes/in.Racks-1, r.OwnedMax)
	default:
		l.Receivers = min(in.Nodes-1, r.OwnedMax)
	}
	if in.copies() == 1 {
		return l
	}
	l.ReplaceSeconds = moveSeconds(l.Bytes, l.Sources, 1, in.Throttle)
	if l.Receivers > 0 {
		l.most = (r.OwnedMax + l.Receivers - 1) / l.Receivers
		l.SpreadSeconds = max(float64(l.most)*d.PartitionBytes/in.Throttle,
			moveSeconds(l.Bytes, l.Sources, l.Receivers, in.Throttle))
	}
	return l
}

// moveSeconds is how long it takes to move bytes from sources to receivers,
// each of which reads or writes at most so many bytes a second.
func moveSeconds(bytes float64, sources, receivers int, throttle float64) float64 {
	if bytes == 0 {
		return 0
	}
	return bytes / throttle / float64(max(1, min(sources, receivers)))
}
