package capacity

// What operations cost, measured: docs/bench/2026-11-22-cost.md has the command,
// the machine and the figures, of which these are round ones. They age with the
// code and differ between machines: measure anew on yours.
const (
	// Processor time, in microseconds, of all nodes of a region together, for
	// an operation at a quorum of three owners with synced writes: fixed, and
	// for each byte of value.
	putMicros, putMicrosByte = 105.0, 0.042
	getMicros, getMicrosByte = 16.0, 0.004
	// The same in each region that receives the write from another one, less
	// what the log's servers there do not do.
	applyMicros, applyMicrosByte = 50.0, 0.030
	// measuredOwners is how many owners the operations above had.
	measuredOwners = 3
	// One message on an otherwise idle link, at either end, where nothing
	// shares a frame or a wake-up.
	messageMicros = 55.0
	// A node without peers or load: microseconds a second.
	idleMicros = 4000.0

	// linkBytes is the memory of an idle link to and from one peer.
	linkBytes = 360 << 10
	// idleBytes is the memory of a node without data, peers or load.
	idleBytes = 8 << 20
	// heapFactor is what the process takes for each byte that the store is
	// configured to use: Go's collector lets garbage stand until the heap has
	// doubled, and compactions have their own. GOMEMLIMIT bounds it.
	heapFactor = 3.0
)

// Rules of thumb.
const (
	// tableFactor is what tables take over the bytes in them: each level of
	// the tree is ten times the one above, and what was overwritten stays
	// until it is compacted.
	tableFactor = 1.25
	// minPerNode is how many partitions a node should own at least: then one
	// partition more or less is 4 % of its load, and a lost node is rebuilt
	// from many. 256 partitions are enough for thirty nodes.
	minPerNode = 25
	// fewest partitions that are worth recommending: their number never
	// changes, and idle ones cost next to nothing.
	fewestPartitions = 256
	// maxPartitionBytes is the most that one partition should hold: it moves
	// as a whole, in some minutes.
	maxPartitionBytes = 16 << 30
	// maxDiskUsed leaves room for compaction, and for what a lost neighbour
	// leaves behind. Nodes warn at warnDiskUsed, and refuse writes at 92 %.
	maxDiskUsed  = 0.70
	warnDiskUsed = 0.85
	// maxImbalance of the busiest node over the mean.
	maxImbalance = 1.10
	// maxCoreUse leaves room for bursts, compaction and a lost neighbour.
	maxCoreUse = 0.5
	// maxBackground is how much of a core pings and comparisons may take.
	maxBackground = 0.25
	// maxHeartbeats of WAN traffic are a sign of too many partitions.
	maxHeartbeats = 0.25
)
