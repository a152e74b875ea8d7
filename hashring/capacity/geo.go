package capacity

import "math"

// Geo is what passes between regions; all of it is 0 where there is one.
type Geo struct {
	// EntryBytes is a write in the log, MessageEntries how many share a
	// message, Messages how many messages a second a region publishes.
	EntryBytes     float64 `json:"entry_bytes"`
	MessageEntries float64 `json:"entries_per_message"`
	Messages       float64 `json:"messages_per_second"`
	// StreamBytes a second and day in a region's log, each kept on every NATS
	// server; LogSeconds is how long the log reaches back.
	StreamBytes  float64 `json:"stream_bytes_per_second"`
	StreamPerDay float64 `json:"stream_bytes_per_day"`
	LogSeconds   float64 `json:"log_reaches_back_seconds"`
	// Heartbeats, in bytes a second from one region to one other: idle, and
	// under the given load.
	HeartbeatsIdle   float64 `json:"link_heartbeats_idle_bytes_per_second"`
	HeartbeatsLoaded float64 `json:"link_heartbeats_loaded_bytes_per_second"`
	// LinkBytes a second from one region to one other, all told; WANBytes from
	// one region to all others.
	LinkBytes float64 `json:"link_bytes_per_second"`
	WANBytes  float64 `json:"wan_bytes_per_second"`
}

// NATS is the connections of a region's servers.
type NATS struct {
	Servers int `json:"servers"`
	// Clients of all servers together: the region's nodes, and those of other
	// regions that pull. Routes join the servers.
	Clients int `json:"clients"`
	Routes  int `json:"routes"`
	// Pulls is how many connections to other regions each of the region's
	// pullers keeps.
	Pulls   int `json:"pulls"`
	Pullers int `json:"pullers"`
}

func (in Input) nats() NATS {
	n := NATS{Servers: 1, Pullers: min(drainers, in.Nodes), Pulls: in.others()}
	if in.Nodes >= natsServers {
		n.Servers = natsServers
	}
	n.Clients = in.Nodes + n.Pullers*in.others()
	n.Routes = routesPerPair * n.Servers * (n.Servers - 1) / 2
	if in.others() == 0 {
		n.Pullers = 0
	}
	return n
}

// linger is how long a pump gathers, in seconds.
func (in Input) linger() float64 {
	return min(max(float64(in.Nodes)*lingerNode, lingerMin), lingerMax)
}

// shipped is a write in a message of the log: partition, key, record, and the
// one dot that it delivers.
func (in Input) shipped() float64 {
	dot := 1 + uvarint(maxActor(in.Nodes, in.Incarnations)) + uvarint(in.counter())
	return partitionVarint(in.Partitions) + in.entryBytes() - 1 + dot + in.requestOnWire()
}

func (in Input) geo(r Ring, c Clocks, rep Repair) Geo {
	if in.others() == 0 {
		return Geo{}
	}
	g := Geo{EntryBytes: in.shipped()}
	// A node ships what it minted, after the pause or when a message is full.
	each := in.WriteRate / float64(in.Nodes)
	g.MessageEntries = max(1, min(each*in.linger(), math.Ceil(flushBytes/g.EntryBytes)))
	g.Messages = in.WriteRate / g.MessageEntries
	g.StreamBytes = in.WriteRate*g.EntryBytes + g.Messages*(batchFixed+messageFixed)
	g.StreamPerDay = g.StreamBytes * day
	g.LogSeconds = logRetention
	if g.StreamBytes > 0 {
		g.LogSeconds = min(logRetention, in.LogBytes/g.StreamBytes)
	}
	g.HeartbeatsIdle = in.heartbeats(r, c, 0)
	g.HeartbeatsLoaded = in.heartbeats(r, c, in.arriving())
	g.LinkBytes = g.StreamBytes + g.Messages*ackBytes + g.HeartbeatsLoaded +
		rep.FarLoadedBytes*float64(in.Nodes)/float64(in.others())
	g.WANBytes = g.LinkBytes * float64(in.others())
	return g
}

// heartbeats on one link, in bytes a second, when each partition gets so many
// writes a second, of all regions: each node tells each puller which dots are new,
// and from time to time all.
func (in Input) heartbeats(r Ring, c Clocks, rate float64) float64 {
	owned := float64(r.OwnedMax)
	// In each region one owner mints, as a rule.
	actors := float64(in.Regions) * chance(rate/float64(in.Regions), announceBeat)
	changed := heartbeatFixed + heartbeatFrame + owned*(heartbeatBytes(chance(rate, announceBeat), clockFixed, in.Partitions)-heartbeatFixed+
		actors*newDotsBytes(maxActor(in.Nodes, in.Incarnations), in.counter()/float64(in.copies())))
	all := heartbeatBytes(owned, c.WireBytes, in.Partitions) - heartbeatFixed
	return float64(min(drainers, in.Nodes)*in.Nodes) * (changed/announceBeat + all/announceAll)
}
