package capacity

// How often loops do what they do, in seconds, and other numbers that the code
// fixes. A test reads them from its source.
const (
	// Anti-entropy: rounds with the peers of the region, and with one owner in
	// each other region (node/repair).
	repairBeat, repairRegionBeat = 1.0, 3.0
	// Heartbeats of a node: what changed, and everything (geo/announcer.go).
	announceBeat, announceAll = 0.3, 60.0
	// A peer that is idle is pinged a second after it was last heard, less up
	// to a quarter (node/liveness); and all are asked for their time
	// (node/skew.go).
	pingBeat, skewBeat = 1.0 - 0.25/2, 2.0

	// A pump gathers updates so long for each node of the region, within
	// bounds, or until a message is full, in bytes (geo/pump.go).
	lingerNode, lingerMin, lingerMax = 0.001, 0.010, 0.050
	flushBytes                       = 64 << 10
	// drainers of a region pull each other region's log (node/process).
	drainers = 2
	// natsServers of a region keep its log; nodes connect to them as clients.
	// Two servers of a region share a pool of three routes and one for the
	// system account (nats-server's default).
	natsServers, routesPerPair = 3, 4
	// retention of the log (geo/jetstream).
	logRetention = 72 * 3600.0
	// memtables in memory and on the disk under load (badgerstore).
	memtables = 4
	// queues bounds the committer's queue and the outbox, in bytes
	// (node/storage, node/replica).
	queues = 64<<20 + 16<<20
	// connections between two nodes: a pair for each direction, one for small
	// and one for large messages (grpcpeer).
	connectionsPerPeer = 4
)

// What is assumed, and not read from anywhere: how long the last owner of a
// region has a write later than the first one, and how much longer a write
// takes to another region than half a round trip and the pump's pause.
const (
	ownerSpread  = 0.005
	regionSpread = 0.010
)
