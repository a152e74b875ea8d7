package capacity

import "fmt"

// Warning says which rule of thumb a plan breaks, and what to do.
type Warning struct {
	Code string `json:"code"`
	Text string `json:"text"`
}

// The codes of warnings.
const (
	FewPartitions  = "few-partitions"
	BigPartitions  = "big-partitions"
	FewRacks       = "few-racks"
	UnevenRacks    = "uneven-racks"
	NoSpareNode    = "no-spare-node"
	DiskFull       = "disk-full"
	DiskAfterLoss  = "disk-after-loss"
	ShortLog       = "short-log"
	ManyPings      = "many-pings"
	ManyHeartbeats = "many-heartbeats"
	SlowRebuild    = "slow-rebuild"
)

// slowRebuild is a time in which a second node may well be lost.
const slowRebuild = day

// warnings is never nil, so that JSON shows a list.
func (r Report) warnings() []Warning {
	in, out := r.Input, []Warning{}
	warn := func(broken bool, code, format string, args ...any) {
		if broken {
			out = append(out, Warning{code, fmt.Sprintf(format, args...)})
		}
	}
	warn(in.Partitions*in.copies() < minPerNode*in.Nodes, FewPartitions,
		"%.1f partitions on a node: with fewer than %d one more or less is a large part of its load, and few peers rebuild it; take %d, the number never changes",
		r.Ring.OwnedMean, minPerNode, r.Ring.Recommended)
	warn(r.Disk.PartitionBytes > maxPartitionBytes, BigPartitions,
		"%s in a partition: it moves as a whole, and above %s that takes long; take %d partitions, the number never changes",
		Bytes(r.Disk.PartitionBytes), Bytes(maxPartitionBytes), r.Ring.Recommended)
	warn(in.Racks < in.copies(), FewRacks,
		"%d racks for %d replicas: the loss of one rack takes two replicas of some keys, and with them their quorum", in.Racks, in.Replicas)
	warn(in.Racks >= in.copies() && r.Ring.MaxOverMean > maxImbalance && in.Nodes%in.Racks != 0, UnevenRacks,
		"%d nodes in %d racks: the busiest node has %.2f times the mean; add nodes to the smaller racks", in.Nodes, in.Racks, r.Ring.MaxOverMean)
	warn(in.copies() > 1 && r.Loss.Receivers == 0, NoSpareNode,
		"no other node may take what a lost one had: until it is replaced its partitions have %d copies", in.copies()-1)
	warn(in.Nodes < in.Replicas, NoSpareNode,
		"%d nodes for %d replicas: partitions have only %d copies", in.Nodes, in.Replicas, in.copies())
	warn(r.Disk.Used > maxDiskUsed, DiskFull,
		"%.0f %% of the disk in use: above %.0f %% there is no room for compaction and a lost neighbour's part", 100*r.Disk.Used, 100*maxDiskUsed)
	warn(r.Disk.Used <= maxDiskUsed && r.Loss.DiskUsed > warnDiskUsed, DiskAfterLoss,
		"%.0f %% of the disk in use after the loss of a neighbour: nodes warn at %.0f %%, and refuse writes soon after",
		100*r.Loss.DiskUsed, 100*warnDiskUsed)
	warn(r.Loss.ReplaceSeconds > slowRebuild && (r.Loss.Receivers == 0 || r.Loss.SpreadSeconds > slowRebuild), SlowRebuild,
		"%s until a lost node's data has all its copies again: use more and smaller nodes, or a higher throttle",
		Duration(max(r.Loss.SpreadSeconds, r.Loss.ReplaceSeconds)))
	warn(in.others() > 0 && r.Geo.LogSeconds < day, ShortLog,
		"the log reaches back %s: a region that was away longer is caught up by comparing clocks, which is slower; raise nats.max_store",
		Duration(r.Geo.LogSeconds))
	warn(r.CPU.Background > maxBackground, ManyPings,
		"%.2f cores a node for %.0f pings and %.0f comparisons a second, whatever the load: every node asks every other one",
		r.CPU.Background, r.Liveness.Pings, (r.Repair.Messages+r.Repair.FarMessages)/2)
	warn(in.others() > 0 && r.Geo.HeartbeatsLoaded > maxHeartbeats*r.Geo.LinkBytes && r.Geo.StreamBytes > 0, ManyHeartbeats,
		"%.0f %% of what goes between regions is heartbeats: fewer partitions or fewer, larger nodes have fewer clocks to tell",
		100*r.Geo.HeartbeatsLoaded/r.Geo.LinkBytes)
	return out
}
